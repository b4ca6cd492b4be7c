package faults

import (
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/maxviazov/audittrail/bench/load"
	"github.com/maxviazov/audittrail/bench/stage"
	"github.com/maxviazov/audittrail/bench/traffic"
)

var refillScenarios = []Scenario{
	{ID: "F20-21-refill", Title: "audit-records emptied before the sinks read it, offsets reset and deleted, PostgreSQL restored to before the log: made again from audit-events",
		Quick: true, Run: refill},
}

// refill holds R21 (and R2, R10, R12, R14 on the way): what is lost between enricher and sink is made again from audit-events, by itself.
// One system, two enrichers and two sinks, lives through one loss after the other, and is judged after each: all is stored, once, without a gap.
func refill(t *T) {
	s := startSystem(t, systemConfig{cluster: t.kafka(), partitions: 4, emitters: 1, enrichers: 2, sinks: 2, gateways: 1})
	r := &refilling{system: s, feed: s.newFeed(traffic.Shape{Seed: 21, Sources: 40}), admin: s.kafkaAdmin()}
	r.send()
	s.expectClean(r.feed)

	for _, step := range []struct {
		name string
		do   func()
	}{
		{"audit-records emptied before the sinks read it", r.recordsLost},
		{"audit-records emptied under load, everybody killed during the refill", r.killedMeanwhile},
		{"enricher group reset to latest while it was stopped", r.resetToLatest},
		{"offsets of the enricher group deleted", r.offsetsDeleted},
		{"PostgreSQL restored to a copy older than audit-records", r.restoredOlder},
		{"a refill asked for by an operator", r.askedFor},
		{"gaps filled late", r.gapsFilled},
	} {
		began := time.Now()
		step.do()
		t.Logf("%s: healed, %s in all", step.name, time.Since(began).Round(100*time.Millisecond))
		if t.Failed() {
			t.Fatalf("failed in: %s", step.name)
		}
	}
}

type refilling struct {
	*system
	feed  *feed
	admin *kadm.Client
}

const refillEvents = 2000

func (r *refilling) send() { r.feed.mustSend(refillEvents, load.Config{Batch: 20, Workers: 4}) }

// recordsLost: the sinks are away while events come, and when they return audit-records is empty.
func (r *refilling) recordsLost() {
	kill(r.sinks)
	r.send()
	r.enriched()
	r.empty("audit-records")
	r.startAll(r.sinks)
	r.awaitStored(r.feed.sent, time.Minute)
	r.expectClean(r.feed)
}

// killedMeanwhile: the same while events keep coming, to sinks that run, and enrichers and sinks are killed while the lost is made again.
func (r *refilling) killedMeanwhile() {
	kill(r.sinks)
	r.send()
	r.enriched()
	done := make(chan error, 1)
	go func() {
		_, err := r.feed.send(r.t.Context(), 4*refillEvents, load.Config{Batch: 20, Workers: 4, Rate: 500, DuplicatePercent: 5})
		done <- err
	}()
	r.empty("audit-records")
	before := r.refills()
	r.startAll(r.sinks)
	r.await("a refill begins", time.Minute, func() bool { return r.refills() > before })
	for _, p := range []*stage.Process{r.enrichers[0], r.sinks[0], r.enrichers[1], r.sinks[1]} {
		p.Kill9()
		r.startAll([]*stage.Process{p})
		pause(r.t, 500*time.Millisecond) // a moment like any other
	}
	if err := <-done; err != nil {
		r.t.Fatal(err)
	}
	r.expectClean(r.feed)
}

// resetToLatest: somebody makes the group begin at the end; what came meanwhile is never enriched.
func (r *refilling) resetToLatest() {
	kill(r.enrichers)
	r.send()
	ends, err := r.admin.ListEndOffsets(r.t.Context(), "audit-events")
	if err != nil {
		r.t.Fatal(err)
	}
	r.whenEmpty(func() error { return r.admin.CommitAllOffsets(r.t.Context(), "audit-enricher", ends.Offsets()) })
	r.startAll(r.enrichers)
	r.awaitStored(r.feed.sent, time.Minute)
	r.expectClean(r.feed)
}

// offsetsDeleted: the enrichers begin at the start of the log (R2).
func (r *refilling) offsetsDeleted() {
	kill(r.enrichers)
	r.send()
	r.whenEmpty(func() error { _, err := r.admin.DeleteGroup(r.t.Context(), "audit-enricher"); return err })
	r.startAll(r.enrichers)
	r.awaitStored(r.feed.sent, time.Minute)
	r.expectClean(r.feed)
}

// restoredOlder: PostgreSQL goes back to before what audit-records still holds.
func (r *refilling) restoredOlder() {
	copied := onlineCopy(r.t, r.postgres)
	had := recordsIn(r.t, copied)
	r.send()
	r.expectClean(r.feed)
	r.empty("audit-records")
	swapIn(r.t, r.postgres, copied)
	r.await("PostgreSQL answers", time.Minute, func() bool { return r.storedTotal() >= had })
	r.awaitStored(r.feed.sent, time.Minute)
	r.expectClean(r.feed)
}

// askedFor: by `audittrail refill`, of what is there already; nothing is stored twice, and it is done once.
func (r *refilling) askedFor() {
	before := r.refills()
	if out, err := r.Run(r.t.Context(), "refill", "--partition", "1", "--from", "0"); err != nil || !strings.Contains(out, "partition 1") {
		r.t.Fatalf("%s, %v", out, err)
	}
	r.await("a refill begins", time.Minute, func() bool { return r.refills() == before+1 })
	r.send()
	r.expectClean(r.feed)
	if n := r.refills(); n != before+1 {
		r.t.Errorf("%v refills for one request", n-before)
	}
}

// gapsFilled: events are lost for good, from both topics, and recorded as a gap. Their producer sends them again. The enrichers know them, as
// duplicates of slots that are lost (R14); what they drop for that is a gap too, until it is made again.
func (r *refilling) gapsFilled() {
	kill(r.sinks)
	from := r.feed.sent
	r.send()
	r.enriched()
	r.empty("audit-events")
	r.empty("audit-records")
	r.resend(r.feed.shape, from, r.feed.sent)
	r.startAll(r.sinks)
	r.awaitStored(r.feed.sent, time.Minute)
	if err := r.settle(time.Minute); err != nil {
		r.t.Error(err)
	}
	v := r.judge()
	r.t.Logf("verdict: %s", v)
	if v.Lost+v.Duplicated+v.Phantom+v.Changed+v.Misplaced+v.Holes+v.Rows+v.Hashes+v.Heads != 0 || v.Gaps == 0 {
		r.t.Errorf(contractBroken+": %s", v)
	}
	list := func(args ...string) string {
		out, err := r.Run(r.t.Context(), append([]string{"gaps", "list", "--addr", r.gatewayAddrs[0]}, args...)...)
		if err != nil {
			r.t.Fatal(err)
		}
		return out
	}
	r.await("the gaps of dropped events are filled", time.Minute, func() bool { return !strings.Contains(list("--open"), "DROP_WITHOUT_FIRST_COPY") })
	r.t.Logf("gaps:\n%s", list())
	if all := list(); !strings.Contains(all, "EXPIRED_INPUT") {
		r.t.Error("nothing was lost for good: this shows nothing")
	}
}

func kill(processes []*stage.Process) {
	for _, p := range processes {
		p.Kill9()
	}
}

func (r *refilling) startAll(processes []*stage.Process) {
	r.t.Helper()
	for _, p := range processes {
		if err := p.Start(); err != nil {
			r.t.Fatal(err)
		}
	}
}

// enriched waits until the enrichers have committed all that was sent.
func (r *refilling) enriched() {
	r.t.Helper()
	ends, err := r.admin.ListEndOffsets(r.t.Context(), "audit-events")
	if err != nil {
		r.t.Fatal(err)
	}
	r.await("the enrichers are done", time.Minute, func() bool {
		commits, err := r.admin.FetchOffsets(r.t.Context(), "audit-enricher")
		if err != nil {
			r.t.Fatal(err)
		}
		all := true
		ends.Each(func(end kadm.ListedOffset) {
			c, _ := commits.Lookup("audit-events", end.Partition)
			all = all && c.At >= end.Offset
		})
		return all
	})
}

// empty deletes all records of a topic.
func (r *refilling) empty(topic string) {
	r.t.Helper()
	ends, err := r.admin.ListEndOffsets(r.t.Context(), topic)
	if err != nil {
		r.t.Fatal(err)
	}
	deleted, err := r.admin.DeleteRecords(r.t.Context(), ends.Offsets())
	if err == nil {
		err = deleted.Error()
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// whenEmpty changes the enricher group, which is allowed once its members are gone.
func (r *refilling) whenEmpty(change func() error) {
	r.t.Helper()
	var err error
	began := time.Now()
	for time.Since(began) < time.Minute {
		groups, dErr := r.admin.DescribeGroups(r.t.Context(), "audit-enricher")
		if dErr != nil {
			r.t.Fatal(dErr)
		}
		if g := groups["audit-enricher"]; len(g.Members) == 0 {
			if err = change(); err == nil {
				return
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	r.t.Fatalf("the group cannot be changed: %v", err)
}

// refills is how many partitions the running enrichers have started further back.
func (r *refilling) refills() (n float64) {
	r.t.Helper()
	for i, p := range r.enrichers {
		if p.Running() && listens(r.enricherHTTP[i]) {
			n += metric(r.t, r.enricherHTTP[i], "audittrail_enricher_refills_total")
		}
	}
	return n
}
