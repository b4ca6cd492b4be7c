package faults

import (
	"fmt"
	"time"

	"github.com/maxviazov/audittrail/bench/stage"
	"github.com/maxviazov/audittrail/bench/traffic"
)

var offsetScenarios = []Scenario{
	{ID: "F20-offsets", Title: "the offsets of either group deleted, reset to latest and to earliest, while it is stopped and while it runs: nothing is lost or stored twice",
		Quick: true, Run: offsetsChanged},
}

// offsetsChanged holds R2, R10, R12 and R21: the sinks' group only remembers for others, PostgreSQL says where a sink starts; and what the
// enrichers' group passes over is asked for again. Events come while the group is stopped, so that there is something to pass over.
func offsetsChanged(t *T) {
	s := startSystem(t, systemConfig{cluster: t.kafka(), partitions: 4, emitters: 1, enrichers: 1, sinks: 1, gateways: 1})
	r := &refilling{system: s, feed: s.newFeed(traffic.Shape{Seed: 20, Sources: 40}), admin: s.kafkaAdmin()}
	r.send()
	s.expectClean(r.feed)
	for _, g := range []struct {
		group, topic string
		process      *stage.Process
	}{{"audit-enricher", "audit-events", s.enrichers[0]}, {"audit-sink", "audit-records", s.sinks[0]}} {
		for _, how := range []string{"deleted", "latest", "earliest"} {
			change := func() error { return r.change(g.group, g.topic, how) }
			// A broker lets nobody but its members commit for a group that has some. Where it does, it does not matter.
			if err := change(); err != nil {
				t.note("%s, running, offsets %s: the broker refuses: %v", g.group, how, err)
			} else {
				t.note("%s, running, offsets %s: the broker allows it", g.group, how)
			}
			r.send()
			s.awaitStored(r.feed.sent, time.Minute)

			stop(t, g.process)
			r.send()
			r.changeEmpty(g.group, change)
			r.startAll([]*stage.Process{g.process})
			began := time.Now()
			s.awaitStored(r.feed.sent, time.Minute)
			t.recovered(fmt.Sprintf("offsets of %s: %s, and a start", g.group, how), time.Since(began), goalRecovery)
		}
		s.expectClean(r.feed)
	}
}

// change changes what a group remembers of a topic.
func (r *refilling) change(group, topic, how string) error {
	list := r.admin.ListStartOffsets
	switch how {
	case "deleted":
		_, err := r.admin.DeleteGroup(r.t.Context(), group)
		return err
	case "latest":
		list = r.admin.ListEndOffsets
	}
	at, err := list(r.t.Context(), topic)
	if err != nil {
		return err
	}
	return r.admin.CommitAllOffsets(r.t.Context(), group, at.Offsets())
}

// changeEmpty changes a group once its members are gone.
func (r *refilling) changeEmpty(group string, change func() error) {
	r.t.Helper()
	r.await("the group can be changed", time.Minute, func() bool {
		groups, err := r.admin.DescribeGroups(r.t.Context(), group)
		if err != nil {
			r.t.Fatal(err)
		}
		return len(groups[group].Members) == 0 && change() == nil
	})
}
