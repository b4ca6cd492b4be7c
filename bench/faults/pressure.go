package faults

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/maxviazov/audittrail/bench/load"
	"github.com/maxviazov/audittrail/bench/traffic"
)

// pressure is load that goes on until it is ended: half of it through the client library, half in plain calls that are made again when
// they fail. It comes into every partition every few milliseconds, so that a partition that stands still is seen.
type pressure struct {
	*system
	feed      *feed
	producers *producers
	watch     *stallWatch
	stop      context.CancelFunc
	done      chan error
	worst     map[string]time.Duration // of each fault
	times     map[string]int           // how often there was each
}

// press starts load of about so many events/s, and returns when every partition stores.
func (s *system) press(seed uint64, rate int) *pressure {
	s.t.Helper()
	f := s.newFeed(traffic.Shape{Seed: seed, Sources: 120, Run: 1})
	library := f.shape
	library.Seed += 1000
	ctx, stop := context.WithCancel(s.t.Context())
	p := &pressure{system: s, feed: f, stop: stop, done: make(chan error, 1), worst: map[string]time.Duration{}, times: map[string]int{},
		watch: watchStalls(s.t, s.postgres.DSN(), s.Partitions)}
	go func() {
		_, err := f.send(ctx, 1<<30, load.Config{Batch: 10, Workers: 4, Rate: rate / 2, DuplicatePercent: 5, Timeout: 5 * time.Second})
		p.done <- err
	}()
	p.producers = startProducers(s.t, f.ledger, library, s.emitterAddrs, 3, rate/2)
	s.await("every partition stores", time.Minute, func() bool { return p.watch.grown(time.Time{}, 5) })
	return p
}

// fault does something, waits until every partition has gone on for a while, and keeps the longest stall of a partition: from the last
// event stored before to the first one after. Of faults of the same name the report says the worst.
func (p *pressure) fault(name string, do func()) {
	p.t.Helper()
	begin := time.Now()
	do()
	p.goOn(name)
	stall, partition := p.watch.longest(begin, time.Now())
	p.t.Logf("%s: longest stall %d ms (partition %d), %d events acknowledged so far", name, stall.Milliseconds(), partition, p.acked())
	p.took(name, stall)
}

// took keeps a time for the report.
func (p *pressure) took(name string, d time.Duration) {
	p.worst[name] = max(p.worst[name], d)
	p.times[name]++
}

// goOn waits until every partition has stored something several times from now on.
func (p *pressure) goOn(after string) {
	p.t.Helper()
	now := time.Now()
	p.await("every partition goes on after: "+after, time.Minute, func() bool { return p.watch.grown(now, 4) })
}

// report tells the report the worst time of each fault. Over the bound is a failure, over the goal is said.
func (p *pressure) report(goal, bound time.Duration) {
	p.t.Helper()
	for _, name := range slices.Sorted(maps.Keys(p.worst)) {
		p.t.recovered(fmt.Sprintf("%s (worst of %d)", name, p.times[name]), p.worst[name], goal)
		if p.worst[name] > bound {
			p.t.Errorf("%s: it took %s to go on, bound is %s", name, p.worst[name], bound)
		}
	}
}

func (p *pressure) acked() int { return int(p.feed.progress.Acked.Load() + p.producers.acked.Load()) }

// end ends the load. What was under way in plain calls is not acknowledged, or stands in the ledger.
func (p *pressure) end() {
	p.t.Helper()
	p.stop()
	if err := <-p.done; !errors.Is(err, context.Canceled) {
		p.t.Fatalf("the load ended by itself: %v", err)
	}
	p.producers.end(p.t)
	p.feed.sent = p.acked()
	p.t.note("%d events were acknowledged meanwhile", p.feed.sent)
}

// endClean ends the load and judges. Nothing that was lost between the stages may have had to be made again.
func (p *pressure) endClean() {
	p.t.Helper()
	p.end()
	p.expectUntouched(p.feed)
}
