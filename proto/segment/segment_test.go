package segment

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

func goldenTerms() (terms, absent []uint64) {
	net, _ := TermIP(netip.MustParsePrefix("203.0.113.0/24"))
	terms = []uint64{TermSource("acme"), TermSource("acme/payments"), TermSource("acme/payments/api"), TermActorID("alice"),
		TermAction("user.login"), TermOutcome(audittrailv1.Outcome_OUTCOME_SUCCESS), net, TermAttribute("team", "red")}
	absent = []uint64{TermSource("acm"), TermActorID("bob"), TermAttribute("team", "blue"), TermActorType("alice")}
	return terms, absent
}

func TestGoldenTermsAreFound(t *testing.T) {
	terms, absent := goldenTerms()
	f := BuildFilter(terms, minRecords)
	for _, term := range terms {
		if !f.MayContain(term) {
			t.Errorf("%x is not found", term)
		}
	}
	for _, term := range absent {
		if f.MayContain(term) {
			t.Errorf("%x is found", term)
		}
	}
}

func TestTermsOfAnEvent(t *testing.T) {
	e := &audittrailv1.Event{
		Source: "acme/payments/api", Action: "user.login",
		Actor:      &audittrailv1.Actor{Type: "user", Id: "alice", Session: "s1", Name: "Alice"},
		Resources:  []*audittrailv1.Resource{{Type: "doc", Id: "1"}, {Id: "2"}},
		Context:    &audittrailv1.Context{Ip: "::ffff:203.0.113.9", TraceId: "t", RequestId: "r"},
		Attributes: map[string]string{"team": "red"},
	}
	prefix := func(s string) uint64 {
		term, ok := TermIP(netip.MustParsePrefix(s))
		if !ok {
			t.Fatalf("%s has no term", s)
		}
		return term
	}
	want := []uint64{
		TermSource("acme"), TermSource("acme/payments"), TermSource("acme/payments/api"), TermActorType("user"), TermActorID("alice"),
		TermSession("s1"), TermAction("user.login"), TermKind(audittrailv1.ActionKind_ACTION_KIND_OTHER),
		TermOutcome(audittrailv1.Outcome_OUTCOME_UNKNOWN), TermResourceType("doc"), TermResourceID("1"), TermResourceID("2"), TermTrace("t"),
		TermRequest("r"), prefix("203.0.113.9/32"), prefix("203.0.113.77/24"), prefix("::ffff:203.0.0.0/112"), TermAttribute("team", "red"),
	}
	have, _ := AppendTerms(nil, nil, e)
	slices.Sort(have)
	slices.Sort(want)
	if !slices.Equal(have, want) {
		t.Errorf("terms\n%x\nwant\n%x", have, want)
	}
	if len(slices.Compact(want)) != len(have) {
		t.Error("two different terms are equal")
	}
	if _, ok := TermIP(netip.MustParsePrefix("10.0.0.0/8")); ok {
		t.Error("/8 has no term of its own")
	}
	six, _ := AppendTerms(nil, nil, &audittrailv1.Event{Context: &audittrailv1.Context{Ip: "2001:db8::1"}})
	for _, s := range []string{"2001:db8::1/128", "2001:db8::/64", "2001:db8::/48"} {
		if !slices.Contains(six, prefix(s)) {
			t.Errorf("no term of %s", s)
		}
	}
	if empty, _ := AppendTerms(nil, nil, &audittrailv1.Event{}); len(empty) != 2 {
		t.Errorf("an empty event has %d terms, want kind and outcome", len(empty))
	}
}

// TestFilterQuality holds the sizes and the rate of wrong "may contain".
func TestFilterQuality(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var b FilterBuilder
	for _, c := range []struct {
		terms, size int
		rate        float64
	}{{1, 64, 0.001}, {33, 128, 0.002}, {500, 1024, 0.002}, {1000, 2048, 0.002}, {5000, 2048, 1}} {
		terms := make([]uint64, c.terms)
		for i := range terms {
			terms[i] = rng.Uint64()
		}
		terms[0] = 0 // as good a hash as any
		b.Add(terms...)
		b.Add(terms...)
		f := Filter(b.Append(nil, 256))
		if len(f) != c.size {
			t.Errorf("%d terms: %d bytes, want %d", c.terms, len(f), c.size)
		}
		for _, term := range terms {
			if !f.MayContain(term) {
				t.Fatalf("%d terms: one is not found", c.terms)
			}
		}
		wrong := 0
		for range 20_000 {
			if f.MayContain(rng.Uint64()) {
				wrong++
			}
		}
		if rate := float64(wrong) / 20_000; rate > c.rate {
			t.Errorf("%d terms: %.4f wrong, at most %.4f", c.terms, rate, c.rate)
		}
	}
	if f := BuildFilter([]uint64{1}, 31); f != nil || !f.MayContain(7) {
		t.Error("no filter under 32 records, and no filter may contain everything")
	}
}

func TestDecodeRefuses(t *testing.T) {
	good := Encode(nil, frame(goldenEntries()))
	many := frame(make([]Entry, BundleSize+1))
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"empty":        {nil, ErrMalformed},
		"codec":        {[]byte{9, 0}, ErrCodec},
		"cut":          {good[:len(good)-1], ErrMalformed},
		"cut frame":    {[]byte{codecRaw, 0, 5, 1, 'x'}, ErrMalformed},
		"no kind":      {[]byte{codecRaw, 0, 0}, ErrMalformed},
		"half a frame": {[]byte{codecRaw, 0}, ErrMalformed},
		"too many":     {Encode(nil, many), ErrMalformed},
		"bomb":         {[]byte{codecS2, 0xff, 0xff, 0xff, 0x7f}, ErrMalformed},
	} {
		if _, err := Decode(c.data); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Nth(good, 256); !errors.Is(err, ErrMalformed) {
		t.Errorf("an entry that is not there: %v", err)
	}
	if _, err := ParseGap([]byte{1}); !errors.Is(err, ErrMalformed) {
		t.Errorf("gap: %v", err)
	}
	if _, err := ParseDeadLetter(make([]byte, 14)); !errors.Is(err, ErrMalformed) {
		t.Errorf("dead letter: %v", err)
	}
}

func TestPayloads(t *testing.T) {
	g := Gap{FromOffset: 1, FromIndex: 2, EndOffset: 3, EndIndex: 4, Reason: GapDropWithoutFirstCopy}
	if back, err := ParseGap(g.Append(nil)); err != nil || back != g {
		t.Errorf("gap: %+v, %v", back, err)
	}
	d := DeadLetter{Offset: 1 << 40, Index: 499, Reason: "CONFLICT", SHA256: [32]byte{31: 1}}
	if back, err := ParseDeadLetter(d.Append(nil)); err != nil || back != d {
		t.Errorf("dead letter: %+v, %v", back, err)
	}
}

func TestGreatestEntry(t *testing.T) {
	e := Entry{KindRecord, bytes.Repeat([]byte{0xff}, MaxPayload)}
	back, err := Decode(Encode(nil, AppendEntry(nil, e.Kind, e.Payload)))
	if err != nil || len(back) != 1 || !bytes.Equal(back[0].Payload, e.Payload) {
		t.Fatalf("the greatest entry does not come back: %v", err)
	}
	defer func() {
		if recover() == nil {
			t.Error("a greater one is framed")
		}
	}()
	AppendEntry(nil, KindRecord, append(e.Payload, 0))
}

func FuzzDecode(f *testing.F) {
	f.Add(Encode(nil, frame(goldenEntries())))
	f.Add([]byte{codecRaw, 0, 2, 1, 'x'})
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := Decode(data)
		if err != nil {
			return
		}
		framed := frame(entries)
		back, err := Decode(Encode(nil, framed))
		if err != nil || !bytes.Equal(framed, frame(back)) {
			t.Fatalf("what was decoded does not come back: %v", err)
		}
	})
}

func benchBundle() (events []*audittrailv1.Event, framed []byte) {
	for i := range BundleSize {
		e := &audittrailv1.Event{
			Source: fmt.Sprintf("acme/payments/api%d", i%7), Action: fmt.Sprintf("invoice.update%d", i%5), IdempotencyKey: fmt.Sprintf("key-%d", i*7919),
			Actor:      &audittrailv1.Actor{Type: "user", Id: fmt.Sprintf("user-%d", i*31%97), Session: fmt.Sprintf("s-%x", i*2654435761)},
			Resources:  []*audittrailv1.Resource{{Type: "invoice", Id: fmt.Sprintf("inv-%d", i*104729)}},
			Context:    &audittrailv1.Context{Ip: fmt.Sprintf("203.0.%d.%d", i%9, i%251), TraceId: fmt.Sprintf("%032x", i*1_000_003), RequestId: fmt.Sprintf("r-%d", i)},
			Attributes: map[string]string{"team": "red", "region": "eu-1"},
		}
		record, err := e.MarshalVT()
		if err != nil {
			panic(err)
		}
		events, framed = append(events, e), AppendEntry(framed, KindRecord, record)
	}
	return events, framed
}

func BenchmarkTermsAndFilter(b *testing.B) {
	events, _ := benchBundle()
	var fb FilterBuilder
	var terms []uint64
	var scratch, filter []byte
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		terms, scratch = AppendTerms(terms[:0], scratch, events[i%BundleSize])
		fb.Add(terms...)
		if i%BundleSize == BundleSize-1 {
			filter = fb.Append(filter[:0], BundleSize)
		}
	}
}

func BenchmarkEncodeBundle(b *testing.B) {
	_, framed := benchBundle()
	var data []byte
	b.SetBytes(int64(len(framed)))
	for b.Loop() {
		data = Encode(data[:0], framed)
	}
	b.ReportMetric(float64(len(data))/BundleSize, "B/event")
}

func BenchmarkLeafHash(b *testing.B) {
	_, framed := benchBundle()
	e, _, err := next(framed)
	if err != nil {
		b.Fatal(err)
	}
	var h Hasher
	var dst [HashSize]byte
	b.ReportAllocs()
	for b.Loop() {
		h.AppendLeaf(dst[:0], e.Kind, e.Payload)
	}
}
