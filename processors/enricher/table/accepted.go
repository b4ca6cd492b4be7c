package table

import (
	"encoding/binary"
	"iter"

	"github.com/maxviazov/audittrail/proto/event"
)

// AcceptedSize is the length of an encoded Accepted.
const AcceptedSize = 16 + 4 + 8 + EnrichmentSize

// EnrichmentSize is the length of what is kept of an enrichment (R6).
const EnrichmentSize = 16

// Accepted is one event that the message at last_offset added to the window. Encoded: id, index (uint32,
// big endian), fingerprint (uint64, big endian), enrichment.
type Accepted struct {
	ID          event.ID
	Index       uint32 // of the event in the message
	Fingerprint uint64
	Enrichment  [EnrichmentSize]byte // see package enricher
}

// AppendAccepted appends the encoded entry.
func AppendAccepted(dst []byte, a Accepted) []byte {
	dst = append(dst, a.ID[:]...)
	dst = binary.BigEndian.AppendUint32(dst, a.Index)
	dst = binary.BigEndian.AppendUint64(dst, a.Fingerprint)
	return append(dst, a.Enrichment[:]...)
}

// AllAccepted yields the entries of the field accepted. An incomplete one at the end is left out: to
// forget an entry is always safe.
func AllAccepted(field []byte) iter.Seq[Accepted] {
	return func(yield func(Accepted) bool) {
		for ; len(field) >= AcceptedSize; field = field[AcceptedSize:] {
			var a Accepted
			copy(a.ID[:], field)
			a.Index = binary.BigEndian.Uint32(field[16:])
			a.Fingerprint = binary.BigEndian.Uint64(field[20:])
			copy(a.Enrichment[:], field[28:])
			if !yield(a) {
				return
			}
		}
	}
}
