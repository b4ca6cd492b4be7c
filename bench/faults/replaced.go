package faults

import (
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/maxviazov/audittrail/bench/load"
	"github.com/maxviazov/audittrail/bench/traffic"
)

var replacedScenarios = []Scenario{
	{ID: "F23-replaced", Title: "audit-events, audit-records and both deleted and made again, while everything is stopped and while it runs: the sinks refuse and say what to do, and go on when it is done (R18)",
		Quick: true, Run: replaced},
}

// replaced holds R18: offsets of a topic that was deleted mean nothing in the one that was made in its place. Everything was stored before, so
// nothing may be missing in the end; what is sent before somebody accepted the new topics is stored, too.
func replaced(t *T) {
	s := startSystem(t, systemConfig{cluster: t.kafka(), partitions: 4, emitters: 1, enrichers: 1, sinks: 1, gateways: 1})
	s.allReady(30 * time.Second)
	r := &replacing{system: s, feed: s.newFeed(traffic.Shape{Seed: 23, Sources: 40}), admin: s.kafkaAdmin()}
	for _, c := range []struct {
		name    string
		topics  []string
		running bool
		long    bool
	}{
		{"audit-events and audit-records, stopped", []string{"audit-events", "audit-records"}, false, false},
		{"audit-events and audit-records, running", []string{"audit-events", "audit-records"}, true, true},
		{"audit-events, stopped", []string{"audit-events"}, false, true},
		{"audit-events, running", []string{"audit-events"}, true, false},
		{"audit-records, stopped", []string{"audit-records"}, false, true},
		{"audit-records, running", []string{"audit-records"}, true, false},
		{"all topics, running", []string{"audit-events", "audit-enricher-table", "audit-records", "audit-sources", "audit-deadletters"}, true, true},
	} {
		if c.long && !t.Long && t.Broker == "kfake" {
			continue
		}
		t.part(c.name, func(*T) { r.replace(c.name, c.topics, c.running) })
		if t.Failed() {
			return
		}
	}
}

type replacing struct {
	*system
	feed  *feed
	admin *kadm.Client
}

func (r *replacing) replace(name string, topics []string, running bool) {
	r.t.Helper()
	const before, meanwhile, after = 2000, 200, 1000
	r.feed.mustSend(before, load.Config{Batch: 20, Workers: 4})
	r.expectStored()
	if !running {
		kill(r.enrichers)
		kill(r.sinks)
		kill(r.emitters)
	}
	said := countIn(r.sinks[0], "topics accept-new")
	r.deleteTopics(topics...)
	if out, err := r.Run(r.t.Context(), "topics", "apply"); err != nil {
		r.t.Fatalf("topics apply: %v, %s", err, out)
	}
	r.startEnded()
	// Producers are served: what they send goes into the new topic.
	r.feed.mustSend(meanwhile, load.Config{Batch: 1, Workers: 2})
	r.await("the sink refuses and says what to do", time.Minute, func() bool { return countIn(r.sinks[0], "topics accept-new") > said })
	r.await("the sink has ended", 10*time.Second, func() bool { return !r.sinks[0].Running() })
	r.startEnded()
	r.await("the sink has ended again", 20*time.Second, func() bool { return !r.sinks[0].Running() })

	// Without --yes it only says what it would do.
	if out, err := r.Run(r.t.Context(), "topics", "accept-new"); err == nil || !strings.Contains(out, "logs would go on from the new topics") {
		r.t.Fatalf("accept-new without --yes: %v, %s", err, out)
	}
	if out, err := r.Run(r.t.Context(), "topics", "accept-new", "--yes"); err != nil {
		r.t.Fatalf("accept-new: %v, %s", err, out)
	}
	accepted := time.Now()
	r.startEnded()
	r.awaitStored(r.feed.sent, time.Minute)
	r.t.recovered(name+" deleted and made again, and accepted", time.Since(accepted), 15*time.Second)
	r.feed.mustSend(after, load.Config{Batch: 20, Workers: 4})
	r.expectStored()
}

// expectStored expects everything to be stored, once. Until the enricher knows that the topic was replaced (a tick of 2 s), it may call what
// it reads by the old topic's id. What comes of that too late to be stored is a dead letter, and it is made again with the right id: so there
// may be dead letters of that reason, of events that are stored.
func (r *replacing) expectStored() {
	r.t.Helper()
	if err := r.settle(time.Minute); err != nil {
		r.t.Error(err)
	}
	v := r.judge()
	r.t.Logf("verdict: %s", v)
	out, err := r.Run(r.t.Context(), "deadletters", "list", "--limit", "0", "-o", "jsonl", "--addr", r.gatewayAddrs[0])
	if err != nil {
		r.t.Fatal(err)
	}
	if !v.OK() || v.Acked != r.feed.sent || v.DeadLetters != strings.Count(out, "OTHER_TOPIC") {
		r.t.Errorf(contractBroken+": %s", v)
	}
}

// startEnded starts what does not run, as a supervisor of processes would.
func (s *system) startEnded() {
	s.t.Helper()
	for _, p := range s.processes() {
		if !p.Running() {
			if err := p.Start(); err != nil {
				s.t.Fatal(err)
			}
		}
	}
}

// kafkaAdmin is an administrator of the broker.
func (s *system) kafkaAdmin() *kadm.Client {
	s.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(s.Brokers...))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(client.Close)
	return kadm.NewClient(client)
}

// deleteTopics deletes topics and returns when they are gone.
func (r *replacing) deleteTopics(topics ...string) {
	r.t.Helper()
	if _, err := r.admin.DeleteTopics(r.t.Context(), topics...); err != nil {
		r.t.Fatal(err)
	}
	r.await("the topics are gone", 30*time.Second, func() bool {
		left, err := r.admin.ListTopics(r.t.Context(), topics...)
		if err != nil {
			r.t.Fatal(err)
		}
		for _, topic := range topics {
			if left.Has(topic) {
				return false
			}
		}
		return true
	})
}
