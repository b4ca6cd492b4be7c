package sink

import (
	"crypto/sha256"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	pipelinev1 "github.com/maxviazov/audittrail/proto/audittrail/pipeline/v1"
	"github.com/maxviazov/audittrail/proto/segment"
)

// ReasonOtherTopic is the reason of a dead letter of the sink: an output for an `audit-events` that was replaced (`audittrail topics accept-new`)
// before it was stored. To be re-driven.
const ReasonOtherTopic = "OTHER_TOPIC"

// maxOriginal is how much of an original is kept.
const maxOriginal = 64 << 10

// fieldEnrichment is the field that the enricher appends to an event.
const fieldEnrichment = 22

// deadDecision is a dead letter on its way to the log, the table and the topic.
type deadDecision struct {
	letter *pipelinev1.DeadLetter
}

// kill makes a dead letter of a record, at its place in the log.
func (d *decision) kill(reason, detail string) {
	original := withoutEnrichment(d.record())
	sum := sha256.Sum256(original)
	d.verdict = killed
	d.dead = &deadDecision{letter: &pipelinev1.DeadLetter{
		Index: d.slot.index, Reason: reason, Detail: detail, Original: original[:min(len(original), maxOriginal)],
		OriginalSize: int64(len(original)), OriginalSha256: sum[:], Key: d.item.output.Key,
	}}
}

// withoutEnrichment undoes what the enricher appended, so that the original can be sent through `audit-events` again. What is not protobuf stays
// as it is.
func withoutEnrichment(record []byte) []byte {
	out := make([]byte, 0, len(record))
	for rest := record; len(rest) > 0; {
		num, _, n := protowire.ConsumeField(rest)
		if n < 0 {
			return record
		}
		if num != fieldEnrichment {
			out = append(out, rest[:n]...)
		}
		rest = rest[n:]
	}
	return out
}

// entry is the payload of the dead letter's entry in the log.
func (x *deadDecision) entry(dst []byte, s slot) []byte {
	return segment.DeadLetter{Offset: s.offset, Index: s.index, Reason: x.letter.Reason, SHA256: [32]byte(x.letter.OriginalSha256)}.Append(dst)
}

// message is the value for the topic.
func (x *deadDecision) message(partition int32, s slot) *pipelinev1.DeadLetter {
	m := x.letter.CloneVT()
	m.Partition, m.Offset, m.Index = partition, s.offset, s.index
	return m
}

// text makes any bytes a value of a column of type text: PostgreSQL takes neither NUL nor invalid UTF-8. Only columns are changed, never records.
func text(s string) string {
	if utf8.ValidString(s) && !strings.ContainsRune(s, 0) {
		return s
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}
