package event

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/google/uuid"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// ID is the identity of an event: 16 bytes shaped like UUIDv7 (RFC 9562, section 5.7). Ids order by
// occurred_at in milliseconds.
type ID [16]byte

// NewID derives the id of an event: 48 bits of occurredAt in milliseconds (floor), then, around the
// version and variant bits, SHA-256 of source and key, each preceded by its length as 4 bytes, big
// endian. Times that validation refuses (before 1970, after the year 10889) give an id that only
// wraps around.
func NewID(source, key string, occurredAt time.Time) ID {
	var buf [4 + MaxSource + 4 + MaxIdempotencyKey]byte
	b := binary.BigEndian.AppendUint32(buf[:0], uint32(len(source)))
	b = append(b, source...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(key)))
	b = append(b, key...)
	sum := sha256.Sum256(b)

	var id ID
	ms := uint64(occurredAt.UnixMilli()) // UnixMilli floors
	id[0], id[1], id[2] = byte(ms>>40), byte(ms>>32), byte(ms>>24)
	id[3], id[4], id[5] = byte(ms>>16), byte(ms>>8), byte(ms)
	copy(id[6:], sum[:10])
	id[6] = id[6]&0x0f | 0x70 // version 7
	id[8] = id[8]&0x3f | 0x80 // variant 10
	return id
}

// IDOf derives the id of e from its source, key and time.
func IDOf(e *audittrailv1.Event) ID {
	return NewID(e.GetSource(), e.GetIdempotencyKey(), e.GetOccurredAt().AsTime())
}

// LowerBound is the smallest id of an event that happened at t or later.
func LowerBound(t time.Time) ID {
	var id ID
	ms := uint64(t.UnixMilli())
	id[0], id[1], id[2] = byte(ms>>40), byte(ms>>32), byte(ms>>24)
	id[3], id[4], id[5] = byte(ms>>16), byte(ms>>8), byte(ms)
	return id
}

// ParseID reads the canonical text form.
func ParseID(s string) (ID, error) {
	if len(s) != 36 { // the library also takes urn:, braces and the form without hyphens
		return ID{}, fmt.Errorf("%q is not a UUID of 36 characters", clip(s, 48))
	}
	u, err := uuid.Parse(s)
	if err != nil {
		return ID{}, fmt.Errorf("%q is not a UUID", clip(s, 48))
	}
	return ID(u), nil
}

// String is the canonical text form.
func (id ID) String() string { return uuid.UUID(id).String() }

// Time is the time of occurrence, in whole milliseconds, UTC.
func (id ID) Time() time.Time {
	var ms uint64
	for _, b := range id[:6] {
		ms = ms<<8 | uint64(b)
	}
	return time.UnixMilli(int64(ms)).UTC()
}

// Compare orders ids as PostgreSQL orders uuid: by their bytes.
func (id ID) Compare(other ID) int { return bytes.Compare(id[:], other[:]) }

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "…"
}
