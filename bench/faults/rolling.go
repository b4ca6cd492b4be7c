package faults

import (
	"fmt"
	"time"

	"github.com/maxviazov/audittrail/bench/stage"
)

var rollingScenarios = []Scenario{
	{ID: "F14-rolling", Title: "every role restarted with SIGTERM, one process after the other, two of each: producers through the client library and readers see no error",
		Quick: true, Alone: true, Run: rollingRestart},
}

// rollingRestart restarts every process as an orchestrator does: SIGTERM, the end awaited, a new one started, ready, the next one. Two
// of each role run. Producers see no error through the client library, readers none through a client that tries again on UNAVAILABLE.
func rollingRestart(t *T) {
	s := startSystem(t, systemConfig{cluster: t.kafka(), partitions: 4, emitters: 2, enrichers: 2, sinks: 2, gateways: 2})
	p := s.press(31, 400)
	readers := s.startReaders(p.feed, 3)
	rounds := 1
	if t.Long {
		rounds = 5
	}
	for range rounds {
		// The order of an upgrade.
		p.restart("sink", s.sinks, s.sinkHTTP)
		p.restart("enricher", s.enrichers, s.enricherHTTP)
		p.restart("emitter", s.emitters, s.emitterHTTP)
		p.restart("gateway", s.gateways, s.gatewayHTTP)
	}
	p.report(goalStall, boundRecovery)
	readers.end(t)
	p.endClean()
}

// restart restarts the processes of a role, one after the other.
func (p *pressure) restart(role string, members []*stage.Process, http []string) {
	p.t.Helper()
	for i, process := range members {
		p.fault(fmt.Sprintf("SIGTERM of one of two of the %s, and its return", role), func() {
			stopBriefly(p.t, process)
			if err := process.Start(); err != nil {
				p.t.Fatal(err)
			}
			waitFor(p.t, process.Name()+" is ready", time.Minute, func() bool { return ready(http[i]) })
		})
	}
}
