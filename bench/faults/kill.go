package faults

import (
	"time"

	"github.com/maxviazov/audittrail/bench/load"
	"github.com/maxviazov/audittrail/bench/stage"
	"github.com/maxviazov/audittrail/bench/traffic"
)

// killPlan is how long and how hard a kill test is.
type killPlan struct {
	events int
	kills  int // of each part
	rate   int // events/s
	pause  time.Duration
	down   time.Duration
}

// killPlan: the short one is part of quick runs; the long one sends 500,000 events and kills each part ten times.
func (t *T) killPlan() killPlan {
	if t.Long {
		return killPlan{events: 500_000, kills: 10, rate: 3000, pause: 1500 * time.Millisecond, down: 500 * time.Millisecond}
	}
	return killPlan{events: 40_000, kills: 2, rate: 2000, pause: 700 * time.Millisecond, down: 300 * time.Millisecond}
}

var killScenarios = []Scenario{
	{ID: "F01-05-kill", Title: "kill -9 of every part in turn, the broker and PostgreSQL among them: what was acknowledged is stored exactly once",
		Quick: true, Run: killEverything},
}

// killEverything holds the contract as a whole (R1 to R16, R18 to R20): whatever is killed at whatever moment, what was
// acknowledged is stored exactly once, and nothing else is.
func killEverything(t *T) {
	c := t.kafka()
	s := startSystem(t, systemConfig{cluster: c, partitions: 4, emitters: 1, enrichers: 2, sinks: 2, gateways: 1})
	s.killAndJudge(t.killPlan(), c.victims())
}

// killAndJudge sends traffic of all kinds of producers with deliberate duplicates while everything is killed in turn, then compares.
func (s *system) killAndJudge(p killPlan, more []stage.Victim) {
	s.t.Helper()
	var victims []stage.Victim
	for _, process := range s.processes() {
		victims = append(victims, stage.VictimOf(process))
	}
	victims = append(append(victims, s.postgresVictim()), more...)
	nemesis := &stage.Nemesis{Victims: victims, Times: p.kills, Pause: p.pause, Down: p.down, Seed: s.t.Seed}
	report := s.run(s.t.Context(), load.Config{
		Shape:  traffic.Shape{Seed: s.t.Seed, Start: time.Now().Add(-time.Hour), Run: 7, Sizes: true},
		Events: p.events, Batch: 50, Workers: 10, Mixed: true, DuplicatePercent: 5, Rate: p.rate,
	}, nemesis)
	s.t.Logf("sent: %+v", report)
	if err := s.settle(2 * time.Minute); err != nil {
		s.t.Error(err)
	}
	v := s.judgeAll(true)
	s.t.Logf("kills: %v", nemesis.Kills())
	s.t.Logf("verdict: %s", v)
	if !v.OK() || v.Acked != p.events {
		s.t.Errorf(contractBroken+": %s", v)
	}
}
