package segment

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
)

const (
	// BundleSize is the number of entries in a bundle: entry i of a log is entry i % BundleSize of bundle i / BundleSize.
	BundleSize = 256
	// MaxPayload is the greatest length of a payload in bytes.
	MaxPayload = 65_534
	// HashSize is the length of a leaf hash.
	HashSize = sha256.Size

	frameHeader = 3 // length and kind
)

// Kind says what an entry is.
type Kind uint8

const (
	// KindRecord is an event: the payload is the record, an encoded audittrail.v1.Event with its stamps.
	KindRecord Kind = 1
	// KindGap declares slots of the input lost: the payload is a [Gap].
	KindGap Kind = 2
	// KindDeadLetter stands for something that could not be processed: the payload is a [DeadLetter].
	KindDeadLetter Kind = 3
	// KindRedacted stands where something was removed by law: the payload is the leaf hash of what stood there.
	KindRedacted Kind = 4
)

func (k Kind) String() string {
	switch k {
	case KindRecord:
		return "record"
	case KindGap:
		return "gap"
	case KindDeadLetter:
		return "dead letter"
	case KindRedacted:
		return "redacted"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Entry is one entry of a log. Payload often points into a buffer shared by the entries of a bundle.
type Entry struct {
	Kind    Kind
	Payload []byte
}

// AppendEntry appends the frame of an entry. A payload over MaxPayload is a mistake of the caller, who must have looked, and panics.
func AppendEntry(dst []byte, kind Kind, payload []byte) []byte {
	if len(payload) > MaxPayload {
		panic(fmt.Sprintf("segment: payload of %d bytes", len(payload)))
	}
	dst = binary.BigEndian.AppendUint16(dst, uint16(1+len(payload)))
	dst = append(dst, byte(kind))
	return append(dst, payload...)
}

// Hasher computes leaf hashes without allocating. The zero value is ready; not for concurrent use.
type Hasher struct {
	sha    hash.Hash
	prefix [2]byte
}

// AppendLeaf appends the 32 bytes of the leaf hash of an entry.
func (h *Hasher) AppendLeaf(dst []byte, kind Kind, payload []byte) []byte {
	if kind == KindRedacted && len(payload) == HashSize {
		return append(dst, payload...)
	}
	if h.sha == nil {
		h.sha = sha256.New()
	}
	h.sha.Reset()
	h.prefix[1] = byte(kind)
	h.sha.Write(h.prefix[:])
	h.sha.Write(payload)
	return h.sha.Sum(dst)
}

// LeafHash is the leaf hash of one entry.
func LeafHash(e Entry) (sum [HashSize]byte) {
	var h Hasher
	h.AppendLeaf(sum[:0], e.Kind, e.Payload)
	return sum
}
