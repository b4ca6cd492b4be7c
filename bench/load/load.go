// Package load sends traffic, through the emitter and past it, until every event of it is acknowledged, whatever
// fails meanwhile, and keeps a ledger of it.
package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/google/uuid"

	"github.com/maxviazov/audittrail/bench/ledger"
	"github.com/maxviazov/audittrail/bench/traffic"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// Config says what to send.
type Config struct {
	// Conns are connections to emitters; workers share them out.
	Conns []grpc.ClientConnInterface
	// Shape makes the events; they are numbered from First.
	Shape traffic.Shape
	First int
	// Events is how many different events are sent.
	Events int
	// Batch is how many events one call carries, 1 to 1,000.
	Batch int
	// Workers is how many calls are under way at a time.
	Workers int
	// Mixed sends each batch by one of all the ways there are, chosen at random: see ways.go. Brokers is needed for it.
	Mixed bool
	// Brokers are those of Kafka, for raw producers.
	Brokers []string
	// DuplicatePercent of the batches are sent once more, the same bytes, after their acknowledgement; when Mixed, by any way.
	DuplicatePercent int
	// Rate bounds the events per second; 0: as fast as the emitter takes them.
	Rate int
	// Ledger records intents and acknowledgements; nil: none is kept, for benchmarks.
	Ledger *ledger.Ledger
	// Timeout of one call. Default: 15 s.
	Timeout time.Duration
}

func (c Config) withDefaults() Config {
	if c.Timeout == 0 {
		c.Timeout = 15 * time.Second
	}
	return c
}

// Report says what happened.
type Report struct {
	Acked      int64 // different events acknowledged
	Duplicates int64 // events sent again on purpose
	Retries    int64 // calls or events that had to be sent again
	Elapsed    time.Duration
	Slowest    time.Duration // from the first try of a batch to its acknowledgement
}

// Progress is read while Run is under way.
type Progress struct{ Acked atomic.Int64 }

// Run sends everything and returns when all of it is acknowledged or ctx ends. An answer that refuses
// an event for good is an error: the traffic is valid.
func Run(ctx context.Context, c Config, p *Progress) (Report, error) {
	c = c.withDefaults()
	start := time.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var duplicates, retries, slowest atomic.Int64
	var mixed []way
	if c.Mixed {
		var err error
		var end func()
		if mixed, end, err = c.allWays(&retries); err != nil {
			return Report{}, err
		}
		defer end()
	}
	var wg sync.WaitGroup
	for w := range c.Workers {
		wg.Go(func() {
			ways := mixed
			if !c.Mixed {
				ways = []way{batches{c.Conns[w%len(c.Conns) : w%len(c.Conns)+1], c.Timeout, &retries}}
			}
			r := rand.New(rand.NewPCG(c.Shape.Seed, uint64(w)))
			for ctx.Err() == nil {
				from := int(next.Add(int64(c.Batch))) - c.Batch
				if from >= c.Events {
					return
				}
				if c.Rate > 0 {
					due := start.Add(time.Duration(float64(from) / float64(c.Rate) * float64(time.Second)))
					if !sleep(ctx, time.Until(due)) {
						return
					}
				}
				began := time.Now()
				s := sender{Config: c, progress: p}
				events, err := s.send(ctx, ways[r.IntN(len(ways))], from, min(from+c.Batch, c.Events))
				if err != nil {
					cancel(err)
					return
				}
				if took := time.Since(began).Nanoseconds(); took > slowest.Load() {
					slowest.Store(took)
				}
				if r.IntN(100) < c.DuplicatePercent {
					if err := ways[r.IntN(len(ways))].deliver(ctx, events); err != nil {
						cancel(err)
						return
					}
					duplicates.Add(int64(len(events)))
				}
			}
		})
	}
	wg.Wait()
	report := Report{Acked: p.Acked.Load(), Duplicates: duplicates.Load(), Retries: retries.Load(), Elapsed: time.Since(start), Slowest: time.Duration(slowest.Load())}
	return report, context.Cause(ctx)
}

type sender struct {
	Config
	progress *Progress
}

// send sends the events [from, to) with intents before and acknowledgements after.
func (s *sender) send(ctx context.Context, w way, from, to int) ([]*audittrailv1.Event, error) {
	events := make([]*audittrailv1.Event, 0, to-from)
	for i := from; i < to; i++ {
		events = append(events, s.Shape.Event(s.First+i))
	}
	var entries []ledger.Entry
	if s.Ledger != nil {
		for _, e := range events {
			hash, err := ledger.Hash(e)
			if err != nil {
				return nil, err
			}
			entries = append(entries, ledger.Entry{ID: ID(e), Hash: hash})
		}
		if err := s.Ledger.Intend(entries); err != nil {
			return nil, err
		}
	}
	if err := w.deliver(ctx, events); err != nil {
		return nil, err
	}
	if s.Ledger != nil {
		if err := s.Ledger.Acknowledge(entries); err != nil {
			return nil, err
		}
	}
	s.progress.Acked.Add(int64(len(events)))
	return events, nil
}

func unacked(events []*audittrailv1.Event, response *audittrailv1.BatchEmitEventsResponse) ([]*audittrailv1.Event, error) {
	if len(response.GetResults()) != len(events) {
		return nil, fmt.Errorf("%d results for %d events", len(response.GetResults()), len(events))
	}
	var open []*audittrailv1.Event
	for i, r := range response.GetResults() {
		if id := r.GetId(); id != "" {
			if want := uuid.UUID(ID(events[i])).String(); id != want {
				return nil, fmt.Errorf("event %d was acknowledged as %s, want %s", i, id, want)
			}
			continue
		}
		if code := codes.Code(r.GetStatus().GetCode()); !retryable(code) {
			return nil, fmt.Errorf("event %d was refused: %s: %s", i, code, r.GetStatus().GetMessage())
		}
		open = append(open, events[i])
	}
	return open, nil
}

func retryable(code codes.Code) bool {
	switch code {
	case codes.Unavailable, codes.ResourceExhausted, codes.DeadlineExceeded, codes.Aborted, codes.Canceled:
		return true
	}
	return false
}

func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
