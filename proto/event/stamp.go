package event

import (
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// Numbers of the fields that AuditTrail appends.
const (
	fieldReceivedAt = 20
	fieldPrincipal  = 21
	fieldEnrichment = 22
)

// ClearOutputOnly removes what only AuditTrail may say. protobuf merges a field that stands twice, so
// what a producer wrote there must be gone before stamps are appended.
func ClearOutputOnly(e *audittrailv1.Event) {
	e.Id = ""
	e.ReceivedAt = nil
	e.Principal = ""
	e.Enrichment = nil
	e.Position = nil
}

// AppendEmitterStamps appends received_at and principal to an encoded event that has neither.
func AppendEmitterStamps(encoded []byte, receivedAt time.Time, principal string) []byte {
	b := message(encoded, fieldReceivedAt, func(b []byte) []byte {
		b = varint(b, 1, uint64(receivedAt.Unix()))
		return varint(b, 2, uint64(receivedAt.Nanosecond()))
	})
	return str(b, fieldPrincipal, principal)
}

// AppendEnrichment appends the enricher's stamp to an encoded event that has none.
func AppendEnrichment(encoded []byte, e *audittrailv1.Enrichment) ([]byte, error) {
	n := e.SizeVT()
	b := protowire.AppendTag(encoded, fieldEnrichment, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(n))
	at := len(b)
	b = append(b, make([]byte, n)...)
	if _, err := e.MarshalToSizedBufferVT(b[at:]); err != nil {
		return nil, err
	}
	return b, nil
}
