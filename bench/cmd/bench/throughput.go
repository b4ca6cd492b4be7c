package main

import (
	"context"
	"fmt"
	"runtime"
	"syscall"
	"time"

	"google.golang.org/grpc"

	"github.com/maxviazov/audittrail/bench/load"
	"github.com/maxviazov/audittrail/bench/stage"
	"github.com/maxviazov/audittrail/bench/traffic"
)

// throughput sends events as fast as they are taken and waits until all are stored.
func (r *rig) throughput(ctx context.Context) error {
	warming := time.Now()
	shape := traffic.Shape{Seed: uint64(time.Now().UnixNano()), Sources: r.sources, Run: r.batch, Start: time.Now().Add(-time.Hour)}
	for sent := 0; sent < r.warmup; sent += warmupPart { // in parts: what is encoded stands in memory
		n := min(warmupPart, r.warmup-sent)
		say("warming up: events %d to %d of %d", sent, sent+n, r.warmup)
		run, err := r.prepare(shape, sent, n)
		if err != nil {
			return err
		}
		if err := run(ctx); err != nil {
			return err
		}
	}
	if err := r.awaitStored(ctx, int64(r.warmup), 5*time.Minute); err != nil {
		return err
	}
	warmed := time.Since(warming)
	var wal int64
	if err := r.pool.QueryRow(ctx, "SELECT (pg_current_wal_lsn() - '0/0')::int8").Scan(&wal); err != nil {
		return err
	}
	say("encoding %d events", r.events)
	run, err := r.prepare(shape, r.warmup, r.events)
	if err != nil {
		return err
	}
	before, err := r.costs()
	if err != nil {
		return err
	}
	say("measuring %d events, mode %s, batches of %d, %d workers", r.events, r.mode, r.batch, r.workers)
	profiled := func() error { return nil }
	if r.profile != "" { // for about as long as the measurement will take
		if profiled, err = r.profiles(ctx, warmed*time.Duration(r.events)/time.Duration(max(1, r.warmup))*8/10); err != nil {
			return err
		}
	}
	start := time.Now()
	stop := r.progress(ctx, start)
	err = run(ctx)
	acked := time.Since(start)
	if err == nil {
		err = r.awaitStored(ctx, int64(r.warmup+r.events), 10*time.Minute)
	}
	stored := time.Since(start)
	stop()
	if err != nil {
		return err
	}
	if err := profiled(); err != nil {
		return err
	}
	after, err := r.costs()
	if err != nil {
		return err
	}
	var walAfter int64
	if err := r.pool.QueryRow(ctx, "SELECT (pg_current_wal_lsn() - '0/0')::int8").Scan(&walAfter); err != nil {
		return err
	}
	n := float64(r.events)
	fmt.Printf("mode %s, broker %s, PostgreSQL %d, %d cores, %s, batches of %d, %d sources, %d partitions, %d events\n",
		r.mode, r.broker, r.postgres, runtime.NumCPU(), runtime.Version(), r.batch, r.sources, r.partitions, r.events)
	var total time.Duration
	for _, name := range []string{"generator", "emitter", "broker", "enricher", "sink", "postgres"} {
		used := after.cpu[name] - before.cpu[name]
		total += used
		fmt.Printf("%-10s %6.2f CPU-s per million events, resident peak %d MiB\n", name, used.Seconds()/n*1e6, after.peak[name]>>20)
	}
	fmt.Printf("whole machine busy %.2f, stolen %.2f CPU-s per million events; acked after %s, WAL %d B an event\n",
		(after.busy-before.busy).Seconds()/n*1e6, (after.steal-before.steal).Seconds()/n*1e6, acked.Round(time.Millisecond), (walAfter-wal)/int64(r.events))
	fmt.Printf("events_per_s=%.0f cpu_s_per_million=%.2f\n", n/stored.Seconds(), total.Seconds()/n*1e6)
	return nil
}

// warmupPart is how many events of the warm-up are encoded at a time.
const warmupPart = 200_000

// prepare encodes n events from number first on, for the mode.
func (r *rig) prepare(shape traffic.Shape, first, n int) (run func(context.Context) error, err error) {
	c := load.Config{Conns: []grpc.ClientConnInterface{r.conn}, Shape: shape, First: first, Events: n, Batch: r.batch, Workers: r.workers}
	switch r.mode {
	case modeStream:
		p, err := load.PrepareStream(c, streamWindow)
		return p.Run, err
	case modeRaw:
		p, err := load.PrepareRaw(c, r.pipeline.Brokers)
		return p.Run, err
	}
	p, err := load.Prepare(c, r.mode == modeUnary)
	return p.Run, err
}

// streamWindow is how many events a stream of the generator has unacknowledged at most.
const streamWindow = 2000

func (r *rig) progress(ctx context.Context, start time.Time) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(2 * time.Second):
				if n, err := r.stored(ctx); err == nil {
					say("%4.0f s: %d of %d stored", time.Since(start).Seconds(), n-int64(r.warmup), r.events)
				}
			}
		}
	}()
	return func() { cancel(); <-done }
}

// costs is what each process has used so far.
type costs struct {
	cpu         map[string]time.Duration
	peak        map[string]int64
	busy, steal time.Duration
}

func (r *rig) costs() (c costs, err error) {
	c = costs{cpu: map[string]time.Duration{}, peak: map[string]int64{}}
	var self syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &self); err != nil {
		return c, fmt.Errorf("usage of the generator: %w", err)
	}
	c.cpu["generator"] = time.Duration(self.Utime.Nano() + self.Stime.Nano())
	c.peak["generator"] = self.Maxrss << 10
	processes := map[string]*stage.Process{"emitter": r.emitter, "enricher": r.enricher, "sink": r.sink}
	if r.kfake != nil {
		processes["broker"] = r.kfake
	}
	for name, p := range processes {
		u, err := p.Usage()
		if err != nil {
			return c, err
		}
		c.cpu[name], c.peak[name] = u.CPU, u.Peak
	}
	if r.kafka != nil {
		u, err := stage.UsageOf(r.kafka.Pid(0))
		if err != nil {
			return c, err
		}
		c.cpu["broker"], c.peak["broker"] = u.CPU, u.Peak
	}
	pid, err := r.server.Pid()
	if err != nil {
		return c, err
	}
	if c.cpu["postgres"], err = stage.TreeCPU(pid); err != nil {
		return c, err
	}
	c.busy, c.steal, err = stage.MachineCPU()
	return c, err
}
