package faults

import (
	"math/rand/v2"
	"time"

	"github.com/maxviazov/audittrail/bench/stage"
)

// boundRecovery is when a partition that stands still after a kill is a failure. The goal is goalRecovery; the rest is for machines that
// do much else.
const boundRecovery = 30 * time.Second

var killRoleScenarios = []Scenario{
	{ID: "F01-emitter", Title: "kill -9 of emitters in a loop: producers through the client library see no error, nothing acknowledged is lost", Quick: true, Run: func(t *T) {
		killRole(t, "emitter", systemConfig{partitions: 4, emitters: 2, enrichers: 1, sinks: 1, gateways: 1}, func(s *system) []*stage.Process { return s.emitters })
	}},
	{ID: "F02-enricher", Title: "kill -9 of enrichers in a loop, also while the other takes over: nothing lost, nothing twice", Quick: true, Run: func(t *T) {
		killRole(t, "enricher", systemConfig{partitions: 4, emitters: 1, enrichers: 2, sinks: 1, gateways: 1}, func(s *system) []*stage.Process { return s.enrichers })
	}},
	{ID: "F03-sink", Title: "kill -9 of sinks in a loop, also while the other takes over: nothing lost, nothing twice", Quick: true, Run: func(t *T) {
		killRole(t, "sink", systemConfig{partitions: 4, emitters: 1, enrichers: 1, sinks: 2, gateways: 1}, func(s *system) []*stage.Process { return s.sinks })
	}},
	{ID: "F04-gateway", Title: "kill -9 of one of two gateways in a loop: readers that try again on UNAVAILABLE see no error, writing is not affected", Quick: true, Run: killGateways},
}

// killRounds is how many times a scenario of this file kills: in a quick run, on Apache Kafka, in the long form.
func (t *T) killRounds() int {
	switch {
	case t.Long:
		return 20
	case t.Broker == "kafka":
		return 6
	}
	return 3
}

// killRole holds R3, R6, R10 and R11 for one role: it is killed in a loop, at random moments, of two members one after the other.
// Every third kill comes while the partitions of the one before are still being taken over.
func killRole(t *T, role string, c systemConfig, members func(*system) []*stage.Process) {
	c.cluster = t.kafka()
	s := startSystem(t, c)
	p := s.press(21, 400)
	r := rand.New(rand.NewPCG(t.Seed, 21))
	name := "kill -9 of the " + role
	for round := range t.killRounds() {
		victim := members(s)[round%len(members(s))]
		kill := func() {
			victim.Kill9()
			pause(t, time.Duration(r.IntN(800))*time.Millisecond)
			if err := victim.Start(); err != nil {
				t.Fatal(err)
			}
		}
		pause(t, time.Duration(r.IntN(1500))*time.Millisecond) // any moment of a commit interval
		if round%3 == 0 {
			kill() // and the next one, before this is over
			continue
		}
		p.fault(name, kill)
	}
	p.report(goalRecovery, boundRecovery)
	p.endClean()
}

// killGateways kills gateways in turn while readers read. A reader that tries again on UNAVAILABLE, as gRPC does when it is told to, sees
// nothing of it, and the other roles neither.
func killGateways(t *T) {
	s := startSystem(t, systemConfig{cluster: t.kafka(), partitions: 4, emitters: 1, enrichers: 1, sinks: 1, gateways: 2})
	p := s.press(22, 300)
	readers := s.startReaders(p.feed, 3)
	r := rand.New(rand.NewPCG(t.Seed, 22))
	for round := range 2 * t.killRounds() { // each takes a second or two
		victim, addr := s.gateways[round%2], s.gatewayHTTP[round%2]
		pause(t, time.Duration(r.IntN(700))*time.Millisecond)
		began := time.Now()
		victim.Kill9()
		pause(t, time.Duration(r.IntN(300))*time.Millisecond)
		if err := victim.Start(); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "the gateway is ready again", 30*time.Second, func() bool { return ready(addr) })
		p.took("kill -9 of a gateway, until it is ready again", time.Since(began))
	}
	p.report(goalRecovery, boundRecovery)
	readers.end(t)
	p.endClean()
}
