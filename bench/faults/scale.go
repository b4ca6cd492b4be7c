package faults

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/maxviazov/audittrail/bench/load"
	"github.com/maxviazov/audittrail/bench/stage"
	"github.com/maxviazov/audittrail/bench/traffic"
)

// The bounds catch goka's own 5 s of sleep before it joins again. The goal for joining and leaving is goalStall; a member that is
// killed is missed only after the group's session time-out of 6 s.
const (
	goalStall    = 1500 * time.Millisecond
	goalRecovery = 15 * time.Second // from a fault to the first event stored
	boundJoin    = 4500 * time.Millisecond
	boundKilled  = 6*time.Second + boundJoin
)

var scaleScenarios = []Scenario{
	{ID: "F13-scale", Title: "enrichers and sinks scaled from 1 to 4 and back under load, one killed on the way: nothing lost, no partition stands still for long",
		Quick: true, Alone: true, Run: scaleUnderLoad},
}

// scaleUnderLoad scales enrichers and sinks from one to four and back while traffic comes into every partition, and says for how
// long a partition stood still. It holds R2, R3, R10 and R11 as far as a change of owners can break them: nothing is lost and nothing
// is stored twice, also when a member is killed in the middle.
func scaleUnderLoad(t *T) {
	const partitions = 6
	s := startSystem(t, systemConfig{cluster: t.kafka(), partitions: partitions, emitters: 1, enrichers: 1, sinks: 1, gateways: 1})
	f := s.newFeed(traffic.Shape{Seed: 4, Sources: 120, Run: 1})

	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		// Batches of many sources: all partitions get something every few milliseconds.
		_, err := f.send(ctx, 1<<30, load.Config{Batch: 12, Workers: 4, Rate: 300, DuplicatePercent: 3})
		done <- err
	}()
	client, err := kgo.NewClient(kgo.SeedBrokers(s.Brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	c := &scaling{system: s, admin: kadm.NewClient(client), watch: watchStalls(t, s.postgres.DSN(), partitions)}
	s.await("every partition stores", time.Minute, func() bool { return c.watch.grown(time.Time{}, 5) })
	c.step("nothing changes", goalStall, func() {})
	c.scale("enricher", "audit-enricher", &s.enrichers, s.Enricher)
	c.scale("sink", "audit-sink", &s.sinks, s.Sink)
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) { // what was under way is not acknowledged, or stands in the ledger
		t.Fatalf("the load ended by itself: %v", err)
	}

	f.sent = int(f.progress.Acked.Load())
	t.note("%d events were acknowledged meanwhile", f.sent)
	s.expectClean(f)
}

type scaling struct {
	*system
	admin *kadm.Client
	watch *stallWatch
}

// stable waits until the group has that many members and each has its partitions.
func (c *scaling) stable(group string, members int) {
	c.t.Helper()
	c.await(fmt.Sprintf("%s is stable with %d members", group, members), 30*time.Second, func() bool {
		groups, err := c.admin.DescribeGroups(c.t.Context(), group)
		return err == nil && groups[group].State == "Stable" && len(groups[group].Members) == members
	})
}

// scale goes from one member to four and back: three join, one is killed, two leave in good order. The one that stays is not the
// one that was there first.
func (c *scaling) scale(role, group string, members *[]*stage.Process, member func(int, string) *stage.Process) {
	addrs, err := stage.FreeAddrs(3)
	if err != nil {
		c.t.Fatal(err)
	}
	for i, addr := range addrs {
		c.step(fmt.Sprintf("%s joins, %d → %d", role, i+1, i+2), boundJoin, func() {
			p := member(i+1, addr)
			*members = append(*members, p)
			if err := p.Start(); err != nil {
				c.t.Fatal(err)
			}
			c.stable(group, i+2)
		})
	}
	c.step(role+" is killed with -9, 4 → 3", boundKilled, func() {
		(*members)[0].Kill9()
		c.stable(group, 3)
	})
	for i := 1; i < 3; i++ {
		c.step(fmt.Sprintf("%s leaves, %d → %d", role, 4-i, 3-i), boundJoin, func() {
			ctx, cancel := context.WithTimeout(c.t.Context(), 20*time.Second)
			defer cancel()
			if err := (*members)[i].Stop(ctx); err != nil {
				c.t.Error(err)
			}
			c.stable(group, 3-i)
		})
	}
}

// step does something and waits until every partition has gone on for a while; then it says what the longest stall was.
func (c *scaling) step(what string, bound time.Duration, do func()) {
	c.t.Helper()
	begin := time.Now()
	do()
	after := time.Now()
	c.await("every partition goes on after: "+what, 30*time.Second, func() bool { return c.watch.grown(after, 6) })
	stall, partition := c.watch.longest(begin, time.Now())
	verdict := "within the goal"
	switch {
	case bound == boundKilled:
		verdict = "of it 6 s until the group misses the member"
	case stall > goalStall:
		verdict = "over the goal of " + goalStall.String()
	}
	c.t.Logf("%-32s longest stall %5d ms (partition %d), %s", what+":", stall.Milliseconds(), partition, verdict)
	goal := goalStall
	if bound == boundKilled {
		goal = goalRecovery
	}
	c.t.recovered(what, stall, goal)
	if stall > bound {
		c.t.Errorf("%s: a partition stood still for %s, bound is %s", what, stall, bound)
	}
}
