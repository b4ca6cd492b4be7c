package faults

import (
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/maxviazov/audittrail/bench/load"
	"github.com/maxviazov/audittrail/bench/stage"
	"github.com/maxviazov/audittrail/bench/traffic"
	"github.com/maxviazov/audittrail/proto/stream"
)

var partitionScenarios = []Scenario{
	{ID: "F23-partitions", Title: "audit-events and audit-records get partitions while everything runs: enricher and sink refuse, with both numbers, also after a restart; nothing is called wrongly placed, and nothing acknowledged is gone (R18)",
		Quick: true, Run: morePartitions},
}

// morePartitions holds R18 for the number of partitions, which decides where a source belongs: it cannot be raised in place. What is acknowledged
// waits in audit-events.
func morePartitions(t *T) {
	const was, is, before, about, meanwhile = 4, 6, 2000, 300, 300
	s := startSystem(t, systemConfig{cluster: t.kafka(), partitions: was, emitters: 1, enrichers: 1, sinks: 1, gateways: 1})
	s.allReady(30 * time.Second)
	feed := s.newFeed(traffic.Shape{Seed: 23, Sources: 40})
	feed.mustSend(before, load.Config{Batch: 20, Workers: 4})
	s.judged(before)
	feed.mustSend(about, load.Config{Batch: 1, Workers: 2}) // stored or not when it happens
	made, err := s.kafkaAdmin().UpdatePartitions(t.Context(), is, "audit-events", "audit-records")
	if err == nil {
		err = made.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	// An emitter that starts now places by the new number.
	kill(s.emitters)
	if err := s.emitters[0].Start(); err != nil {
		t.Fatal(err)
	}
	feed.mustSend(meanwhile, load.Config{Batch: 1, Workers: 2})

	both := []*stage.Process{s.enrichers[0], s.sinks[0]}
	numbers := fmt.Sprintf("audit-events had %d partitions and has %d", was, is)
	for _, p := range both {
		s.await(p.Name()+" has ended", 20*time.Second, func() bool { return !p.Running() })
	}
	said := map[*stage.Process]int{}
	for _, p := range both {
		said[p] = countIn(p, numbers)
		// Kafka gives partitions to one topic after the other: what a process saw between is as good.
		if said[p] == 0 && !logHas(p, "must be equal") && !logHas(p, "must have the") {
			t.Errorf("%s does not say why it ended", p.Name())
		}
	}
	s.startEnded()
	for _, p := range both {
		s.await(p.Name()+" has ended again", 20*time.Second, func() bool { return !p.Running() })
		if countIn(p, numbers) <= said[p] {
			t.Errorf("%s, started again, does not say that %s", p.Name(), numbers)
		}
	}
	if out, err := s.Run(t.Context(), "topics", "check"); err == nil || !strings.Contains(out, "audit-events") || !strings.Contains(out, "partitions") {
		t.Errorf("topics check: %v, %s", err, out)
	}
	if out, err := s.Run(t.Context(), "topics", "accept-new", "--yes"); err == nil || !strings.Contains(out, numbers) {
		t.Errorf("topics accept-new takes it: %v, %s", err, out)
	}

	v := s.judge()
	t.Logf("verdict: %s", v)
	if v.Acked != feed.sent || v.Stored < before || v.Stored+v.Lost != v.Acked {
		t.Errorf("%d acknowledged, %d sent; %d stored, %d waiting", v.Acked, feed.sent, v.Stored, v.Lost)
	}
	waiting := v.Lost
	if v.Lost = 0; !v.OK() || v.DeadLetters != 0 {
		t.Errorf("the contract is broken: %s", v)
	}
	if n := s.eventsInKafka(); n < feed.sent {
		t.Errorf("audit-events has %d events, %d were acknowledged and %d of them are not stored", n, feed.sent, waiting)
	}
}

// eventsInKafka counts the events in audit-events, of which nothing has expired.
func (s *system) eventsInKafka() (n int) {
	s.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.Brokers...), kgo.ConsumeTopics("audit-events"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		s.t.Fatal(err)
	}
	defer cl.Close()
	for ends := endOffsets(s.t, cl, "audit-events"); len(ends) > 0; {
		fetches := cl.PollFetches(s.t.Context())
		if err := fetches.Err(); err != nil {
			s.t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			events, err := stream.DecodeEvents(r.Value)
			if err != nil {
				s.t.Fatal(err)
			}
			n += len(events)
			if r.Offset+1 >= ends[r.Partition] {
				delete(ends, r.Partition)
			}
		})
	}
	return n
}
