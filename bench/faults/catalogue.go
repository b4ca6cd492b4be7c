package faults

import (
	"context"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/maxviazov/audittrail/bench/stage"
)

// faultKind is what can happen in the random scenario.
type faultKind struct {
	name              string
	weight            int    // how often, among the others
	broker            string // where alone it can happen; empty: everywhere
	of                int    // there are so many to choose from
	shortest, longest time.Duration
	do                func(w *world, which int, lasts time.Duration)
}

// catalogue lists everything that may happen at any time while nothing acknowledged may be lost. Emptying audit-events is not in it: with PostgreSQL
// gone back that is a loss.
var catalogue = []faultKind{
	{name: "kill-emitter", weight: 4, of: worldEmitters, longest: time.Second, do: func(w *world, i int, d time.Duration) { w.kill(w.emitters[i], d) }},
	{name: "kill-enricher", weight: 8, of: worldEnrichers, longest: 2 * time.Second, do: func(w *world, i int, d time.Duration) { w.kill(w.enrichers[i], d) }},
	{name: "kill-sink", weight: 8, of: worldSinks, longest: 2 * time.Second, do: func(w *world, i int, d time.Duration) { w.kill(w.sinks[i], d) }},
	{name: "kill-gateway", weight: 2, of: 1, longest: 2 * time.Second, do: func(w *world, _ int, d time.Duration) { w.kill(w.gateways[0], d) }},
	{name: "pause-enricher", weight: 5, of: worldEnrichers, shortest: 100 * time.Millisecond, longest: 10 * time.Second,
		do: func(w *world, i int, d time.Duration) { w.pause(w.enrichers[i], d) }},
	{name: "pause-sink", weight: 5, of: worldSinks, shortest: 100 * time.Millisecond, longest: 10 * time.Second,
		do: func(w *world, i int, d time.Duration) { w.pause(w.sinks[i], d) }},
	{name: "roll-enrichers", weight: 2, do: func(w *world, _ int, _ time.Duration) { w.roll(w.enrichers) }},
	{name: "roll-sinks", weight: 2, do: func(w *world, _ int, _ time.Duration) { w.roll(w.sinks) }},
	{name: "roll-emitters", weight: 1, do: func(w *world, _ int, _ time.Duration) { w.roll(w.emitters) }},
	{name: "one-more-enricher", weight: 3, shortest: 500 * time.Millisecond, longest: 8 * time.Second, do: func(w *world, _ int, d time.Duration) { w.oneMore(w.moreEnrichers, d) }},
	{name: "one-more-sink", weight: 3, shortest: 500 * time.Millisecond, longest: 8 * time.Second, do: func(w *world, _ int, d time.Duration) { w.oneMore(w.moreSinks, d) }},
	{name: "kill-postgres", weight: 4, longest: 2 * time.Second, do: (*world).killPostgres},
	{name: "hang-postgres", weight: 2, shortest: 100 * time.Millisecond, longest: 5 * time.Second, do: (*world).hangPostgres},
	{name: "older-postgres", weight: 3, shortest: 500 * time.Millisecond, longest: 6 * time.Second, do: (*world).olderPostgres},
	{name: "kill-redis", weight: 2, longest: 2 * time.Second, do: (*world).killRedis},
	{name: "delete-enricher-group", weight: 1, do: func(w *world, _ int, _ time.Duration) { w.resetEnrichers(nil) }},
	{name: "enricher-group-to-latest", weight: 1, do: func(w *world, _ int, _ time.Duration) { w.resetEnrichers(w.admin.ListEndOffsets) }},
	{name: "enricher-group-to-earliest", weight: 1, do: func(w *world, _ int, _ time.Duration) { w.resetEnrichers(w.admin.ListStartOffsets) }},
	{name: "empty-records", weight: 2, do: func(w *world, _ int, _ time.Duration) { w.empty("audit-records") }},
	{name: "kill-broker", weight: 3, broker: "kafka", longest: 2 * time.Second, do: (*world).killBroker},
}

// kill kills a process and starts it again after a while.
func (w *world) kill(p *stage.Process, down time.Duration) {
	defer w.hold(p)()
	p.Kill9()
	w.sleep(down)
	if err := p.Start(); err != nil {
		w.t.Error(err)
	}
}

// pause stops a process in its tracks; beyond the session time-out of its group it is a zombie when it goes on.
func (w *world) pause(p *stage.Process, d time.Duration) {
	defer w.hold(p)()
	p.Pause()
	w.sleep(d)
	p.Resume()
}

// roll restarts processes in good order, one after the other.
func (w *world) roll(processes []*stage.Process) {
	for _, p := range processes {
		release := w.hold(p)
		w.stopAll([]*stage.Process{p})
		if err := p.Start(); err != nil {
			w.t.Error(err)
		}
		release()
	}
}

// oneMore lets another member join for a while.
func (w *world) oneMore(p *stage.Process, d time.Duration) {
	defer w.hold(p)()
	if err := p.Start(); err != nil {
		w.t.Error(err)
	}
	w.sleep(d)
	w.stopAll([]*stage.Process{p})
}

func (w *world) killPostgres(_ int, down time.Duration) {
	defer w.hold(w.postgres)()
	w.postgres.Kill9(w.t)
	w.sleep(down)
	w.postgres.Start(w.t)
}

func (w *world) hangPostgres(_ int, d time.Duration) {
	defer w.hold(w.postgres)()
	w.signalPostgres(syscall.SIGSTOP)
	w.sleep(d)
	w.signalPostgres(syscall.SIGCONT)
}

// olderPostgres makes a copy, and lets it take the place of the server when it is so old.
func (w *world) olderPostgres(_ int, age time.Duration) {
	defer w.hold(w.postgres)()
	copied := onlineCopy(w.t, w.postgres)
	w.sleep(age)
	swapIn(w.t, w.postgres, copied)
}

// killRedis kills it; it comes back empty.
func (w *world) killRedis(_ int, down time.Duration) {
	defer w.hold(w.redis)()
	w.redis.Stop()
	w.sleep(down)
	w.redis.Start(w.t)
}

// resetEnrichers gives the enrichers' group other commits, or none, while its members are away: a running group cannot be changed.
func (w *world) resetEnrichers(to func(context.Context, ...string) (kadm.ListedOffsets, error)) {
	for _, p := range append(w.enrichers, w.moreEnrichers) {
		defer w.hold(p)()
	}
	w.stopAll(w.enrichers)
	w.whenEmpty(func() error {
		if to == nil {
			_, err := w.admin.DeleteGroup(w.t.Context(), "audit-enricher")
			return err
		}
		offsets, err := to(w.t.Context(), "audit-events")
		if err != nil {
			return err
		}
		return w.admin.CommitAllOffsets(w.t.Context(), "audit-enricher", offsets.Offsets())
	})
	w.startAll(w.enrichers)
}

func (w *world) killBroker(_ int, down time.Duration) {
	defer w.hold(w.cluster)()
	for _, v := range w.cluster.victims() {
		v.Kill()
		w.sleep(down)
		if err := v.Start(); err != nil {
			w.t.Error(err)
		}
	}
}
