package faults

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/maxviazov/audittrail/bench/load"
	"github.com/maxviazov/audittrail/bench/stage"
	"github.com/maxviazov/audittrail/bench/traffic"
)

// newRefilling gives a system the means of the refill scenarios.
func newRefilling(s *system, f *feed) *refilling {
	s.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(s.Brokers...))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(client.Close)
	return &refilling{system: s, feed: f, admin: kadm.NewClient(client)}
}

// stopAll ends processes in good order: their group knows at once.
func (s *system) stopAll(processes []*stage.Process) {
	s.t.Helper()
	for _, p := range processes {
		ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
		if err := p.Stop(ctx); err != nil {
			s.t.Fatal(err)
		}
		cancel()
	}
}

// withoutACommit holds R2: the group of the enrichers is gone, with its commits, while events wait. With the rule they begin at the start
// of the log, and the sink skips what it has. Without it they begin at its end, and what waits is passed over until a sink misses it.
func withoutACommit(t *T) {
	s, f := ruleSystem(t, t.kafka())
	r := newRefilling(s, f)
	s.stopAll(s.enrichers)
	f.mustSend(500, load.Config{Batch: 50, Workers: 2})
	r.whenEmpty(func() error { _, err := r.admin.DeleteGroup(t.Context(), "audit-enricher"); return err })
	r.startAll(s.enrichers)
	s.expectUntouched(f)
}

// aHoleIsCovered holds R4: a transaction that was aborted leaves offsets in every partition that nobody delivers. With the rule the output behind them
// covers them; without it the sink waits for them for ever, and a refill brings the same again.
func aHoleIsCovered(t *T) {
	s, f := ruleSystem(t, t.kafka())
	producer, err := kgo.NewClient(kgo.SeedBrokers(s.Brokers...), kgo.DefaultProduceTopic("audit-events"), kgo.TransactionalID("hole"),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	if err := producer.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for p := range int32(s.Partitions) {
		if err := producer.ProduceSync(ctx, &kgo.Record{Partition: p, Key: []byte("acme/aborted"), Value: []byte("never seen")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	if err := producer.EndTransaction(ctx, kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
	f.mustSend(1000, load.Config{Batch: 20, Workers: 2})
	s.expectUntouched(f)
}

// aLateRetryIsNoRecord holds the backstop of R6 and R16: events come again that the enricher has forgotten. The unique key keeps the second
// copy out; without it there are two records.
func aLateRetryIsNoRecord(t *T) {
	s := startSystem(t, systemConfig{cluster: t.kafka(), partitions: 1, emitters: 1, enrichers: 1, sinks: 1, gateways: 1,
		env: []string{"AUDITTRAIL_ENRICHER_WINDOW_MAX_IDS=1000"}})
	f := s.newFeed(traffic.Shape{Seed: 18, Sources: 40, Run: 1})
	f.mustSend(3000, load.Config{Batch: 50, Workers: 2})
	s.awaitStored(3000, time.Minute)
	newRefilling(s, f).resend(f.shape, 0, 500)
	s.expectUntouched(f)
	if t.Mutation == "" && s.sum("duplicates") == 0 {
		t.Error("the enricher dropped all of them: this shows nothing")
	}
}
