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
	say("warming up with %d events", r.warmup)
	shape := traffic.Shape{Seed: uint64(time.Now().UnixNano()), Sources: r.sources, Run: r.batch, Start: time.Now().Add(-time.Hour)}
	if err := r.send(ctx, shape, 0, r.warmup); err != nil {
		return err
	}
	if err := r.awaitStored(ctx, int64(r.warmup), 2*time.Minute); err != nil {
		return err
	}
	var wal int64
	if err := r.pool.QueryRow(ctx, "SELECT (pg_current_wal_lsn() - '0/0')::int8").Scan(&wal); err != nil {
		return err
	}
	before, err := r.costs()
	if err != nil {
		return err
	}
	say("measuring %d events, batches of %d, %d calls at a time", r.events, r.batch, r.workers)
	start := time.Now()
	stop := r.progress(ctx, start)
	err = r.send(ctx, shape, r.warmup, r.events)
	acked := time.Since(start)
	if err == nil {
		err = r.awaitStored(ctx, int64(r.warmup+r.events), 10*time.Minute)
	}
	stored := time.Since(start)
	stop()
	if err != nil {
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
	fmt.Printf("broker %s, PostgreSQL %d, %d cores, %s, batches of %d, %d sources, %d partitions, %d events\n",
		r.broker, r.postgres, runtime.NumCPU(), runtime.Version(), r.batch, r.sources, r.partitions, r.events)
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

func (r *rig) send(ctx context.Context, shape traffic.Shape, first, events int) error {
	_, err := load.Run(ctx, load.Config{Conns: []grpc.ClientConnInterface{r.conn}, Shape: shape, First: first, Events: events,
		Batch: r.batch, Workers: r.workers}, &load.Progress{})
	return err
}

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
