package faults

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/maxviazov/audittrail/bench/ledger"
	"github.com/maxviazov/audittrail/bench/load"
	"github.com/maxviazov/audittrail/bench/traffic"
	"github.com/maxviazov/audittrail/emitters/client"
)

// producers send events through the client library, as a service of somebody else's would, and keep a ledger. What the library tells
// them is what a caller of it sees: with its retries inside, every error counts.
type producers struct {
	client *client.Client
	ledger *ledger.Ledger
	shape  traffic.Shape
	next   atomic.Int64 // number of the next event
	acked  atomic.Int64
	stop   chan struct{}
	work   sync.WaitGroup

	mu      sync.Mutex
	errors  int
	reasons []string      // the first few
	slowest time.Duration // from Emit to the result
}

// together is how many events a producer sends before it waits for all of them: one fsync of the ledger for each lot.
const together = 10

// startProducers starts n producers that send rate events/s together, through one client, to all addresses in turn.
func startProducers(t *T, l *ledger.Ledger, shape traffic.Shape, addrs []string, n, rate int) *producers {
	t.Helper()
	target, dial := everyOne(addrs)
	c, err := client.New(target, client.Options{DialOptions: dial})
	if err != nil {
		t.Fatal(err)
	}
	p := &producers{client: c, ledger: l, shape: shape, stop: make(chan struct{})}
	every := time.Second * time.Duration(n*together) / time.Duration(rate)
	for range n {
		p.work.Go(func() {
			due := time.NewTicker(every)
			defer due.Stop()
			for {
				select {
				case <-p.stop:
					return
				case <-due.C:
					p.send(t.Context())
				}
			}
		})
	}
	return p
}

// everyOne is a gRPC target for all the addresses, of which each call takes the next that is there.
func everyOne(addrs []string) (string, []grpc.DialOption) {
	builder := manual.NewBuilderWithScheme("faults")
	var state resolver.State
	for _, addr := range addrs {
		state.Addresses = append(state.Addresses, resolver.Address{Addr: addr})
	}
	builder.InitialState(state)
	return builder.Scheme() + ":///all", []grpc.DialOption{grpc.WithResolvers(builder), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`)}
}

// send sends one lot and waits for its results.
func (p *producers) send(ctx context.Context) {
	first := int(p.next.Add(together)) - together
	var entries, acked []ledger.Entry
	began := time.Now()
	for i := range together {
		e := p.shape.Event(first + i)
		hash, err := ledger.Hash(e)
		if err != nil {
			p.failed(err)
			return
		}
		entries = append(entries, ledger.Entry{ID: load.ID(e), Hash: hash})
	}
	if err := p.ledger.Intend(entries); err != nil {
		p.failed(err)
		return
	}
	deliveries := make([]*client.Delivery, together)
	for i := range together {
		d, err := p.client.Emit(ctx, p.shape.Event(first+i))
		if err != nil {
			p.failed(fmt.Errorf("emit: %w", err))
			continue
		}
		deliveries[i] = d
	}
	for i, d := range deliveries {
		if d == nil {
			continue
		}
		if err := d.Wait(ctx); err != nil {
			p.failed(fmt.Errorf("delivery: %w", err))
		} else {
			acked = append(acked, entries[i])
		}
	}
	if err := p.ledger.Acknowledge(acked); err != nil {
		p.failed(err)
		return
	}
	p.acked.Add(int64(len(acked)))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.slowest = max(p.slowest, time.Since(began))
}

func (p *producers) failed(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.errors++
	if len(p.reasons) < 5 {
		p.reasons = append(p.reasons, err.Error())
	}
}

// end lets what is under way get its result, and checks that no producer saw an error.
func (p *producers) end(t *T) {
	t.Helper()
	close(p.stop)
	p.work.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := p.client.Close(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("the client ends with an error: %v", err)
	}
	t.note("through the client library: %d events acknowledged, %d errors, slowest result after %s", p.acked.Load(), p.errors, p.slowest.Round(time.Millisecond))
	if p.errors > 0 {
		t.Errorf("producers saw %d errors through the client library: %q", p.errors, p.reasons)
	}
}
