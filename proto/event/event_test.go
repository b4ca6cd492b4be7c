package event_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func valid() *audittrailv1.Event {
	return &audittrailv1.Event{
		Source: "acme/payments/api", IdempotencyKey: "k-1", OccurredAt: timestamppb.New(now),
		Action: "order.create", Kind: audittrailv1.ActionKind_ACTION_KIND_CREATE, Outcome: audittrailv1.Outcome_OUTCOME_SUCCESS,
		Actor:      &audittrailv1.Actor{Type: "user", Id: "u-1", OnBehalfOf: []*audittrailv1.ActorReference{{Id: "u-2"}}},
		Resources:  []*audittrailv1.Resource{{Type: "order", Id: "4711"}},
		Changes:    []*audittrailv1.Change{{Path: "status", New: proto.String("new")}},
		Context:    &audittrailv1.Context{Ip: "192.0.2.1"},
		Attributes: map[string]string{"a": "1", "b": "2"},
		Details:    `{"a":1}`,
	}
}

// R6: an honest retry is the same content, however it was encoded.
func TestFingerprintIgnoresEncoding(t *testing.T) {
	e := valid()
	for i := range 64 {
		e.Attributes[strings.Repeat("k", i+1)] = "v"
	}
	want, full := event.Fingerprint(e)
	for range 50 { // protobuf's maps come out in another order each time
		b, err := proto.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		again := &audittrailv1.Event{}
		if err := again.UnmarshalVTUnsafe(b); err != nil {
			t.Fatal(err)
		}
		if got, gotFull := event.Fingerprint(again); got != want || gotFull != full {
			t.Fatalf("fingerprint %x, want %x", got, want)
		}
	}
	stamped := event.AppendEmitterStamps(mustMarshal(t, e), now, "spiffe://acme/api")
	stamped, err := event.AppendEnrichment(stamped, &audittrailv1.Enrichment{Owner: "team-a", ActorNew: true, SincePrevious: durationpb.New(time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	again := &audittrailv1.Event{}
	if err := again.UnmarshalVT(stamped); err != nil {
		t.Fatal(err)
	}
	if again.Principal != "spiffe://acme/api" || !again.ReceivedAt.AsTime().Equal(now) || again.Enrichment.Owner != "team-a" || !again.Enrichment.ActorNew {
		t.Fatalf("stamps got lost: %v", again)
	}
	if got, _ := event.Fingerprint(again); got != want {
		t.Fatal("stamps are part of the fingerprint")
	}
	event.ClearOutputOnly(again)
	if again.ReceivedAt != nil || again.Principal != "" || again.Enrichment != nil {
		t.Fatal("stamps are still there")
	}
}

func mustMarshal(t *testing.T, e *audittrailv1.Event) []byte {
	t.Helper()
	b, err := e.MarshalVT()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Every field that a producer sets must change the fingerprint, and the form must read back as the
// same event: a field added to the schema and forgotten here would let other content pass as a retry.
func TestCanonicalCoversEveryField(t *testing.T) {
	outputOnly := map[protoreflect.Name]bool{"id": true, "received_at": true, "principal": true, "enrichment": true, "position": true}
	var walk func(path string, m protoreflect.Message, root *audittrailv1.Event)
	walk = func(path string, m protoreflect.Message, root *audittrailv1.Event) {
		for i := range m.Descriptor().Fields().Len() {
			f := m.Descriptor().Fields().Get(i)
			if path == "" && outputOnly[f.Name()] {
				continue
			}
			before, _ := event.Fingerprint(root)
			switch {
			case f.IsMap():
				m.Mutable(f).Map().Set(protoreflect.ValueOfString("key").MapKey(), protoreflect.ValueOfString("value"))
			case f.IsList():
				walk(path+string(f.Name())+".", m.Mutable(f).List().AppendMutable().Message(), root)
			case f.Message() != nil:
				walk(path+string(f.Name())+".", m.Mutable(f).Message(), root)
			case f.Kind() == protoreflect.StringKind:
				m.Set(f, protoreflect.ValueOfString("x"))
			case f.Kind() == protoreflect.EnumKind:
				m.Set(f, protoreflect.ValueOfEnum(1))
			case f.Kind() == protoreflect.Int64Kind:
				m.Set(f, protoreflect.ValueOfInt64(7))
			case f.Kind() == protoreflect.Int32Kind:
				m.Set(f, protoreflect.ValueOfInt32(7))
			default:
				t.Fatalf("%s%s: the test does not know kind %s", path, f.Name(), f.Kind())
			}
			if after, _ := event.Fingerprint(root); after == before {
				t.Errorf("%s%s does not change the fingerprint", path, f.Name())
			}
		}
		before, _ := event.Fingerprint(root)
		m.SetUnknown(protowire.AppendString(protowire.AppendTag(nil, 999, protowire.BytesType), "from a later version"))
		if after, _ := event.Fingerprint(root); after == before {
			t.Errorf("unknown fields of %q do not change the fingerprint", path)
		}
	}
	e := &audittrailv1.Event{}
	walk("", e.ProtoReflect(), e)

	back := &audittrailv1.Event{}
	canonical := event.Canonical(nil, e)
	if canonical[0] != event.CanonicalVersion {
		t.Fatalf("version %d", canonical[0])
	}
	if err := proto.Unmarshal(canonical[1:], back); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(e, back) {
		t.Fatalf("the canonical form reads back as\n%v\nwant\n%v", back, e)
	}
}

func TestIDs(t *testing.T) {
	e := valid()
	id := event.IDOf(e)
	if id[6]>>4 != 7 || id[8]>>6 != 2 {
		t.Errorf("%s is not shaped like UUIDv7", id)
	}
	if !id.Time().Equal(now) {
		t.Errorf("time %s, want %s", id.Time(), now)
	}
	parsed, err := event.ParseID(id.String())
	if err != nil || parsed != id {
		t.Errorf("parsed %v, %v", parsed, err)
	}
	for _, bad := range []string{"", "x", "{" + id.String()[1:], strings.ReplaceAll(id.String(), "-", "x"), "urn:uuid:" + id.String(), strings.Repeat("0", 32)} {
		if _, err := event.ParseID(bad); err == nil {
			t.Errorf("%q was read as an id", bad)
		}
	}
	if b := event.LowerBound(now); b.Compare(id) > 0 || !bytes.Equal(b[:6], id[:6]) {
		t.Errorf("lower bound %s of %s", b, id)
	}
	if b := event.LowerBound(now.Add(time.Millisecond)); b.Compare(id) <= 0 {
		t.Errorf("lower bound %s is not above %s", b, id)
	}
}

func BenchmarkFingerprint(b *testing.B) {
	e := valid()
	b.ReportAllocs()
	for b.Loop() {
		event.Fingerprint(e)
	}
}

func BenchmarkValidate(b *testing.B) {
	e := valid()
	b.ReportAllocs()
	for b.Loop() {
		event.Validate(e, 200, event.Bounds{Now: now})
	}
}
