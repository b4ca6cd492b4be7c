package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

func newDemo() *cobra.Command {
	var rate float64
	var events int
	var seed uint64
	cmd := &cobra.Command{Use: "demo", Short: "Record the traffic of an imaginary company at a chosen rate, until stopped", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if rate <= 0 || rate > 100_000 {
				return usagef("--rate is %v, must be above 0 and at most 100000", rate)
			}
			if events < 0 {
				return usagef("--events is %d, must be 0 or more", events)
			}
			conn, err := connect(cmd)
			if err != nil {
				return err
			}
			defer conn.Close()
			fmt.Fprintf(cmd.ErrOrStderr(), "recording about %g events a second through %s; Ctrl-C stops it\n", rate, conn.Target())
			d := &demo{client: audittrailv1.NewEmitterServiceClient(conn), company: newCompany(seed), rate: rate, limit: events}
			err = d.run(cmd.Context(), func(line string) { fmt.Fprintln(cmd.ErrOrStderr(), line) })
			fmt.Fprintf(cmd.OutOrStdout(), "recorded %d events, rejected %d\n", d.accepted, d.rejected)
			if err == nil && d.rejected > 0 {
				return refusedf("%s rejected", number(d.rejected, "event"))
			}
			return err
		}}
	cmd.Flags().Float64Var(&rate, "rate", 20, "events a second, at most 100000")
	cmd.Flags().IntVar(&events, "events", 0, "stop after so many; 0: until interrupted")
	cmd.Flags().Uint64Var(&seed, "seed", 1, "the same seed is the same company")
	addAddr(cmd)
	return cmd
}

const (
	demoTick     = 50 * time.Millisecond
	demoInFlight = 8               // requests
	demoGrace    = 3 * time.Second // for what is under way when it is stopped
)

type demo struct {
	client  audittrailv1.EmitterServiceClient
	company *company
	rate    float64
	limit   int // 0: none

	mu       sync.Mutex // guards what follows
	accepted int
	rejected int
	failed   error
}

// run sends on a clock of its own: when the server is slower than the rate, what would be due waits, and is not made up for beyond a second.
// Stopped in between, it waits a moment for what is under way.
func (d *demo) run(ctx context.Context, note func(string)) error {
	sending, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(demoGrace, stop) })()
	slots := make(chan struct{}, demoInFlight)
	var under sync.WaitGroup
	defer under.Wait()
	tick := time.NewTicker(demoTick)
	defer tick.Stop()
	began, lastNote := time.Now(), time.Now()
	due, made := 0.0, 0
	for last := began; ; {
		select {
		case <-ctx.Done():
			under.Wait()
			return d.error()
		case <-tick.C:
		}
		if err := d.error(); err != nil {
			return err
		}
		now := time.Now()
		due = min(due+now.Sub(last).Seconds()*d.rate, d.rate+1)
		last = now
		for due >= 1 && (d.limit == 0 || made < d.limit) {
			n := min(int(due), sendEvents)
			if d.limit > 0 {
				n = min(n, d.limit-made)
			}
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				under.Wait()
				return d.error()
			}
			batch := make([]*audittrailv1.Event, n)
			for i := range batch { // they happened since the tick before, evenly
				batch[i] = d.company.next(now.Add(-time.Duration(float64(n-1-i) / d.rate * float64(time.Second))))
			}
			due, made = due-float64(n), made+n
			under.Go(func() {
				defer func() { <-slots }()
				d.send(sending, batch)
			})
		}
		if d.limit > 0 && made >= d.limit {
			under.Wait()
			return d.error()
		}
		if now.Sub(lastNote) >= 5*time.Second {
			lastNote = now
			note(fmt.Sprintf("recorded %d events in %s", d.count(), now.Sub(began).Round(time.Second)))
		}
	}
}

func (d *demo) send(ctx context.Context, batch []*audittrailv1.Event) {
	outcomes, err := send(ctx, d.client, batch, nil)
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, o := range outcomes {
		switch {
		case o.status == nil:
			d.accepted++
		case !mayRetry(o.status):
			d.rejected++
		}
	}
	if err != nil && d.failed == nil {
		d.failed = err
	}
}

func (d *demo) error() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failed
}

func (d *demo) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.accepted
}
