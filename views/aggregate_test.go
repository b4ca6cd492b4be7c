package views_test

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/views"
	"github.com/maxviazov/audittrail/views/viewstest"
)

// accepted are the events that a filter accepts, evaluated naively.
func accepted(t testing.TB, filter string, events []*audittrailv1.Event) []*audittrailv1.Event {
	t.Helper()
	ids := make(map[string]bool)
	for _, id := range naive(t, filter, events) {
		ids[id.String()] = true
	}
	var out []*audittrailv1.Event
	for _, e := range events {
		if ids[stored(e, 0, 0).GetId()] {
			out = append(out, e)
		}
	}
	return out
}

// facetFields are counted naively here: what an event has of each.
var facetFields = map[string]func(*audittrailv1.Event) []string{
	"source":       func(e *audittrailv1.Event) []string { return []string{e.GetSource()} },
	"action":       func(e *audittrailv1.Event) []string { return []string{e.GetAction()} },
	"actor.id":     func(e *audittrailv1.Event) []string { return []string{e.GetActor().GetId()} },
	"attributes":   func(e *audittrailv1.Event) []string { return keysOf(e.GetAttributes()) },
	"attributes.n": func(e *audittrailv1.Event) []string { return []string{e.GetAttributes()["n"]} },
	"outcome": func(e *audittrailv1.Event) []string {
		if e.GetOutcome() == 0 {
			return []string{"unknown"}
		}
		return []string{strings.ToLower(strings.TrimPrefix(e.GetOutcome().String(), "OUTCOME_"))}
	},
	"kind": func(e *audittrailv1.Event) []string {
		if e.GetKind() == 0 {
			return []string{"other"}
		}
		return []string{strings.ToLower(strings.TrimPrefix(e.GetKind().String(), "ACTION_KIND_"))}
	},
	"resources.id": func(e *audittrailv1.Event) []string {
		var out []string
		for _, r := range e.GetResources() {
			out = append(out, r.GetId())
		}
		return out
	},
}

func keysOf(m map[string]string) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	return out
}

// naiveFacet counts one field.
func naiveFacet(name string, size int, events []*audittrailv1.Event) *audittrailv1.Facet {
	counts := make(map[string]int64)
	f := &audittrailv1.Facet{Field: name}
	for _, e := range events {
		seen := make(map[string]bool)
		for _, v := range facetFields[name](e) {
			if v != "" && !seen[v] {
				seen[v] = true
				counts[v]++
			}
		}
		if len(seen) == 0 {
			f.MissingCount++
		}
	}
	for v, n := range counts {
		f.Values = append(f.Values, &audittrailv1.FacetValue{Value: v, Count: n})
	}
	slices.SortFunc(f.Values, func(a, b *audittrailv1.FacetValue) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Value, b.Value))
	})
	if len(f.Values) > size {
		for _, v := range f.Values[size:] {
			f.OtherCount += v.Count
		}
		f.Values = f.Values[:size]
	}
	return f
}

// randomAggregate is what a test asks for and how many seconds its buckets have.
func randomAggregate(gen *viewstest.Generator, now time.Time) *audittrailv1.AggregateEventsRequest {
	filter := gen.Filter(2)
	if gen.IntN(3) == 0 { // what rollups could serve
		filter = gen.Pick([]string{"", `source:"acme*"`, `action="user.login"`, `outcome=denied AND source="acme"`, `NOT action:"user*"`, `source="acme" OR outcome=success`})
	}
	req := &audittrailv1.AggregateEventsRequest{Filter: filter, FacetSize: int32(1 + gen.IntN(9))}
	start := now.Add(-time.Duration(gen.Int64N(int64(5 * time.Hour))))
	if gen.IntN(3) > 0 {
		req.StartTime = timestamppb.New(start)
		if gen.IntN(2) == 0 {
			req.StartTime = timestamppb.New(start.Truncate(time.Minute))
		}
		req.BucketWidth = durationpb.New(time.Duration(1+gen.IntN(4)) * []time.Duration{time.Second * 17, time.Minute, time.Hour}[gen.IntN(3)])
		if gen.IntN(2) == 0 {
			req.EndTime = timestamppb.New(start.Add(time.Duration(1 + gen.Int64N(int64(3*time.Hour)))))
		}
	}
	names := []string{"source", "action", "outcome", "kind", "actor.id", "resources.id", "attributes", "attributes.n"}
	if gen.IntN(3) == 0 {
		names = names[:3]
	}
	gen.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	req.Facets = names[:gen.IntN(len(names)+1)]
	return req
}

// aggregateAll asks until nothing is left and adds up counts and buckets; facets are those of the only response, nil when there were several.
func (g *gateway) aggregateAll(t testing.TB, req *audittrailv1.AggregateEventsRequest, between func()) (count int64, buckets map[int64]int64, only *audittrailv1.AggregateEventsResponse) {
	t.Helper()
	buckets = make(map[int64]int64)
	req = req.CloneVT()
	for calls := 1; ; calls++ {
		resp, err := g.AggregateEvents(t.Context(), req)
		if err != nil {
			t.Fatalf("%v: %v", req, err)
		}
		count += resp.GetCount()
		for _, b := range resp.GetBuckets() {
			buckets[b.GetStartTime().GetSeconds()] += b.GetCount()
		}
		between()
		if only = nil; calls == 1 && resp.GetNextPageToken() == "" {
			only = resp
		}
		if exact := resp.GetNextPageToken() == "" && calls == 1; exact != resp.GetExact() {
			t.Errorf("%v: call %d says exact=%v, token %q", req, calls, resp.GetExact(), resp.GetNextPageToken())
		}
		if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
			return count, buckets, only
		}
	}
}

// TestCountsAndAggregatesEqualNaiveOnes compares random requests with a naive computation over the same random events, of what was stored when
// the first call came, while more is stored between the calls.
func TestCountsAndAggregatesEqualNaiveOnes(t *testing.T) {
	store := viewstest.NewStore(t)
	now := time.Now().UTC()
	gen := viewstest.NewGenerator(77, now, 4*time.Hour)
	var events []*audittrailv1.Event
	var sizes [3]int64
	add := func(n int) {
		more := gen.Events(n)
		log := gen.IntN(3)
		store.Append(t, int16(log), more...)
		for _, e := range more {
			e.Position = &audittrailv1.Position{Log: int32(log), Index: sizes[log]}
			sizes[log]++
		}
		events = append(events, more...)
	}
	for range 12 {
		add(1 + gen.IntN(300))
	}
	narrow := newGateway(t, store.DSN, options{cfg: views.Config{ScanRows: 1000}}) // several calls for one answer
	wide := newGateway(t, store.DSN, options{cfg: views.Config{PageTime: 20 * time.Second, StatementTime: 30 * time.Second}})
	several := 0
	for range 80 {
		req := randomAggregate(gen, now)
		g := narrow
		if gen.IntN(2) == 0 {
			g = wide
		}
		want := accepted(t, req.GetFilter(), events)
		all := want
		end := req.GetEndTime().AsTime()
		if width := req.GetBucketWidth().AsDuration(); width > 0 {
			if req.GetEndTime() == nil {
				end = now.Add(400 * 24 * time.Hour) // all events are before the test began
			}
			want = slices.DeleteFunc(slices.Clone(want), func(e *audittrailv1.Event) bool {
				at := e.GetOccurredAt().AsTime()
				return at.Before(req.GetStartTime().AsTime()) || !at.Before(end)
			})
		}
		wantBuckets := make(map[int64]int64)
		if seconds := int64(req.GetBucketWidth().AsDuration() / time.Second); seconds > 0 {
			for _, e := range want {
				wantBuckets[e.GetOccurredAt().GetSeconds()/seconds*seconds]++
			}
		}
		facets := make([]*audittrailv1.Facet, 0, len(req.GetFacets()))
		for _, name := range req.GetFacets() {
			facets = append(facets, naiveFacet(name, int(req.GetFacetSize()), want))
		}
		stored := len(events)
		between := func() {
			if len(events) < 6000 {
				add(1 + gen.IntN(40))
			}
		}
		count, buckets, only := g.aggregateAll(t, req, between)
		if count != int64(len(want)) || fmt.Sprint(buckets) != fmt.Sprint(wantBuckets) {
			t.Errorf("%v: count %d, want %d; buckets %v, want %v", req, count, len(want), buckets, wantBuckets)
		}
		if only == nil {
			several++
		} else {
			for i, want := range facets {
				if got := only.GetFacets()[i]; !got.EqualVT(want) {
					t.Errorf("%v: facet %v, want %v", req, got, want)
				}
			}
		}
		sum := int64(0)
		for token, first := "", true; token != "" || first; first = false {
			resp, err := g.CountEvents(t.Context(), &audittrailv1.CountEventsRequest{Filter: req.GetFilter(), PageToken: token, Explain: true})
			if err != nil {
				t.Fatal(err)
			}
			if first { // what came between is in the count as well
				all = accepted(t, req.GetFilter(), events)
			}
			sum += resp.GetCount()
			if token = resp.GetNextPageToken(); (token == "" && first) != resp.GetExact() || (token == "") != (resp.GetCompleteAfter() == nil) {
				t.Errorf("%q: %v", req.GetFilter(), resp)
			}
			between()
		}
		if sum != int64(len(all)) {
			t.Errorf("%q: counted %d, want %d (of %d, then %d)", req.GetFilter(), sum, len(all), stored, len(events))
		}
	}
	if several < 10 {
		t.Errorf("only %d answers took several calls", several)
	}
}

func TestAggregateRefusesWhatItCannotBound(t *testing.T) {
	store, _ := storeOf(t, 1)
	g := newGateway(t, store, options{})
	start, second := timestamppb.New(time.Unix(0, 0)), durationpb.New(time.Second)
	for field, req := range map[string]*audittrailv1.AggregateEventsRequest{
		"bucket_width":    {StartTime: start, BucketWidth: second, EndTime: timestamppb.New(time.Unix(1_000_000, 0))}, // a million buckets
		"bucket_width ":   {StartTime: start, BucketWidth: durationpb.New(time.Millisecond)},
		"bucket_width  ":  {StartTime: start, BucketWidth: durationpb.New(400 * 24 * time.Hour)},
		"bucket_width   ": {StartTime: start, BucketWidth: &durationpb.Duration{Seconds: 1 << 62}},
		"start_time":      {BucketWidth: second},
		"start_time ":     {StartTime: &timestamppb.Timestamp{Seconds: 1 << 62}},
		"start_time  ":    {StartTime: timestamppb.New(time.Now().Add(time.Hour)), BucketWidth: second},
		"end_time":        {StartTime: start, EndTime: start},
		"facets[1]":       {Facets: []string{"source", "details"}},
		"facets[0]":       {Facets: []string{strings.Repeat("x", 1<<20)}},
		"facets[1] ":      {Facets: []string{"source", "source"}},
		"facets":          {Facets: make([]string, 9)},
		"facet_size":      {FacetSize: 1001},
		"facet_size ":     {FacetSize: -1},
		"filter":          {Filter: "source="},
		"filter ":         {Filter: strings.Repeat("x ", 100_000)},
		"page_token":      {PageToken: "x"},
	} {
		_, err := g.AggregateEvents(t.Context(), req)
		wantField(t, err, strings.TrimSpace(field))
		if len(err.Error()) > 4000 {
			t.Errorf("%s: an error of %d bytes", field, len(err.Error()))
		}
	}
	_, err := g.CountEvents(t.Context(), &audittrailv1.CountEventsRequest{Filter: "("})
	wantField(t, err, "filter")
	_, err = g.CountEvents(t.Context(), &audittrailv1.CountEventsRequest{PageToken: "AAAA"})
	wantField(t, err, "page_token")
}

// A token is of one request: with another filter, range or facet the parts would not add up.
func TestAggregateTokensAreOfOneRequest(t *testing.T) {
	store, _ := storeOf(t, 2500)
	g := newGateway(t, store, options{cfg: views.Config{Key: sharedKey, ScanRows: 1000}, principal: "alice"})
	req := &audittrailv1.AggregateEventsRequest{Facets: []string{"actor.id"}, StartTime: timestamppb.New(time.Unix(1, 0)), Filter: `attributes.b="2"`}
	resp, err := g.AggregateEvents(t.Context(), req)
	if err != nil || resp.GetNextPageToken() == "" || resp.GetExact() || resp.GetCompleteAfter() == nil {
		t.Fatalf("%v %v", resp, err)
	}
	for name, change := range map[string]func(*audittrailv1.AggregateEventsRequest){
		"filter": func(r *audittrailv1.AggregateEventsRequest) { r.Filter = `attributes.b="3"` },
		"start":  func(r *audittrailv1.AggregateEventsRequest) { r.StartTime = timestamppb.New(time.Unix(2, 0)) },
		"end":    func(r *audittrailv1.AggregateEventsRequest) { r.EndTime = timestamppb.New(time.Now()) },
		"facets": func(r *audittrailv1.AggregateEventsRequest) { r.Facets = nil },
		"width":  func(r *audittrailv1.AggregateEventsRequest) { r.BucketWidth = durationpb.New(300 * 24 * time.Hour) },
		"size":   func(r *audittrailv1.AggregateEventsRequest) { r.FacetSize = 3 },
	} {
		other := req.CloneVT()
		other.PageToken = resp.GetNextPageToken()
		change(other)
		if _, err := g.AggregateEvents(t.Context(), other); err == nil {
			t.Errorf("taken with another %s", name)
		}
	}
	req.PageToken = resp.GetNextPageToken()
	mallory := newGateway(t, store, options{cfg: views.Config{Key: sharedKey}, principal: "mallory"})
	_, err = mallory.AggregateEvents(t.Context(), req)
	wantField(t, err, "page_token")
	if _, err := g.AggregateEvents(t.Context(), req); err != nil {
		t.Error(err)
	}
	count, err := g.CountEvents(t.Context(), &audittrailv1.CountEventsRequest{Filter: req.Filter, PageToken: resp.GetNextPageToken()})
	if err == nil {
		t.Errorf("a count took it: %v", count)
	}
}

func TestACancelledAggregateEnds(t *testing.T) {
	store, _ := storeOf(t, 600)
	g := newGateway(t, store, options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := g.AggregateEvents(ctx, &audittrailv1.AggregateEventsRequest{Facets: []string{"actor.id"}})
	wantCode(t, err, codes.Canceled)
}
