package views_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/views"
	"github.com/maxviazov/audittrail/views/viewstest"
)

// TestReadersSeeEveryEntryWhileBundlesAreCompleted reads the newest events while the writer moves them from the tail into segments: at
// every moment each stored event is found, in one or the other.
func TestReadersSeeEveryEntryWhileBundlesAreCompleted(t *testing.T) {
	store := viewstest.NewStore(t)
	g := newGateway(t, store.DSN, options{cfg: views.Config{TailPoll: 10 * time.Millisecond}})
	gen := viewstest.NewGenerator(1, time.Now(), time.Minute)
	var reads atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var running sync.WaitGroup
	read := func(call func() error) {
		running.Go(func() {
			for ctx.Err() == nil {
				if err := call(); err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
				reads.Add(1)
			}
		})
	}
	ids := make(chan string, 1000)
	read(func() error { // never in memory
		select {
		case id := <-ids:
			_, err := g.GetEvent(ctx, &audittrailv1.GetEventRequest{Id: id})
			return err
		case <-ctx.Done():
			return nil
		}
	})
	read(func() error {
		_, err := g.ListEvents(ctx, &audittrailv1.ListEventsRequest{PageSize: 20})
		return err
	})
	tail := g.tail(t, ctx, "", "")
	if _, err := tail.Recv(); err != nil {
		t.Fatal(err)
	}
	const batches, size = 120, 64 // every fourth batch completes a bundle
	written := make(chan struct{})
	go func() {
		defer close(written)
		for range batches {
			events := gen.Events(size)
			store.Append(t, 0, events...)
			ids <- stored(events[size-1], 0, 0).GetId()
		}
	}()
	if got := receive(t, tail, batches*size); len(got) != batches*size {
		t.Errorf("%d events followed", len(got))
	}
	<-written
	cancel()
	running.Wait()
	t.Logf("%d readings", reads.Load())
}

// TestABundleThatIsCompletedBetweenTwoStatementsIsFound holds the order in which bundles are read, tail first: the reading waits for the
// tail, and before it comes to `segments` the bundle is complete.
func TestABundleThatIsCompletedBetweenTwoStatementsIsFound(t *testing.T) {
	gen := viewstest.NewGenerator(2, time.Now(), time.Minute)
	events := gen.Events(256)
	first := stored(events[0], 0, 0)
	for name, read := range map[string]func(ctx context.Context, g *gateway, token string) (*audittrailv1.Event, error){
		"get": func(ctx context.Context, g *gateway, _ string) (*audittrailv1.Event, error) {
			got, err := g.GetEvent(ctx, &audittrailv1.GetEventRequest{Id: first.GetId()})
			return got.GetEvent(), err
		},
		"tail": func(ctx context.Context, g *gateway, token string) (*audittrailv1.Event, error) {
			stream, err := g.TailEvents(ctx, &audittrailv1.TailEventsRequest{ResumeToken: token})
			for err == nil {
				var resp *audittrailv1.TailEventsResponse
				if resp, err = stream.Recv(); len(resp.GetEvents()) > 0 {
					return resp.GetEvents()[0], nil
				}
			}
			return nil, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			store := viewstest.NewStore(t)
			g := newGateway(t, store.DSN, options{conns: 1})
			ctx, cancel := context.WithCancel(t.Context())
			begin, err := g.tail(t, ctx, "", "").Recv()
			if err != nil {
				t.Fatal(err)
			}
			store.Append(t, 0, events[:255]...)
			// Preparing a statement waits for the lock as well: here they are prepared, on the one connection.
			if _, err := g.GetEvent(t.Context(), &audittrailv1.GetEventRequest{Id: stored(events[1], 0, 1).GetId()}); err != nil {
				t.Fatal(err)
			}
			receive(t, g.tail(t, ctx, "", begin.GetResumeToken()), 1)
			cancel()
			eventually(t, "the streams have ended", func() bool { return g.counter(t, "audittrail_gateway_tails") == 0 })
			type result struct {
				event *audittrailv1.Event
				err   error
			}
			done := make(chan result, 1)
			store.AppendHeld(t, 0, func() {
				go func() {
					got, err := read(t.Context(), g, begin.GetResumeToken())
					done <- result{got, err}
				}()
				eventually(t, "the reading waits for the tail", func() bool {
					var waiting bool
					err := store.Pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'audittrail.tail'::regclass)`).
						Scan(&waiting)
					return err == nil && waiting
				})
			}, events[255])
			if r := <-done; r.err != nil || !proto.Equal(r.event, first) {
				t.Errorf("got %v, %v", r.event, r.err)
			}
		})
	}
}
