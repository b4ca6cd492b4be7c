package faults

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/maxviazov/audittrail/bench/load"
	"github.com/maxviazov/audittrail/internal/kafkatest"
)

var fullDiskScenarios = []Scenario{
	{ID: "F16-broker-disk-full", Title: "the disk of the broker full: it ends, producers are told to try again, and all goes on once there is space and it runs again",
		Needs: Kafka, Run: brokerDiskFull},
	{ID: "F16-snapshot-disk", Title: "the disk of the enricher's snapshots full: it goes on without them, says so, and makes them once there is space", Quick: true, Run: snapshotDiskFull},
}

// brokerDiskFull holds clauses 1 and 2: Apache Kafka ends when it cannot write its log. Whatever it had acknowledged before is there
// when it runs again.
func brokerDiskFull(t *T) {
	const rate = 500
	events, without := 10_000, 12*time.Second // longer than the emitter waits for an acknowledgement
	if t.Long {
		events, without = 60_000, time.Minute
	}
	d := mountDisk(t, 512)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	kafka, err := kafkatest.New(ctx, filepath.Join(d.dir, "kafka"), kafkatest.Options{HeapMiB: 512, Properties: quickSessions})
	if errors.Is(err, kafkatest.ErrMissing) {
		t.Skipf("no Apache Kafka: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kafka.Stop)
	s := startSystem(t, systemConfig{brokers: kafka.Brokers(), partitions: 4, emitters: 1, enrichers: 1, sinks: 1, gateways: 1})
	s.allReady(30 * time.Second)
	traffic := s.start(load.Config{Shape: faultShape(67), Events: events, Batch: 20, Workers: 16, Rate: rate})
	traffic.reach(2*rate, time.Minute)

	d.fill(t, 256<<10)
	s.await("the broker ends for want of space", time.Minute, func() bool { return kafka.Pid(0) == 0 })
	t.Logf("the broker is gone, %d events are acknowledged", traffic.Acked.Load())
	pause(t, without)
	had := s.storedTotal()
	d.free(t)
	kafka.Kill9(0) // it is gone; this makes it one that may be started
	if err := kafka.Restart(ctx, 0); err != nil {
		t.Fatal(err)
	}
	back := time.Now()
	s.awaitStored(had+1, time.Minute)
	t.recovered("the broker's disk was full (from when the broker serves again)", time.Since(back), goalRecovery)
	traffic.wait(2 * time.Minute)
	if traffic.answers.count(codes.Unavailable) == 0 {
		t.Errorf("nobody was told to try again: %s", &traffic.answers)
	}
	if len(traffic.answers.illegal) > 0 {
		t.Errorf("answers that tell no producer to try again: %q", traffic.answers.illegal)
	}
	s.sameProcesses()
	s.judged(events)
}

// snapshotDiskFull holds section 7 of DESIGN: snapshots are a cache. A full disk makes no difference to what is enriched, is said, and
// passes; what a snapshot says is never half of one.
func snapshotDiskFull(t *T) {
	const saved, notSaved, loaded = "snapshot saved", "snapshot not saved", "snapshot loaded"
	d := mountDisk(t, 16)
	s := startSystem(t, systemConfig{cluster: t.kafka(), partitions: 2, emitters: 1, enrichers: 1, sinks: 1, gateways: 1,
		wire: func(s *system) { s.connect("enricher", "ENRICHER_SNAPSHOT_DIR", filepath.Join(d.dir, "snapshots")) }})
	d.fill(t, 0)
	f := s.newFeed(faultShape(68))
	f.mustSend(1000, load.Config{Batch: 50, Workers: 4})
	enricher := s.enrichers[0]
	s.await("the enricher says that it cannot save snapshots", time.Minute, func() bool { return logHas(enricher, notSaved) })
	f.mustSend(1000, load.Config{Batch: 50, Workers: 4})
	s.expectClean(f)
	s.sameProcesses()

	// Without space it also ends in good order, leaves nothing half behind, and starts with the changelog alone.
	stop(t, enricher)
	left, err := os.ReadDir(filepath.Join(d.dir, "snapshots"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range left {
		t.Errorf("%s was left on the full disk", e.Name())
	}
	lines := startLogged(t, enricher)
	began := time.Now()
	f.mustSend(1000, load.Config{Batch: 50, Workers: 4})
	s.awaitStored(f.sent, time.Minute)
	t.recovered("a restart without snapshots", time.Since(began), goalRecovery)
	if n := lines.count(loaded); n > 0 {
		t.Errorf("%d snapshots were loaded, there cannot be any", n)
	}

	d.free(t)
	freed := time.Now()
	s.await("snapshots are saved again", time.Minute, func() bool { return lines.count(saved) >= 2 })
	t.note("snapshots were saved %s after there was space again", time.Since(freed).Round(time.Second))
	stop(t, enricher)
	lines = startLogged(t, enricher)
	f.mustSend(1000, load.Config{Batch: 50, Workers: 4})
	s.expectClean(f)
	if n := lines.count(loaded); n != 2 {
		t.Errorf("%d snapshots were loaded after there was space again, want 2", n)
	}
}
