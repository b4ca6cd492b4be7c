package event_test

import (
	"bytes"
	"flag"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
)

var _ = flag.Set("rapid.checks", "2000")

// drawEvent makes events of few values, so that equal ones and nearly equal ones are frequent.
func drawEvent(t *rapid.T) *audittrailv1.Event {
	text := rapid.SampledFrom([]string{"", "a", "b", "ab"})
	s := func(label string) string { return text.Draw(t, label) }
	some := func(label string) bool { return rapid.IntRange(0, 4).Draw(t, label) == 4 }
	e := &audittrailv1.Event{Source: s("source"), IdempotencyKey: s("key"), Action: s("action"), Details: s("details"), ReasonCode: s("code"), Reason: s("reason"),
		Kind: audittrailv1.ActionKind(rapid.Int32Range(0, 2).Draw(t, "kind")), Outcome: audittrailv1.Outcome(rapid.Int32Range(0, 2).Draw(t, "outcome"))}
	if some("time") {
		e.OccurredAt = &timestamppb.Timestamp{Seconds: rapid.Int64Range(0, 1).Draw(t, "seconds"), Nanos: rapid.Int32Range(0, 1).Draw(t, "nanos")}
	}
	if some("actor") {
		e.Actor = &audittrailv1.Actor{Type: s("actor type"), Id: s("actor"), Session: s("session")}
		if some("on behalf") {
			e.Actor.OnBehalfOf = []*audittrailv1.ActorReference{{Type: s("behalf type"), Id: s("behalf")}}
		}
	}
	for range rapid.IntRange(0, 2).Draw(t, "resources") {
		e.Resources = append(e.Resources, &audittrailv1.Resource{Type: s("resource type"), Id: s("resource")})
	}
	if some("change") {
		c := &audittrailv1.Change{Path: s("path")}
		if some("old") {
			c.Old = proto.String(s("old value"))
		}
		if some("new") {
			c.New = proto.String(s("new value"))
		}
		e.Changes = []*audittrailv1.Change{c}
	}
	if some("context") {
		e.Context = &audittrailv1.Context{Ip: s("ip"), TraceId: s("trace")}
	}
	e.Attributes = rapid.MapOfN(text, text, 0, 3).Draw(t, "attributes")
	return e
}

// TestCanonicalIsEquality (R6): two events have the same canonical form exactly when protobuf calls them equal, and so have the same fingerprint exactly
// then; the form reads back as the event; and another encoding, with the emitter's stamps, has the same one.
func TestCanonicalIsEquality(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawEvent(t), drawEvent(t)
		if rapid.Bool().Draw(t, "nearly the same") { // one field of the other, or none that differs
			near := proto.CloneOf(a)
			fields := b.ProtoReflect().Descriptor().Fields()
			f := fields.ByNumber(rapid.SampledFrom([]protoreflect.FieldNumber{2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}).Draw(t, "field"))
			near.ProtoReflect().Clear(f)
			if b.ProtoReflect().Has(f) {
				near.ProtoReflect().Set(f, b.ProtoReflect().Get(f))
			}
			b = near
		}
		formA, formB := event.Canonical(nil, a), event.Canonical([]byte("x"), b)[1:]
		shortA, fullA := event.Fingerprint(a)
		shortB, fullB := event.Fingerprint(b)
		equal := proto.Equal(a, b)
		if bytes.Equal(formA, formB) != equal || (fullA == fullB) != equal || (shortA == shortB) != equal {
			t.Fatalf("equal: %v; forms %x and %x", equal, formA, formB)
		}
		back := &audittrailv1.Event{}
		if err := proto.Unmarshal(formA[1:], back); err != nil || !proto.Equal(a, back) {
			t.Fatalf("reads back as %v, %v", back, err)
		}
		raw, err := proto.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		again := &audittrailv1.Event{}
		if err := again.UnmarshalVT(event.AppendEmitterStamps(raw, now, "p")); err != nil {
			t.Fatal(err)
		}
		if _, full := event.Fingerprint(again); full != fullA {
			t.Fatalf("encoded again and stamped it is other content: %v", again)
		}
	})
}

// TestIDsAreIdentity: two events have the same id exactly when source, key and millisecond are the same, ids stand in the order of time, and text and
// time read back.
func TestIDsAreIdentity(t *testing.T) {
	text := rapid.SampledFrom([]string{"", "a", "b", "ab", "ba"})
	nanos := rapid.Int64Range(1_800_000_000_000_000_000, 1_800_000_000_003_000_000)
	rapid.Check(t, func(t *rapid.T) {
		type what struct {
			source, key string
			ms          int64
		}
		draw := func(label string) (what, event.ID) {
			at := time.Unix(0, nanos.Draw(t, label+" at"))
			w := what{text.Draw(t, label+" source"), text.Draw(t, label+" key"), at.UnixMilli()}
			return w, event.NewID(w.source, w.key, at)
		}
		a, idA := draw("a")
		b, idB := draw("b")
		if (a == b) != (idA == idB) {
			t.Fatalf("%+v is %s, %+v is %s", a, idA, b, idB)
		}
		if a.ms != b.ms && (a.ms < b.ms) != (idA.Compare(idB) < 0) {
			t.Fatalf("%s and %s are not in the order of %d and %d", idA, idB, a.ms, b.ms)
		}
		if back, err := event.ParseID(idA.String()); err != nil || back != idA || idA.Time().UnixMilli() != a.ms {
			t.Fatalf("%s reads back as %s of %v, %v", idA, back, back.Time(), err)
		}
	})
}
