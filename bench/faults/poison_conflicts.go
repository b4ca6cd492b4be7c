package faults

import (
	"google.golang.org/protobuf/proto"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// conflicts: the same source, key and time with other content is a dead letter at its own place; the first content stays (R16).
// The same content again is a retry and is dropped.
func (b *badInput) conflicts(t *T) {
	source := "bad/conflict/prod"
	key := []byte(source)
	other := func(e *audittrailv1.Event) *audittrailv1.Event {
		o := proto.CloneOf(e)
		o.Reason = "something else"
		return o
	}
	// Within one message: first, the same again, another, and that other once more.
	first := b.event(source)
	b.store(t, first)
	raw, rawOther := encode(t, first), encode(t, other(first))
	r := b.raw(t, key, envelope(t, raw, raw, rawOther, rawOther))
	b.expect(r, letter{reason: "CONFLICT", index: 2, original: rawOther})
	b.expect(r, letter{reason: "CONFLICT", index: 3, original: rawOther})
	// Beyond one message, at once and after it was stored.
	b.expect(b.raw(t, key, rawOther), letter{reason: "CONFLICT", original: rawOther})
	b.settled(t)
	b.raw(t, key, raw)
	b.expect(b.raw(t, key, rawOther), letter{reason: "CONFLICT", original: rawOther})
	// Through the front door both are acknowledged: the second one is accounted for as a dead letter.
	front := b.event(source)
	for i, e := range []*audittrailv1.Event{front, front, other(front)} {
		response, err := b.emitter.EmitEvent(t.Context(), &audittrailv1.EmitEventRequest{Event: e})
		if err != nil {
			t.Fatal(err)
		}
		switch i {
		case 0:
			b.acked(t, e, response.GetId())
		case 2:
			b.expected = append(b.expected, letter{partition: -1, reason: "CONFLICT", key: key, event: e})
		}
	}
}
