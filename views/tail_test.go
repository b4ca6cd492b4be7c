package views_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/segment"
	"github.com/maxviazov/audittrail/views"
	"github.com/maxviazov/audittrail/views/viewstest"
)

type tailStream = grpc.ServerStreamingClient[audittrailv1.TailEventsResponse]

// receive reads events until there are n.
func receive(t testing.TB, stream tailStream, n int) []*audittrailv1.Event {
	t.Helper()
	var events []*audittrailv1.Event
	for len(events) < n {
		resp, err := stream.Recv()
		if err != nil {
			t.Fatalf("after %d events: %v", len(events), err)
		}
		events = append(events, resp.GetEvents()...)
	}
	return events
}

func (g *gateway) tail(t testing.TB, ctx context.Context, filter, token string) tailStream {
	t.Helper()
	stream, err := g.TailEvents(ctx, &audittrailv1.TailEventsRequest{Filter: filter, ResumeToken: token})
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

func TestTailBeginsNowAndFollowsWithinASecond(t *testing.T) {
	store := viewstest.NewStore(t)
	g := newGateway(t, store.DSN, options{})
	gen := viewstest.NewGenerator(1, time.Now(), time.Hour)
	store.Append(t, 0, gen.Events(10)...) // stored before: not sent
	stream := g.tail(t, t.Context(), "", "")
	if first, err := stream.Recv(); err != nil || len(first.GetEvents()) != 0 || first.GetResumeToken() == "" {
		t.Fatalf("%v, %v", first, err)
	}
	for i := range 5 {
		e := gen.Event()
		started := time.Now()
		store.Append(t, int16(i%2), e)
		index := int64(10 + i/2)
		if i%2 == 1 {
			index = int64(i / 2)
		}
		if got := receive(t, stream, 1); len(got) != 1 || !proto.Equal(got[0], stored(e, int32(i%2), index)) {
			t.Fatalf("got %v\nwant %v", got, e)
		}
		if took := time.Since(started); took > time.Second {
			t.Errorf("event %d came after %v", i, took)
		}
	}
	if got := g.counter(t, "audittrail_gateway_tails"); got != 1 {
		t.Errorf("%v streams counted", got)
	}
}

// TestTailSendsEveryEntryOnce cuts a tail off again and again while logs grow, bundles are completed and entries of other kinds
// come; resumed each time, it gives every record exactly once, each log in its order.
func TestTailSendsEveryEntryOnce(t *testing.T) {
	store := viewstest.NewStore(t)
	g := newGateway(t, store.DSN, options{cfg: views.Config{TailPoll: 10 * time.Millisecond}})
	gen := viewstest.NewGenerator(2, time.Now(), 24*time.Hour)
	const filter = `NOT outcome = denied`
	f, err := views.ParseFilter(filter)
	if err != nil {
		t.Fatal(err)
	}
	first, err := g.tail(t, t.Context(), filter, "").Recv()
	if err != nil {
		t.Fatal(err)
	}
	var want []*audittrailv1.Event
	size := map[int16]int64{}
	written := make(chan struct{})
	plan := make([][]*audittrailv1.Event, 60)
	for i := range plan {
		log := int16(i % 3)
		plan[i] = gen.Events(1 + gen.IntN(150))
		for _, e := range plan[i] {
			if f.Match(e) {
				want = append(want, stored(e, int32(log), size[log]))
			}
			size[log]++
		}
		size[log]++ // an entry that is no record
	}
	go func() {
		defer close(written)
		for i, events := range plan {
			store.Append(t, int16(i%3), events...)
			store.AppendEntries(t, int16(i%3), segment.Entry{Kind: segment.KindGap, Payload: segment.Gap{FromOffset: 1, EndOffset: 2}.Append(nil)})
		}
	}()
	var got []*audittrailv1.Event
	token := first.GetResumeToken()
	cuts := 0
	for len(got) < len(want) {
		ctx, cancel := context.WithCancel(t.Context())
		stream := g.tail(t, ctx, filter, token)
		for range 1 + gen.IntN(4) {
			resp, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, resp.GetEvents()...)
			token = resp.GetResumeToken()
			if len(got) >= len(want) {
				break
			}
		}
		cancel()
		cuts++
	}
	<-written
	byPlace := func(a, b *audittrailv1.Event) int {
		if c := int(a.GetPosition().GetLog()) - int(b.GetPosition().GetLog()); c != 0 {
			return c
		}
		return int(a.GetPosition().GetIndex() - b.GetPosition().GetIndex())
	}
	slices.SortStableFunc(want, byPlace)
	ordered := slices.Clone(got)
	slices.SortStableFunc(ordered, func(a, b *audittrailv1.Event) int {
		return int(a.GetPosition().GetLog()) - int(b.GetPosition().GetLog())
	})
	if len(got) != len(want) || !slices.EqualFunc(ordered, want, func(a, b *audittrailv1.Event) bool { return proto.Equal(a, b) }) {
		t.Fatalf("got %d events over %d streams, want %d", len(got), cuts, len(want))
	}
	t.Logf("%d events over %d streams", len(got), cuts)
}

func TestTailWithoutMatchesAdvancesItsToken(t *testing.T) {
	store := viewstest.NewStore(t)
	g := newGateway(t, store.DSN, options{cfg: views.Config{TailPoll: 20 * time.Millisecond}})
	gen := viewstest.NewGenerator(3, time.Now(), time.Hour)
	stream := g.tail(t, t.Context(), `actor.id = "nobody"`, "")
	first, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
				store.Append(t, 0, gen.Event())
			}
		}
	}()
	next, err := stream.Recv()
	close(stop)
	<-done
	if err != nil || len(next.GetEvents()) != 0 || next.GetResumeToken() == first.GetResumeToken() {
		t.Errorf("%v, %v", next, err)
	}
}

func TestTokensOfOtherPrincipalsAndFiltersAreRefused(t *testing.T) {
	store := viewstest.NewStore(t)
	cfg := views.Config{Key: []byte("0123456789abcdef0123456789abcdef")}
	alice := newGateway(t, store.DSN, options{cfg: cfg, principal: "alice"})
	bob := newGateway(t, store.DSN, options{cfg: cfg, principal: "bob"})
	gen := viewstest.NewGenerator(4, time.Now(), time.Hour)
	store.Append(t, 0, gen.Events(30)...)
	page, err := alice.ListEvents(t.Context(), &audittrailv1.ListEventsRequest{PageSize: 10, Filter: `actor.id != "x"`})
	if err != nil || page.GetNextPageToken() == "" {
		t.Fatal(page, err)
	}
	list := func(g *gateway, filter string) error {
		_, err := g.ListEvents(t.Context(), &audittrailv1.ListEventsRequest{Filter: filter, PageToken: page.GetNextPageToken()})
		return err
	}
	if err := list(alice, `actor.id != "x"`); err != nil {
		t.Error(err)
	}
	wantField(t, list(bob, `actor.id != "x"`), "page_token")
	wantField(t, list(alice, `actor.id != "y"`), "page_token")
	_, err = alice.tail(t, t.Context(), `actor.id != "x"`, page.GetNextPageToken()).Recv()
	wantField(t, err, "resume_token")
}

func TestTooManyTailsAreRefused(t *testing.T) {
	store := viewstest.NewStore(t)
	g := newGateway(t, store.DSN, options{cfg: views.Config{MaxTails: 1}})
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := g.tail(t, ctx, "", "").Recv(); err != nil {
		t.Fatal(err)
	}
	_, err := g.tail(t, t.Context(), "", "").Recv()
	wantCode(t, err, codes.ResourceExhausted)
	cancel()
	eventually(t, "room again", func() bool {
		_, err := g.tail(t, t.Context(), "", "").Recv()
		return err == nil
	})
}

func TestTailWaitsForALogThatWentBack(t *testing.T) {
	store, copied := viewstest.NewStore(t), viewstest.NewStore(t) // a database, and an older copy of it
	cfg := views.Config{Key: []byte("0123456789abcdef0123456789abcdef"), TailPoll: 20 * time.Millisecond}
	before, after := newGateway(t, store.DSN, options{cfg: cfg}), newGateway(t, copied.DSN, options{cfg: cfg})
	gen := viewstest.NewGenerator(5, time.Now(), time.Hour)
	events := gen.Events(3)
	store.Append(t, 0, events[:2]...)
	copied.Append(t, 0, events[0])
	first, err := before.tail(t, t.Context(), "", "").Recv()
	if err != nil {
		t.Fatal(err)
	}
	stream := after.tail(t, t.Context(), "", first.GetResumeToken())
	copied.Append(t, 0, events[1]) // filled again
	copied.Append(t, 0, events[2]) // new
	if got := receive(t, stream, 1); len(got) != 1 || !proto.Equal(got[0], stored(events[2], 0, 2)) {
		t.Errorf("got %v", got)
	}
}

// TestTailResumesInTheMiddle cuts a tail off where a response ended in the middle of a row of the tail, and again in the middle of a complete
// bundle.
func TestTailResumesInTheMiddle(t *testing.T) {
	store := viewstest.NewStore(t)
	g := newGateway(t, store.DSN, options{cfg: views.Config{TailPoll: 20 * time.Millisecond}})
	gen := viewstest.NewGenerator(6, time.Now(), time.Hour)
	events := gen.Events(300)
	for _, e := range events {
		e.Details = `{"x":"` + strings.Repeat("y", 30<<10) + `"}` // about 100 of them are a full response
	}
	first, err := g.tail(t, t.Context(), "", "").Recv()
	if err != nil {
		t.Fatal(err)
	}
	token, n := first.GetResumeToken(), 0
	one := func() {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		stream := g.tail(t, ctx, "", token)
		for sent := false; !sent; {
			resp, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range resp.GetEvents() {
				if want := stored(events[n], 0, int64(n)); !proto.Equal(e, want) {
					t.Fatalf("got entry %v, want %d", e.GetPosition(), n)
				}
				n++
				sent = true
			}
			token = resp.GetResumeToken()
		}
	}
	store.Append(t, 0, events[:220]...) // one row
	one()
	if n == 0 || n >= 200 {
		t.Fatalf("the first response has %d events", n)
	}
	one()
	store.Append(t, 0, events[220:]...) // completes the bundle
	for n < len(events) {
		one()
	}
}
