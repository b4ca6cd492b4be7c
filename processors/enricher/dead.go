package enricher

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	pipelinev1 "github.com/maxviazov/audittrail/proto/audittrail/pipeline/v1"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
)

const (
	maxOriginal  = 64 << 10 // bytes of the original that a dead letter keeps
	maxDetail    = 1 << 10  // bytes of its detail
	maxPrincipal = 1 << 10  // bytes of the emitter's stamp principal; the emitter keeps to it, raw producers must
)

// refuse returns why an event that was decoded is a dead letter, or "". The enricher checks every limit
// again: there are producers that do without the emitter (R9).
func (d *decider) refuse(e *audittrailv1.Event, encoded int) (reason, detail string) {
	if e.Source != d.m.key {
		return event.ReasonWrongSource, clean(fmt.Sprintf("source is %q; the key of the message is another", cut(e.Source, event.MaxSource)))
	}
	switch {
	case e.Enrichment != nil:
		return event.ReasonUnexpectedEnrichment, "enrichment is set by the enricher only"
	case e.Id != "":
		return event.ReasonUnexpectedEnrichment, "id is derived, never sent"
	case e.Position != nil:
		return event.ReasonUnexpectedEnrichment, "position is set when an event is read"
	}
	violations := checkStamps(e)
	if encoded > event.MaxEncoded {
		stamps := audittrailv1.Event{ReceivedAt: e.ReceivedAt, Principal: e.Principal}
		encoded -= stamps.SizeVT()
	}
	violations = append(violations, event.Validate(e, encoded, event.Bounds{Now: d.receipt(e), MaxFuture: d.maxFuture, Complete: true})...)
	if len(violations) == 0 {
		return "", ""
	}
	d.keyValid = d.keyValid || len(event.ValidateSource(e.Source)) == 0
	var b strings.Builder
	for i, v := range violations {
		if i > 0 {
			b.WriteString("; ")
		}
		if v.Field != "" {
			b.WriteString(v.Field + " ")
		}
		b.WriteString(v.Description)
	}
	return event.ReasonInvalidEvent, clean(b.String())
}

// maxReceivedAhead is how far the emitter's stamp may be ahead of the time of append and count; the sink refuses what is 31 days ahead.
const maxReceivedAhead = 30 * 24 * time.Hour

// receipt is the time against which occurred_at is held: the later of the broker's append and the emitter's stamp, which is as trustworthy as
// the write ACL on the topic. The emitter has validated against its stamp and acknowledged; a broker whose clock is behind must not make a dead letter
// of that. Both times are the message's, so a replay decides the same.
func (d *decider) receipt(e *audittrailv1.Event) time.Time {
	at := d.m.ingestedAt
	if e.ReceivedAt == nil || e.ReceivedAt.CheckValid() != nil {
		return at
	}
	received, limit := e.ReceivedAt.AsTime(), at.Add(maxReceivedAhead)
	switch {
	case received.Before(at):
		return at
	case received.After(limit):
		return limit
	}
	return received
}

// checkStamps checks what the emitter appended, which becomes part of the record.
func checkStamps(e *audittrailv1.Event) []event.Violation {
	var v []event.Violation
	if e.ReceivedAt != nil && e.ReceivedAt.CheckValid() != nil {
		v = append(v, event.Violation{Field: "received_at", Description: "is not a valid timestamp"})
	}
	if len(e.Principal) > maxPrincipal {
		v = append(v, event.Violation{Field: "principal", Description: fmt.Sprintf("takes %d bytes; at most %d", len(e.Principal), maxPrincipal)})
	} else if !utf8.ValidString(e.Principal) {
		v = append(v, event.Violation{Field: "principal", Description: "is not valid UTF-8"})
	}
	return v
}

func (d *decider) deadEvent(index uint32, raw []byte, reason, detail string) {
	d.fold.state.DeadLetters++
	d.dead(index, raw, reason, detail)
}

// deadWhole makes the message one dead letter. No state counts it: its key may not be a source.
func (d *decider) deadWhole(reason, detail string) {
	d.dead(0, d.m.value, reason, detail).WholeMessage = true
}

func (d *decider) dead(index uint32, original []byte, reason, detail string) *pipelinev1.DeadLetter {
	sum := sha256.Sum256(original)
	letter := &pipelinev1.DeadLetter{
		Index:          index,
		Reason:         reason,
		Detail:         detail,
		Original:       original[:min(len(original), maxOriginal)],
		OriginalSize:   int64(len(original)),
		OriginalSha256: sum[:],
		Key:            []byte(outputKey(d.m.key)),
	}
	d.out.dead = append(d.out.dead, letter)
	return letter
}

// outputKey is the key that outputs carry. One that no source can have is cut, so that outputs keep their size.
func outputKey(key string) string { return key[:min(len(key), event.MaxSource)] }

// clean makes text fit for a dead letter's detail.
func clean(s string) string { return strings.ToValidUTF8(cut(s, maxDetail), "�") }

func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "…"
}
