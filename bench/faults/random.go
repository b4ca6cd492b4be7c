package faults

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/maxviazov/audittrail/bench/load"
	"github.com/maxviazov/audittrail/bench/stage"
	"github.com/maxviazov/audittrail/bench/traffic"
)

var randomScenarios = []Scenario{
	{ID: "F25-random", Title: "everything of the catalogue at random moments, under load of every kind: judged after each round, and a schedule that fails is made small",
		Quick: true, Run: random},
}

const (
	worldEmitters, worldEnrichers, worldSinks = 2, 2, 2

	roundLength = 20 * time.Second // of faults, before everything is judged
	randomRate  = 600              // events/s
)

// random makes a schedule, or reads one, plays it, and makes it small when it fails.
func random(t *T) {
	acts := makeSchedule(t.Seed, max(t.For, roundLength), roundLength, t.Broker)
	if t.Schedule != "" {
		file, err := os.Open(t.Schedule)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if acts, err = parseSchedule(file); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("schedule of seed %d:\n%s", t.Seed, writeSchedule(acts))
	broken := play(t, acts)
	if broken < 0 {
		return
	}
	// What comes after the round that failed cannot be the reason.
	for len(acts) > 0 && acts[len(acts)-1].round > broken {
		acts = acts[:len(acts)-1]
	}
	if t.Shrink == 0 {
		t.note("the schedule up to the round that failed:\n%s", writeSchedule(acts))
		return
	}
	end := time.Now().Add(t.Shrink)
	tries := 0
	small := shrink(acts, func(part []act) (failed, ok bool) {
		if time.Now().After(end) || t.Context().Err() != nil {
			return false, false
		}
		tries++
		r := runScenario(t.Context(), t.Settings, fmt.Sprintf("%s/%d", t.name, tries), func(string) {}, func(t *T) { play(t, part) })
		t.Logf("try %d: %d of %d faults: %s", tries, len(part), len(acts), r.word())
		return len(r.Failures) > 0, true
	})
	t.note("a schedule of %d faults, of %d, that fails as well (%d tries; play it with -schedule FILE F25-random):\n%s", len(small), len(acts), tries, writeSchedule(small))
	if t.Keep != "" {
		if err := os.WriteFile(filepath.Join(t.Keep, "schedule"), []byte(writeSchedule(small)), 0o600); err != nil {
			t.Error(err)
		}
	}
}

// world is the system of a random run. What breaks something holds it meanwhile, so that nobody else starts what is dead on purpose.
type world struct {
	*refilling
	moreEnrichers, moreSinks *stage.Process // run only at times

	mu    sync.Mutex
	locks map[any]*sync.Mutex
}

// hold waits until nobody else breaks the thing, and returns what to call at the end.
func (w *world) hold(thing any) (release func()) {
	w.mu.Lock()
	lock := w.locks[thing]
	if lock == nil {
		lock = new(sync.Mutex)
		w.locks[thing] = lock
	}
	w.mu.Unlock()
	lock.Lock()
	return lock.Unlock
}

// sleep ends with the scenario.
func (w *world) sleep(d time.Duration) {
	select {
	case <-w.t.Context().Done():
	case <-time.After(d):
	}
}

// play plays a schedule and returns the first round after which something is wrong, or -1.
func play(t *T, acts []act) (broken int) {
	broken = 0 // also if it cannot start
	s := startSystem(t, systemConfig{cluster: t.kafka(), partitions: 4, emitters: worldEmitters, enrichers: worldEnrichers, sinks: worldSinks, gateways: 1})
	f := s.newFeed(traffic.Shape{Seed: t.Seed, Sources: 60, Run: 7, Sizes: true})
	addrs, err := stage.FreeAddrs(2)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{refilling: newRefilling(s, f), moreEnrichers: s.Enricher(worldEnrichers, addrs[0]), moreSinks: s.Sink(worldSinks, addrs[1]), locks: map[any]*sync.Mutex{}}
	t.Cleanup(func() { w.moreEnrichers.Kill9(); w.moreSinks.Kill9() })
	rounds := 0
	for _, a := range acts {
		rounds = max(rounds, a.round+1)
	}
	for broken = range rounds {
		var ofRound []act
		for _, a := range acts {
			if a.round == broken {
				ofRound = append(ofRound, a)
			}
		}
		if len(ofRound) == 0 {
			continue
		}
		// A part that ends by Fatal ends the round alone: the caller asks whether it failed.
		t.wait(func() { w.round(broken, ofRound) })
		if t.Failed() {
			return broken
		}
	}
	return -1
}

// round sends traffic while the faults of a round happen, waits for both, and judges.
func (w *world) round(number int, acts []act) {
	began := time.Now()
	last := acts[len(acts)-1]
	length := last.at + last.lasts + time.Second
	done := make(chan error, 1)
	go func() {
		_, err := w.feed.send(w.t.Context(), int(randomRate*length.Seconds()), load.Config{Batch: 50, Workers: 8, Mixed: true, Rate: randomRate, DuplicatePercent: 5})
		done <- err
	}()
	var under sync.WaitGroup
	for _, a := range acts {
		w.sleep(time.Until(began.Add(a.at)))
		w.t.Logf("round %d, %5.1f s: %s %d, %s; %d acked", number, time.Since(began).Seconds(), a.kind, a.which, a.lasts, w.feed.progress.Acked.Load())
		for _, k := range catalogue {
			if k.name == a.kind {
				under.Go(func() { w.t.wait(func() { k.do(w, min(a.which, max(0, k.of-1)), a.lasts) }) })
			}
		}
	}
	under.Wait()
	over := time.Now()
	ctx, cancel := context.WithTimeoutCause(w.t.Context(), 2*time.Minute, fmt.Errorf("not everything was acknowledged within 2 min after the last fault"))
	defer cancel()
	select {
	case err := <-done:
		if err != nil {
			w.t.Fatal(err)
		}
	case <-ctx.Done():
		w.t.Fatal(context.Cause(ctx))
	}
	w.await("the gateway is ready", time.Minute, func() bool { return ready(w.gatewayHTTP[0]) })
	w.expectClean(w.feed)
	w.t.note("round %d: %d faults; everything stored and judged %s after the last one was over", number, len(acts), time.Since(over).Round(time.Second))
}
