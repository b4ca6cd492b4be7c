package segment

import (
	"encoding/binary"
	"fmt"
)

// GapReason says why slots were declared lost.
type GapReason uint8

const (
	// GapExpiredInput: the input log no longer held them when they were missed (R13).
	GapExpiredInput GapReason = 1
	// GapDropWithoutFirstCopy: dropped as a duplicate of a slot that was never stored (R14).
	GapDropWithoutFirstCopy GapReason = 2
)

func (r GapReason) String() string {
	switch r {
	case GapExpiredInput:
		return "EXPIRED_INPUT"
	case GapDropWithoutFirstCopy:
		return "DROP_WITHOUT_FIRST_COPY"
	}
	return fmt.Sprintf("REASON_%d", uint8(r))
}

const gapSize = 25

// Gap is the payload of KindGap: slots [From, End) of audit-events. A slot is (offset, index of the event in the message).
// Encoded: offset int64, index uint32, of From and of End, then the reason, 1 byte; big endian, 25 bytes.
type Gap struct {
	FromOffset int64
	FromIndex  uint32
	EndOffset  int64
	EndIndex   uint32
	Reason     GapReason
}

// Append appends the encoded gap.
func (g Gap) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(g.FromOffset))
	dst = binary.BigEndian.AppendUint32(dst, g.FromIndex)
	dst = binary.BigEndian.AppendUint64(dst, uint64(g.EndOffset))
	dst = binary.BigEndian.AppendUint32(dst, g.EndIndex)
	return append(dst, byte(g.Reason))
}

// ParseGap decodes the payload of a gap.
func ParseGap(payload []byte) (Gap, error) {
	if len(payload) != gapSize {
		return Gap{}, fmt.Errorf("%w: gap of %d bytes", ErrMalformed, len(payload))
	}
	return Gap{
		FromOffset: int64(binary.BigEndian.Uint64(payload)),
		FromIndex:  binary.BigEndian.Uint32(payload[8:]),
		EndOffset:  int64(binary.BigEndian.Uint64(payload[12:])),
		EndIndex:   binary.BigEndian.Uint32(payload[20:]),
		Reason:     GapReason(payload[24]),
	}, nil
}

// DeadLetter is the payload of KindDeadLetter: which slot, why, and the hash of the whole original, whose bytes are in the table
// `deadletters`. Encoded: offset int64, index uint32, length of the reason uint8, reason, SHA-256; big endian.
type DeadLetter struct {
	Offset int64
	Index  uint32
	Reason string // a stable code, at most 255 bytes
	SHA256 [HashSize]byte
}

// Append appends the encoded dead letter. A longer reason is cut.
func (d DeadLetter) Append(dst []byte) []byte {
	reason := d.Reason[:min(len(d.Reason), 255)]
	dst = binary.BigEndian.AppendUint64(dst, uint64(d.Offset))
	dst = binary.BigEndian.AppendUint32(dst, d.Index)
	dst = append(dst, byte(len(reason)))
	dst = append(dst, reason...)
	return append(dst, d.SHA256[:]...)
}

// ParseDeadLetter decodes the payload of a dead letter.
func ParseDeadLetter(payload []byte) (DeadLetter, error) {
	if len(payload) < 13 || len(payload) != 13+int(payload[12])+HashSize {
		return DeadLetter{}, fmt.Errorf("%w: dead letter of %d bytes", ErrMalformed, len(payload))
	}
	n := 13 + int(payload[12])
	return DeadLetter{
		Offset: int64(binary.BigEndian.Uint64(payload)),
		Index:  binary.BigEndian.Uint32(payload[8:]),
		Reason: string(payload[13:n]),
		SHA256: [HashSize]byte(payload[n:]),
	}, nil
}
