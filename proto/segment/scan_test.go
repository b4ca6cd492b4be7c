package segment

import (
	"errors"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

func scanned(t *testing.T, record []byte) (Summary, []uint64) {
	t.Helper()
	var s Scanner
	sum, err := s.Scan(record)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(s.Terms)
	return sum, slices.Compact(s.Terms)
}

func decoded(t testing.TB, record []byte) (*audittrailv1.Event, []uint64) {
	t.Helper()
	e := new(audittrailv1.Event)
	if err := e.UnmarshalVT(record); err != nil {
		t.Fatal(err)
	}
	terms, _ := AppendTerms(nil, nil, e)
	slices.Sort(terms)
	return e, slices.Compact(terms)
}

// TestScanSeesWhatADecoderSees, also for encodings that a raw producer may send: fields twice, in any order, unknown ones.
func TestScanSeesWhatADecoderSees(t *testing.T) {
	marshal := func(e *audittrailv1.Event) []byte {
		b, err := e.MarshalVT()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	full := marshal(&audittrailv1.Event{
		Source: "acme/payments/api", Action: "user.login", Kind: audittrailv1.ActionKind_ACTION_KIND_AUTH, Outcome: audittrailv1.Outcome_OUTCOME_DENIED,
		Actor:     &audittrailv1.Actor{Type: "user", Id: "alice", Session: "s", OnBehalfOf: []*audittrailv1.ActorReference{{Type: "x", Id: "y"}}},
		Resources: []*audittrailv1.Resource{{Type: "a", Id: "1"}, {Id: "2"}, {}}, Details: `{"a":1}`,
		Context:    &audittrailv1.Context{Ip: "2001:db8::1", TraceId: "t", RequestId: "r", UserAgent: "ua"},
		Attributes: map[string]string{"team": "red", "": "", "k": ""}, ReceivedAt: &timestamppb.Timestamp{Seconds: 12, Nanos: 34},
	})
	more := marshal(&audittrailv1.Event{Source: "other", Actor: &audittrailv1.Actor{Id: "bob"}, Outcome: audittrailv1.Outcome_OUTCOME_SUCCESS,
		Context: &audittrailv1.Context{Ip: "10.1.2.3"}, Resources: []*audittrailv1.Resource{{Id: "3"}}})
	unknown := []byte{0xfa, 0x3f, 2, 'h', 'i', 0xf9, 0x3f, 1, 2, 3, 4, 5, 6, 7, 8}
	for name, record := range map[string][]byte{
		"empty": nil, "full": full, "merged": slices.Concat(full, more, unknown), "other order": slices.Concat(unknown, more, full),
	} {
		e, want := decoded(t, record)
		sum, have := scanned(t, record)
		if !slices.Equal(have, want) {
			t.Errorf("%s: terms %x, want %x", name, have, want)
		}
		if sum.Source != e.Source || sum.Action != e.Action || sum.Outcome != int32(e.Outcome) ||
			sum.ReceivedSeconds != e.GetReceivedAt().GetSeconds() || sum.ReceivedNanos != e.GetReceivedAt().GetNanos() {
			t.Errorf("%s: summary %+v", name, sum)
		}
	}
	for name, bad := range map[string][]byte{"cut": full[:len(full)-1], "cut inside": {0x2a, 2, 0x0a, 5}, "no field 0": {0x02, 0}} {
		var s Scanner
		if _, err := s.Scan(bad); !errors.Is(err, ErrMalformed) || len(s.Terms) != 0 {
			t.Errorf("%s: %v, %d terms", name, err, len(s.Terms))
		}
	}
}

func FuzzScan(f *testing.F) {
	events, _ := benchBundle()
	b, err := events[0].MarshalVT()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, record []byte) {
		e := new(audittrailv1.Event)
		if e.UnmarshalVT(record) != nil || proto.Unmarshal(record, new(audittrailv1.Event)) != nil {
			return // vtproto alone takes field numbers that are none
		}
		var s Scanner
		sum, err := s.Scan(record)
		if err != nil {
			t.Fatalf("a decoder takes it: %v", err)
		}
		want, _ := AppendTerms(nil, nil, e)
		for _, term := range want {
			if !slices.Contains(s.Terms, term) {
				t.Fatalf("a term is missing: %v", e)
			}
		}
		if sum.Source != e.Source || sum.Action != e.Action || sum.Outcome != int32(e.Outcome) {
			t.Fatalf("summary %+v of %v", sum, e)
		}
	})
}

func BenchmarkScan(b *testing.B) {
	events, _ := benchBundle()
	record, err := events[0].MarshalVT()
	if err != nil {
		b.Fatal(err)
	}
	var s Scanner
	b.ReportAllocs()
	for b.Loop() {
		s.Terms = s.Terms[:0]
		if _, err := s.Scan(record); err != nil {
			b.Fatal(err)
		}
	}
}
