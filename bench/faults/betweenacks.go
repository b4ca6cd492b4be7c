package faults

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/maxviazov/audittrail/bench/load"
	"github.com/maxviazov/audittrail/bench/traffic"
	"github.com/maxviazov/audittrail/proto/stream"
)

var betweenAcksScenarios = []Scenario{
	{ID: "F02-between-acks", Title: "the enricher killed, several times, when the brokers have its table and refuse its output: its replay is no duplicate (R3, R6)",
		Needs: Kafka, Run: killedBetweenAcks},
	{ID: "F02-offset-commit", Title: "the enricher killed with its offset commit on the way: before the broker has it, and when only the answer is missing (R3)",
		Needs: Kfake, Quick: true, Run: killedAtOffsetCommit},
}

// killedBetweenAcks is aReplayIsNoDuplicate on real brokers: with one of three down, audit-records wants three replicas in sync, and
// its partitions refuse everything, while the table and the input are content with two.
func killedBetweenAcks(t *T) {
	c := t.realKafka(3)
	s := startSystem(t, systemConfig{cluster: c, partitions: 3, replicas: 3, minInsync: 2, emitters: 1, enrichers: 1, sinks: 1, gateways: 1})
	f := s.newFeed(traffic.Shape{Seed: 25, Sources: 40, Run: 1})
	f.mustSend(500, load.Config{Batch: 50, Workers: 2})
	s.awaitStored(500, time.Minute)
	client, err := kgo.NewClient(kgo.SeedBrokers(s.Brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	c.real.Kill9(2)
	rounds := 2
	if t.Long {
		rounds = 6
	}
	for range rounds {
		s.minInsync(admin, stream.Records, "3")
		before := s.endOf(admin, stream.Table)
		f.mustSend(1000, load.Config{Batch: 50, Workers: 2})
		s.await("the table has states of messages whose outputs wait", 30*time.Second, func() bool { return s.endOf(admin, stream.Table) > before+100 })
		s.enrichers[0].Kill9()
		killed, had := time.Now(), s.storedTotal()
		s.minInsync(admin, stream.Records, "2")
		if err := s.enrichers[0].Start(); err != nil {
			t.Fatal(err)
		}
		s.awaitStored(had+1, time.Minute)
		t.recovered("kill -9 of the enricher between the acknowledgements", time.Since(killed), goalRecovery)
		s.awaitStored(f.sent, time.Minute)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := c.real.Restart(ctx, 2); err != nil {
		t.Fatal(err)
	}
	s.expectUntouched(f)
}

// minInsync says how many replicas in sync a topic wants, and returns when all brokers that run know.
func (s *system) minInsync(admin *kadm.Client, topic, n string) {
	s.t.Helper()
	set := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "min.insync.replicas", Value: &n}}
	if _, err := admin.AlterTopicConfigs(s.t.Context(), set, topic); err != nil {
		s.t.Fatal(err)
	}
	s.await("min.insync.replicas of "+topic+" is "+n, 10*time.Second, func() bool {
		configs, err := admin.DescribeTopicConfigs(s.t.Context(), topic)
		if err != nil {
			return false
		}
		is := false
		_, err = configs.On(topic, func(r *kadm.ResourceConfig) error {
			for _, c := range r.Configs {
				is = is || c.Key == "min.insync.replicas" && c.MaybeValue() == n
			}
			return r.Err
		})
		return err == nil && is
	})
}

// endOf is the sum of the ends of a topic's partitions. After the death of a broker its partitions are without a leader for a moment.
func (s *system) endOf(admin *kadm.Client, topic string) (n int64) {
	s.t.Helper()
	var ends kadm.ListedOffsets
	s.await("every partition of "+topic+" says where it ends", 30*time.Second, func() (ok bool) {
		var err error
		ends, err = admin.ListEndOffsets(s.t.Context(), topic)
		return err == nil && ends.Error() == nil
	})
	ends.Each(func(o kadm.ListedOffset) { n += o.Offset })
	return n
}

// killedAtOffsetCommit holds R3 at the moment in which the enricher commits: the commit says what is finished, so that it does not matter
// whether the broker took it. The enricher is killed with the request on its way: the broker has it, or has it not.
func killedAtOffsetCommit(t *T) {
	c := t.kafka()
	s := startSystem(t, systemConfig{cluster: c, partitions: 4, emitters: 1, enrichers: 2, sinks: 1, gateways: 1})
	p := s.press(26, 400)
	rounds := 1
	if t.Long {
		rounds = 8
	}
	for round := range 2 * rounds {
		taken := round%2 == 0
		name := "kill -9 of the enricher with its offset commit refused"
		if taken {
			name = "kill -9 of the enricher with the answer to its offset commit missing"
		}
		victim := s.enrichers[round%2]
		p.fault(name, func() {
			// The other enricher commits too: whose commit it was does not matter, only that one was there.
			var came atomic.Bool
			killed := make(chan struct{})
			moment := kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Group: "audit-enricher", Observe: taken, Err: kerr.CoordinatorNotAvailable, Count: 1,
				When: func(kmsg.Request) bool {
					if came.Swap(true) {
						return false
					}
					go func() { defer close(killed); victim.Kill9() }()
					return true
				}}
			defer c.fake.Fault(moment).Remove()
			select {
			case <-killed:
			case <-time.After(20 * time.Second):
				t.Fatal("no enricher commits")
			}
			if err := victim.Start(); err != nil {
				t.Fatal(err)
			}
		})
	}
	p.report(goalRecovery, boundRecovery)
	p.endClean()
}
