package bench_test

import (
	"os"
	"testing"
	"time"

	"github.com/maxviazov/audittrail/bench/load"
	"github.com/maxviazov/audittrail/bench/stage"
	"github.com/maxviazov/audittrail/bench/traffic"
	"github.com/maxviazov/audittrail/internal/embedded/embeddedtest"
)

// killPlan is how long and how hard a kill test is.
type killPlan struct {
	events int
	kills  int // of each part
	rate   int // events/s
	pause  time.Duration
	down   time.Duration
}

// The short plan is part of every test run; the long one (make test-kill, make test-kafka) sends at least 500,000 events and
// kills each part at least ten times.
func plan(t *testing.T) killPlan {
	if os.Getenv("AUDITTRAIL_KILL") == "long" {
		return killPlan{events: 500_000, kills: 10, rate: 3000, pause: 1500 * time.Millisecond, down: 500 * time.Millisecond}
	}
	t.Log("short plan; AUDITTRAIL_KILL=long for the long one")
	return killPlan{events: 40_000, kills: 2, rate: 2000, pause: 700 * time.Millisecond, down: 300 * time.Millisecond}
}

// TestKillEverything holds the contract as a whole (R1 to R16, R18 to R20): whatever is killed at whatever moment, what was
// acknowledged is stored exactly once, and nothing else is.
func TestKillEverything(t *testing.T) {
	p := plan(t)
	s := startSystem(t, systemConfig{brokers: embeddedtest.Kafka(t), partitions: 4, binary: binary(t),
		emitters: 1, enrichers: 2, sinks: 2, gateways: 1})
	s.killAndJudge(p, nil)
}

// killAndJudge sends traffic with deliberate duplicates while everything is killed in turn, then compares.
func (s *system) killAndJudge(p killPlan, more []stage.Victim) {
	s.t.Helper()
	var victims []stage.Victim
	for _, process := range s.processes() {
		victims = append(victims, stage.VictimOf(process))
	}
	victims = append(append(victims, s.postgresVictim()), more...)
	nemesis := &stage.Nemesis{Victims: victims, Times: p.kills, Pause: p.pause, Down: p.down, Seed: 1}
	report := s.run(s.t.Context(), load.Config{
		Shape:  traffic.Shape{Seed: 1, Start: time.Now().Add(-time.Hour)},
		Events: p.events, Batch: 100, Workers: 8, DuplicatePercent: 5, Rate: p.rate,
	}, nemesis)
	s.t.Logf("sent: %+v", report)
	if err := s.settle(2 * time.Minute); err != nil {
		s.t.Error(err)
	}
	v := s.judge()
	s.t.Logf("kills: %v", nemesis.Kills())
	s.t.Logf("verdict: %s", v)
	if !v.OK() || v.Acked != p.events {
		s.t.Errorf("the contract is broken: %s", v)
	}
}
