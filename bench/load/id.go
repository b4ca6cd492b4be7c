package load

import (
	"crypto/sha256"
	"encoding/binary"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// ID derives the id of an event from the description in event.proto, not with the service's code.
func ID(e *audittrailv1.Event) (id [16]byte) {
	h := sha256.New()
	for _, s := range []string{e.GetSource(), e.GetIdempotencyKey()} {
		_ = binary.Write(h, binary.BigEndian, uint32(len(s)))
		h.Write([]byte(s))
	}
	sum := h.Sum(nil)
	binary.BigEndian.PutUint64(id[:8], uint64(e.GetOccurredAt().AsTime().UnixMilli())<<16)
	copy(id[6:], sum[:10])
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id
}
