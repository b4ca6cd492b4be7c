package termindex

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// A block is
//
//	version (1 byte), k (1 byte), number of groups (2 bytes, big endian), then bits: for each hash, ascending,
//	  less the hash before (of the first: less the block's first_hash), as a Rice code with k;
//	  the number of its ordinals, as a gamma code;
//	  one ordinal: as many bits as the greatest of the run needs; several: the number of ordinals left out before each, as a Rice code with
//	  the parameter gapBits(segments of the run, number of ordinals)
const (
	version     = 1
	blockHeader = 4
	// blockSize: with it four rows fill a page, and none goes out of line.
	blockSize = 1960
	maxGroups = 1<<16 - 1
)

// Hash is the part of a term that runs hold.
func Hash(term uint64) uint32 { return uint32(term >> 32) }

// ErrMalformed: the bytes are not what a Writer wrote, or a newer program wrote them.
var ErrMalformed = errors.New("malformed term block")

// gapBits is the parameter for the gaps between n of s ordinals.
func gapBits(s, n uint32) uint { return uint(bits.Len32(s/n)) - 1 }

// ordinalBits is the width of one of s ordinals.
func ordinalBits(s uint32) uint { return uint(bits.Len32(s - 1)) }

// Writer cuts a run into blocks. Fields are set before the first Add.
type Writer struct {
	// Segments is the number of segments in the run, at least 1.
	Segments uint32
	// Hashes is about how many different hashes will come; it only decides how small the blocks get.
	Hashes int
	// Block takes each block; data is used again.
	Block func(first uint32, data []byte) error
	// Pairs and Bytes count what was written.
	Pairs, Bytes int64

	bits        bitWriter
	groups      int
	k           uint
	first, last uint32
}

// Add adds the ordinals of one hash, which are ascending and at least one. Hashes are ascending.
func (w *Writer) Add(hash uint32, ordinals []uint32) error {
	w.Pairs += int64(len(ordinals))
	if w.groups > 0 {
		mark, n, acc := len(w.bits.buf), w.bits.n, w.bits.acc
		w.group(hash, ordinals)
		if len(w.bits.buf) < blockSize && w.groups < maxGroups {
			return nil
		}
		w.bits.buf, w.bits.n, w.bits.acc = w.bits.buf[:mark], n, acc
		w.groups--
		if err := w.End(); err != nil {
			return err
		}
	}
	if w.k = uint(bits.Len64((1<<32-1)/uint64(max(w.Hashes, 1)))) - 1; w.k > 0 {
		w.k-- // the mean of an exponential distribution is 1.44 times its median
	}
	w.bits.buf = append(w.bits.buf[:0], version, byte(w.k), 0, 0)
	w.first, w.last = hash, hash
	w.group(hash, ordinals)
	return nil
}

func (w *Writer) group(hash uint32, ordinals []uint32) {
	w.groups++
	w.bits.rice(hash-w.last, w.k)
	w.last = hash
	n := uint32(len(ordinals))
	w.bits.gamma(n)
	if n == 1 {
		w.bits.put(uint64(ordinals[0]), ordinalBits(w.Segments))
		return
	}
	k, next := gapBits(w.Segments, n), uint32(0)
	for _, o := range ordinals {
		w.bits.rice(o-next, k)
		next = o + 1
	}
}

// End writes the block that is open, if there is one.
func (w *Writer) End() error {
	if w.groups == 0 {
		return nil
	}
	w.bits.end()
	binary.BigEndian.PutUint16(w.bits.buf[2:], uint16(w.groups))
	w.groups = 0
	w.Bytes += int64(len(w.bits.buf))
	return w.Block(w.first, w.bits.buf)
}

// Groups reads a block.
type Groups struct {
	// Hash and Ordinals are the current group; the latter are used again by Next.
	Hash     uint32
	Ordinals []uint32

	bits     bitReader
	left     int
	k        uint
	segments uint32
	err      error
}

// Reset begins with the block of a run of so many segments.
func (g *Groups) Reset(first uint32, data []byte, segments uint32) {
	*g = Groups{Hash: first, Ordinals: g.Ordinals[:0], segments: segments}
	if len(data) < blockHeader || data[0] != version || data[1] > 31 || segments == 0 {
		g.err = fmt.Errorf("%w: unknown version", ErrMalformed)
		return
	}
	g.k, g.left = uint(data[1]), int(binary.BigEndian.Uint16(data[2:]))
	g.bits.data = data[blockHeader:]
}

// Next goes to the next group. It is false at the end, and when the block is malformed, see Err.
func (g *Groups) Next() bool {
	if g.left == 0 || g.err != nil {
		return false
	}
	g.left--
	g.Hash += g.bits.rice(g.k)
	n := g.bits.gamma()
	if n > g.segments || g.bits.over() {
		return g.malformed()
	}
	g.Ordinals = g.Ordinals[:0]
	if n == 1 {
		g.Ordinals = append(g.Ordinals, g.bits.get(ordinalBits(g.segments)))
	} else {
		k, next := gapBits(g.segments, n), uint32(0)
		for range n {
			o := next + g.bits.rice(k)
			if o < next || o >= g.segments {
				return g.malformed()
			}
			g.Ordinals = append(g.Ordinals, o)
			next = o + 1
		}
	}
	if g.Ordinals[len(g.Ordinals)-1] >= g.segments || g.bits.over() {
		return g.malformed()
	}
	return true
}

func (g *Groups) malformed() bool {
	g.err = fmt.Errorf("%w: a group is not of this run", ErrMalformed)
	return false
}

// Find goes to the group of a hash, if the block has it.
func (g *Groups) Find(hash uint32) bool {
	for g.Next() {
		if g.Hash >= hash {
			return g.Hash == hash
		}
	}
	return false
}

// Err says why Next was false; nil at the end.
func (g *Groups) Err() error { return g.err }
