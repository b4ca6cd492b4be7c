package termindex

import (
	"encoding/binary"
	"math/bits"
)

// Bits are packed from the least significant one of each byte on.

type bitWriter struct {
	buf []byte
	acc uint64
	n   uint // bits in acc, at most 7 between calls
}

// put writes the low bits of v; at most 56.
func (w *bitWriter) put(v uint64, width uint) {
	w.acc |= v << w.n
	for w.n += width; w.n >= 8; w.n -= 8 {
		w.buf = append(w.buf, byte(w.acc))
		w.acc >>= 8
	}
}

// end fills the last byte up.
func (w *bitWriter) end() {
	if w.n > 0 {
		w.buf = append(w.buf, byte(w.acc))
	}
	w.acc, w.n = 0, 0
}

// escape is the quotient from which rice writes the number itself.
const escape = 24

// rice writes v as quotient by 2^k (that many zeros, then a one) and remainder (k bits).
func (w *bitWriter) rice(v uint32, k uint) {
	if q := v >> k; q < escape {
		w.put(1<<q, uint(q)+1)
		w.put(uint64(v)&(1<<k-1), k)
		return
	}
	w.put(1<<escape, escape+1)
	w.put(uint64(v), 32)
}

// gamma writes v ≥ 1 as Elias' gamma code: the number of its bits less one as zeros, a one, and the bits below the highest.
func (w *bitWriter) gamma(v uint32) {
	n := uint(bits.Len32(v)) - 1
	w.put(1<<n, n+1)
	w.put(uint64(v)&(1<<n-1), n)
}

type bitReader struct {
	data []byte
	pos  int // in bits; beyond the end everything reads as 0
}

// peek returns the next 57 bits or more.
func (r *bitReader) peek() uint64 {
	at := r.pos >> 3
	if at+8 <= len(r.data) {
		return binary.LittleEndian.Uint64(r.data[at:]) >> (r.pos & 7)
	}
	var last [8]byte
	if at < len(r.data) {
		copy(last[:], r.data[at:])
	}
	return binary.LittleEndian.Uint64(last[:]) >> (r.pos & 7)
}

func (r *bitReader) get(width uint) uint32 {
	v := r.peek() & (1<<width - 1)
	r.pos += int(width)
	return uint32(v)
}

func (r *bitReader) rice(k uint) uint32 {
	q := uint(bits.TrailingZeros64(r.peek() | 1<<escape))
	r.pos += int(q) + 1
	if q == escape {
		return r.get(32)
	}
	return uint32(q)<<k | r.get(k)
}

func (r *bitReader) gamma() uint32 {
	n := uint(bits.TrailingZeros64(r.peek() | 1<<31))
	r.pos += int(n) + 1
	return 1<<n | r.get(n)
}

// over says whether more was read than there is.
func (r *bitReader) over() bool { return r.pos > 8*len(r.data) }
