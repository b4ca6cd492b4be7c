package views_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
	"github.com/maxviazov/audittrail/views"
	"github.com/maxviazov/audittrail/views/viewstest"
)

// related says naively what two events share.
func related(r audittrailv1.Relation, a, b *audittrailv1.Event) bool {
	switch r {
	case audittrailv1.Relation_RELATION_TRACE:
		return a.GetContext().GetTraceId() == b.GetContext().GetTraceId()
	case audittrailv1.Relation_RELATION_SESSION:
		return a.GetActor().GetSession() == b.GetActor().GetSession()
	case audittrailv1.Relation_RELATION_RESOURCE:
		main := a.GetResources()[0]
		return slices.ContainsFunc(b.GetResources(), func(o *audittrailv1.Resource) bool { return o.GetType() == main.GetType() && o.GetId() == main.GetId() })
	default:
		return a.GetActor().GetId() == b.GetActor().GetId() && (a.GetActor().GetType() == "" || a.GetActor().GetType() == b.GetActor().GetType())
	}
}

func TestContextIsTheNearestOfWhatIsRelated(t *testing.T) {
	store := viewstest.NewStore(t)
	gen := viewstest.NewGenerator(31, time.Now(), 6*time.Hour)
	var events []*audittrailv1.Event
	for log := range int16(3) {
		more := gen.Events(700)
		store.Append(t, log, more...)
		events = append(events, more...)
	}
	slices.SortFunc(events, func(a, b *audittrailv1.Event) int { return event.IDOf(a).Compare(event.IDOf(b)) })
	g := newGateway(t, store.DSN, options{cfg: views.Config{PageTime: 20 * time.Second, StatementTime: 30 * time.Second}})
	relations := 0
	for range 60 {
		i := gen.IntN(len(events))
		e := events[i]
		window, size := time.Duration(1+gen.IntN(120))*time.Minute, 1+gen.IntN(30)
		resp, err := g.GetEventContext(t.Context(), &audittrailv1.GetEventContextRequest{Id: event.IDOf(e).String(), Window: durationpb.New(window), PageSize: int32(size)})
		if err != nil {
			t.Fatal(err)
		}
		if resp.GetEvent().GetId() != event.IDOf(e).String() {
			t.Errorf("got %v", resp.GetEvent())
		}
		has := 0
		if e.GetContext().GetTraceId() != "" {
			has++
		}
		if e.GetActor().GetSession() != "" {
			has++
		}
		if len(e.GetResources()) > 0 && e.GetResources()[0].GetId() != "" {
			has++
		}
		if e.GetActor().GetId() != "" {
			has++
		}
		if len(resp.GetRelated()) != has {
			t.Errorf("%d relations of an event with %d", len(resp.GetRelated()), has)
		}
		for _, r := range resp.GetRelated() {
			relations++
			near := func(indexes []int) (ids []string) {
				for _, j := range indexes {
					d := events[j].GetOccurredAt().AsTime().Sub(e.GetOccurredAt().AsTime())
					if len(ids) < size && max(d, -d) <= window && related(r.GetRelation(), e, events[j]) {
						ids = append(ids, event.IDOf(events[j]).String())
					}
				}
				return ids
			}
			var before, after []int
			for j := i - 1; j >= 0; j-- {
				before = append(before, j)
			}
			for j := i + 1; j < len(events); j++ {
				after = append(after, j)
			}
			if !slices.Equal(idsOf(r.GetBefore()), near(before)) || !slices.Equal(idsOf(r.GetAfter()), near(after)) || r.GetPartial() {
				t.Errorf("%v: got %d before and %d after, want %d and %d; partial: %v", r.GetRelation(), len(r.GetBefore()), len(r.GetAfter()),
					len(near(before)), len(near(after)), r.GetPartial())
			}
			if f, err := views.ParseFilter(r.GetFilter()); err != nil || !f.Match(e) {
				t.Errorf("%s does not find the event itself: %v", r.GetFilter(), err)
			}
		}
	}
	if relations < 60 {
		t.Errorf("only %d relations", relations)
	}
}

// What is in the event is text for the filter, whatever it looks like.
func TestContextOfHostileTexts(t *testing.T) {
	store := viewstest.NewStore(t)
	now := time.Now().Add(-time.Minute)
	nasty := []string{`" OR source:"`, `a\`, `*`, "line\nbreak", `'`, "tab\tand \x01", `") OR ("`}
	var events []*audittrailv1.Event
	for i, text := range nasty {
		for j := range 2 {
			events = append(events, &audittrailv1.Event{Source: "acme", Action: "a", IdempotencyKey: text + string(rune('0'+j)),
				OccurredAt: timestamppb.New(now.Add(time.Duration(10*i+j) * time.Millisecond)), ReceivedAt: timestamppb.New(now),
				Actor: &audittrailv1.Actor{Id: text, Session: text}, Context: &audittrailv1.Context{TraceId: text}, Resources: []*audittrailv1.Resource{{Type: text, Id: text}}})
		}
	}
	store.Append(t, 0, events...)
	g := newGateway(t, store.DSN, options{})
	for i := range nasty {
		resp, err := g.GetEventContext(t.Context(), &audittrailv1.GetEventContextRequest{Id: event.IDOf(events[2*i]).String()})
		if err != nil {
			t.Errorf("%q: %v", nasty[i], err)
			continue
		}
		want := event.IDOf(events[2*i+1]).String()
		if len(resp.GetRelated()) != 4 {
			t.Errorf("%q: %d relations", nasty[i], len(resp.GetRelated()))
		}
		for _, r := range resp.GetRelated() {
			if len(r.GetBefore()) != 0 || len(r.GetAfter()) != 1 || r.GetAfter()[0].GetId() != want {
				t.Errorf("%q: %s finds %d before and %d after", nasty[i], r.GetFilter(), len(r.GetBefore()), len(r.GetAfter()))
			}
		}
	}
}

func TestContextChecksItsRequest(t *testing.T) {
	store, events := storeOf(t, 1)
	g := newGateway(t, store, options{})
	id := event.IDOf(events[0]).String()
	trace := audittrailv1.Relation_RELATION_TRACE
	for field, req := range map[string]*audittrailv1.GetEventContextRequest{
		"id":           {Id: "x"},
		"window":       {Id: id, Window: durationpb.New(time.Millisecond)},
		"window ":      {Id: id, Window: durationpb.New(31 * 24 * time.Hour)},
		"window  ":     {Id: id, Window: &durationpb.Duration{Seconds: 1 << 62}},
		"page_size":    {Id: id, PageSize: 101},
		"page_size ":   {Id: id, PageSize: -1},
		"relations[0]": {Id: id, Relations: []audittrailv1.Relation{0}},
		"relations[1]": {Id: id, Relations: []audittrailv1.Relation{trace, trace}},
	} {
		_, err := g.GetEventContext(t.Context(), req)
		wantField(t, err, strings.TrimSpace(field))
	}
	_, err := g.GetEventContext(t.Context(), &audittrailv1.GetEventContextRequest{Id: absent})
	wantCode(t, err, codes.NotFound)
}
