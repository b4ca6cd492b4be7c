package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/maxviazov/audittrail/bench/stage"
)

var churnScenarios = []Scenario{
	{ID: "F13-churn", Title: "enrichers and sinks join, leave and are killed at random, faster than the groups settle: nothing lost, nothing twice",
		Quick: true, Run: churn},
}

// churn holds R2, R3, R7, R10 and R11 while owners change faster than the groups settle: members come and go while others are still
// taking partitions over. The order and the pauses follow from the seed.
func churn(t *T) {
	length := 15 * time.Second
	if t.Long {
		length = 5 * time.Minute
	} else if t.Broker == "kafka" {
		length = time.Minute
	}
	s := startSystem(t, systemConfig{cluster: t.kafka(), partitions: 6, emitters: 1, enrichers: 4, sinks: 4, gateways: 1})
	p := s.press(30, 400)
	r := rand.New(rand.NewPCG(t.Seed, 30))
	joined, left, killed := 0, 0, 0
	first := time.Now()
	for time.Since(first) < length {
		members := s.enrichers
		if r.IntN(2) == 0 {
			members = s.sinks
		}
		process, violent := members[r.IntN(len(members))], r.IntN(2) == 0
		switch {
		case !process.Running():
			if err := process.Start(); err != nil {
				t.Fatal(err)
			}
			joined++
		case alive(members) == 1: // one stays
		case violent:
			process.Kill9()
			killed++
		default:
			stopBriefly(t, process)
			left++
		}
		pause(t, time.Duration(r.IntN(1200))*time.Millisecond)
	}
	if joined == 0 || left == 0 || killed == 0 {
		t.Errorf("seed %d makes no churn: %d joined, %d left, %d were killed", t.Seed, joined, left, killed)
	}
	stall, partition := p.watch.longest(first, time.Now())
	t.note("churn for %s: %d members joined, %d left, %d were killed; partition %d stood still for %s at the longest, through several of these",
		length, joined, left, killed, partition, stall.Round(10*time.Millisecond))
	last := time.Now()
	for _, process := range s.processes() {
		if !process.Running() {
			if err := process.Start(); err != nil {
				t.Fatal(err)
			}
		}
	}
	p.goOn("the end of the churn")
	p.took("the end of the churn, all members back", time.Since(last))
	s.allReady(time.Minute)
	p.report(goalRecovery, boundRecovery)
	p.endClean()
}

func alive(members []*stage.Process) (n int) {
	for _, p := range members {
		if p.Running() {
			n++
		}
	}
	return n
}

// stopBriefly ends a process in good order. One that takes longer than an orchestrator would wait is a failure.
func stopBriefly(t *T, p *stage.Process) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := p.Stop(ctx); err != nil {
		t.Error(fmt.Errorf("leave in good order: %w", err))
	}
}
