package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"

	"github.com/maxviazov/audittrail/bench/load"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// readers ask all gateways in turn for events that are stored, through a client that tries again on UNAVAILABLE and on nothing else.
type readers struct {
	ctx   context.Context
	query audittrailv1.QueryServiceClient
	ids   []string
	reads atomic.Int64
	stop  chan struct{}
	work  sync.WaitGroup

	mu      sync.Mutex
	errors  int
	reasons []string
	slowest time.Duration
}

// retryUnavailable is a client's service config (gRFC A6).
const retryUnavailable = `{"loadBalancingConfig": [{"round_robin": {}}], "methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 5,
	"initialBackoff": "0.1s", "maxBackoff": "2s", "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]}}]}`

// startReaders starts n readers of the first 50 events of the feed, once all of those are stored.
func (s *system) startReaders(f *feed, n int) *readers {
	s.t.Helper()
	target, dial := everyOne(s.gatewayAddrs)
	conn, err := grpc.NewClient(target, append(dial, grpc.WithDefaultServiceConfig(retryUnavailable))...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	r := &readers{ctx: s.t.Context(), query: audittrailv1.NewQueryServiceClient(conn), stop: make(chan struct{})}
	for i := range 50 {
		r.ids = append(r.ids, uuid.UUID(load.ID(f.shape.Event(i))).String())
	}
	for _, addr := range s.gatewayHTTP {
		waitFor(s.t, "every gateway is ready", 30*time.Second, func() bool { return ready(addr) })
	}
	waitFor(s.t, "the events to be read are stored", time.Minute, func() bool {
		for _, id := range r.ids {
			if r.get(id) != nil {
				return false
			}
		}
		return true
	})
	for i := range n {
		r.work.Go(func() { r.read(rand.New(rand.NewPCG(s.t.Seed, uint64(i)))) })
	}
	return r
}

func (r *readers) get(id string) error {
	ctx, cancel := context.WithTimeout(r.ctx, 10*time.Second)
	defer cancel()
	got, err := r.query.GetEvent(ctx, &audittrailv1.GetEventRequest{Id: id})
	if err == nil && got.GetEvent().GetId() != id {
		err = fmt.Errorf("asked for %s, got %s", id, got.GetEvent().GetId())
	}
	return err
}

func (r *readers) list() error {
	ctx, cancel := context.WithTimeout(r.ctx, 10*time.Second)
	defer cancel()
	page, err := r.query.ListEvents(ctx, &audittrailv1.ListEventsRequest{PageSize: 10})
	if err == nil && len(page.GetEvents()) != 10 {
		err = fmt.Errorf("a page has %d of 10 events", len(page.GetEvents()))
	}
	return err
}

func (r *readers) read(random *rand.Rand) {
	for {
		select {
		case <-r.stop:
			return
		case <-time.After(20 * time.Millisecond):
		}
		began := time.Now()
		var err error
		if random.IntN(5) == 0 {
			err = r.list()
		} else {
			err = r.get(r.ids[random.IntN(len(r.ids))])
		}
		r.reads.Add(1)
		r.mu.Lock()
		r.slowest = max(r.slowest, time.Since(began))
		if err != nil {
			if r.errors++; r.errors <= 5 {
				r.reasons = append(r.reasons, err.Error())
			}
		}
		r.mu.Unlock()
	}
}

// end checks that no reader saw an error.
func (r *readers) end(t *T) {
	t.Helper()
	close(r.stop)
	r.work.Wait()
	t.note("readers: %d reads, %d errors, slowest answer after %s", r.reads.Load(), r.errors, r.slowest.Round(time.Millisecond))
	if r.errors > 0 {
		t.Errorf("readers saw %d errors: %q", r.errors, r.reasons)
	}
}
