package views_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/maxviazov/audittrail/processors/indexer"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
	"github.com/maxviazov/audittrail/views"
	"github.com/maxviazov/audittrail/views/viewstest"
)

// walk reads all pages of a filter.
func (g *gateway) walk(ctx context.Context, filter string, pageSize int32, between func(page int)) ([]*audittrailv1.Event, int, error) {
	var all []*audittrailv1.Event
	req := &audittrailv1.ListEventsRequest{Filter: filter, PageSize: pageSize}
	for pages := 1; ; pages++ {
		resp, err := g.ListEvents(ctx, req)
		if err != nil {
			return nil, pages, fmt.Errorf("page %d: %w", pages, err)
		}
		if len(resp.GetEvents()) > int(pageSize) {
			return nil, pages, fmt.Errorf("page %d has %d events, asked for %d", pages, len(resp.GetEvents()), pageSize)
		}
		all = append(all, resp.GetEvents()...)
		if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
			return all, pages, nil
		}
		if between != nil {
			between(pages)
		}
	}
}

// naive is what a list must be: every event that the filter accepts, newest millisecond first, ties by id.
func naive(t testing.TB, filter string, events []*audittrailv1.Event) []event.ID {
	t.Helper()
	f, err := views.ParseFilter(filter)
	if err != nil {
		t.Fatalf("%s: %v", filter, err)
	}
	var ids []event.ID
	for _, e := range events {
		if f.Match(e) {
			ids = append(ids, event.IDOf(e))
		}
	}
	slices.SortFunc(ids, func(a, b event.ID) int { return b.Compare(a) })
	return ids
}

func idsOf(events []*audittrailv1.Event) []string {
	ids := make([]string, len(events))
	for i, e := range events {
		ids[i] = e.GetId()
	}
	return ids
}

func texts(ids []event.ID) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = id.String()
	}
	return out
}

// TestListEqualsNaiveEvaluation is the property that holds lists: whatever the filter and the data are, all pages together are what
// evaluating every event that was stored at the first page gives, while more is stored between the pages.
func TestListEqualsNaiveEvaluation(t *testing.T) {
	store := viewstest.NewStore(t)
	g := newGateway(t, store.DSN, options{cfg: views.Config{ScanRows: 1000}})
	now := time.Now()
	recent, old := viewstest.NewGenerator(1, now, 40*24*time.Hour), viewstest.NewGenerator(2, now, 3*365*24*time.Hour)
	var mu sync.Mutex
	var stored []*audittrailv1.Event
	var sizes [3]int64
	add := func(n int) {
		for log := range int16(3) {
			gen := recent
			if log == 2 {
				gen = old
			}
			events := gen.Events(n + int(log))
			store.Append(t, log, events...)
			for _, e := range events {
				e.Position = &audittrailv1.Position{Log: int32(log), Index: sizes[log]}
				sizes[log]++
			}
			stored = append(stored, events...)
		}
	}
	seen := make(map[string]bool)
	for _, n := range []int{260, 7, 200, 300} {
		add(n)
	}
	mu.Lock()
	for _, e := range stored {
		if id := event.IDOf(e).String(); seen[id] {
			t.Fatal("the generator repeats itself")
		} else {
			seen[id] = true
		}
	}
	mu.Unlock()
	// Term runs are made and merged all the while, of everything that is complete.
	index, err := indexer.New(indexer.Config{DSN: store.DSN, RunSegments: 3, Fan: 2, Interval: 50 * time.Millisecond, Duty: 1}, zerolog.Nop(), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { index.Run(ctx) })
	defer running.Wait()
	defer cancel()
	eventually(t, "a term run is made", func() bool {
		var n int
		err := store.Pool.QueryRow(t.Context(), `SELECT count(*) FROM audittrail.term_runs`).Scan(&n)
		return err == nil && n > 0
	})
	g.server.AskTermRuns()
	filtersTried := 80
	if os.Getenv("AUDITTRAIL_PROPERTY") == "long" {
		filtersTried = 10_000
	}
	filters := viewstest.NewGenerator(3, now, 60*24*time.Hour)
	found, narrowed := 0, 0
	for i := range filtersTried {
		filter := filters.Filter(3)
		if i == 0 {
			filter = ""
		}
		want := naive(t, filter, stored)
		got, pages, err := g.walk(t.Context(), filter, int32(20+filters.IntN(400)), func(page int) {
			if page == 1 && i%10 == 0 {
				add(1 + filters.IntN(40))
			}
		})
		if err != nil {
			t.Fatalf("%s: %v", filter, err)
		}
		if !slices.Equal(idsOf(got), texts(want)) {
			t.Fatalf("filter %s, %d pages: got %d events, want %d", filter, pages, len(got), len(want))
		}
		found += len(got)
		if len(want) > 0 && len(want) < len(stored) {
			narrowed++
		}
	}
	t.Logf("%d events found, %d of %d filters told events apart, %d stored", found, narrowed, filtersTried, len(stored))
	for _, way := range []string{"bundles", "rows"} {
		if g.counter(t, "audittrail_gateway_walks_total", way) < 20 {
			t.Errorf("too few walks by %s", way)
		}
	}
	if narrowed < filtersTried/2 {
		t.Errorf("only %d filters told events apart", narrowed)
	}
}

func TestListReturnsEventsAsStored(t *testing.T) {
	store := viewstest.NewStore(t)
	g := newGateway(t, store.DSN, options{})
	gen := viewstest.NewGenerator(4, time.Now(), time.Hour)
	events := gen.Events(300) // one segment and a tail
	store.Append(t, 5, events...)
	got, _, err := g.walk(t.Context(), "", 1000, nil)
	if err != nil || len(got) != len(events) {
		t.Fatalf("%d events, %v", len(got), err)
	}
	byID := make(map[string]*audittrailv1.Event)
	for i, e := range events {
		want := proto.CloneOf(e)
		want.Id = event.IDOf(e).String()
		want.Position = &audittrailv1.Position{Log: 5, Index: int64(i)}
		byID[want.Id] = want
	}
	for _, e := range got {
		if !proto.Equal(e, byID[e.GetId()]) {
			t.Fatalf("got %v\nwant %v", e, byID[e.GetId()])
		}
	}
}

// TestRemovedDaysAreLeftOut: once retention has removed a day, what rows of events still point to is not there, and nothing is damaged.
func TestRemovedDaysAreLeftOut(t *testing.T) {
	store := viewstest.NewStore(t)
	g := newGateway(t, store.DSN, options{})
	events := viewstest.NewGenerator(5, time.Now(), time.Hour).Events(300)
	store.Append(t, 0, events...)
	const filter = `idempotency_key:"key-*"`
	for _, f := range []string{"", filter} { // by rows, by bundles
		if got, _, err := g.walk(t.Context(), f, 1000, nil); err != nil || len(got) != 300 {
			t.Fatalf("%q: %d events, %v", f, len(got), err)
		}
	}
	day := time.Now().UTC().Format("20060102")
	store.Exec(t, `ALTER TABLE audittrail.segments DETACH PARTITION audittrail.segments_`+day)
	store.Exec(t, `DELETE FROM audittrail.leaves WHERE leaf = 'segments_`+day+`'`)
	for name, fresh := range map[string]*gateway{"one that had read it": g, "a new one": newGateway(t, store.DSN, options{})} {
		for range 2 {
			for _, f := range []string{"", filter} {
				got, _, err := fresh.walk(t.Context(), f, 1000, nil)
				if fresh != g && (err != nil || len(got) != 300-256) {
					t.Errorf("%s, %q: %d events, %v", name, f, len(got), err)
				}
				if err != nil {
					t.Errorf("%s, %q: %v", name, f, err)
				}
			}
		}
		if fresh != g {
			_, err := fresh.GetEvent(t.Context(), &audittrailv1.GetEventRequest{Id: event.IDOf(events[0]).String()})
			wantCode(t, err, codes.NotFound)
		}
	}
}
