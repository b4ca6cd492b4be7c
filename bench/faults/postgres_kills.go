package faults

import (
	"context"
	"errors"
	"time"

	"github.com/maxviazov/audittrail/bench/load"
	"github.com/maxviazov/audittrail/bench/stage"
	"github.com/maxviazov/audittrail/bench/traffic"
)

var postgresKillScenarios = []Scenario{
	{ID: "F05-postgres-kills", Title: "PostgreSQL killed with -9 again and again under load: nothing lost, producers not affected", Quick: true, Run: postgresKills},
}

// postgresKills holds R10 and R11: PostgreSQL dies in whatever it is doing, COMMIT included, so that the sinks do not know what became of
// it, and comes back after a moment. Producers do not notice, and each time something is stored again within the goal.
func postgresKills(t *T) {
	const rate, workers = 1500, 4
	kills := 4
	if t.Long {
		kills = 25
	}
	s := startSystem(t, systemConfig{cluster: t.kafka(), partitions: 4, emitters: 1, enrichers: 1, sinks: 2, gateways: 1,
		env: []string{"AUDITTRAIL_SINK_BATCH_AGE=20ms"}}) // a COMMIT is under way more often than not
	f := s.newFeed(traffic.Shape{Seed: 55, Sources: 60})
	f.mustSend(rate, load.Config{Batch: 50, Workers: workers})
	s.awaitStored(f.sent, time.Minute)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done := make(chan error, 1)
	var report load.Report
	go func() {
		var err error
		report, err = f.send(ctx, 1<<30, load.Config{Batch: 50, Workers: workers, Rate: rate, DuplicatePercent: 5})
		done <- err
	}()
	victim := s.postgresVictim()
	var slowest time.Duration
	victim.Start = func() error {
		s.postgres.Start(t)
		began := time.Now()
		had := -1
		s.await("PostgreSQL answers", time.Minute, func() bool { had = s.storedTotal(); return had >= 0 })
		s.awaitStored(had+1, time.Minute)
		slowest = max(slowest, time.Since(began))
		return nil
	}
	nemesis := &stage.Nemesis{Victims: []stage.Victim{victim}, Times: kills, Pause: time.Second, Down: 200 * time.Millisecond, Seed: t.Seed, Log: t.Logf}
	if err := nemesis.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) { // what was under way is not acknowledged, or stands in the ledger
		t.Fatalf("the load ended by itself: %v", err)
	}
	f.sent = int(f.progress.Acked.Load())
	t.recovered("kill -9 of PostgreSQL, the slowest of them", slowest, goalRecovery)
	if report.Retries > workers { // each counts the call that stop ended
		t.Errorf("producers had to try again %d times", report.Retries-workers)
	}
	s.expectClean(f)
	s.sameProcesses()
}
