package faults

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/maxviazov/audittrail/bench/load"
	"github.com/maxviazov/audittrail/bench/traffic"
)

// The scenarios of this file show what single rules of the engine are good for: each brings about the moment that the rule is made for,
// and fails when the rule is switched off (mutations.go).
var ruleScenarios = []Scenario{
	{ID: "F02-output-refused", Title: "the broker refuses one output of the enricher for good and takes the later ones: nothing behind it is committed (R3)",
		Needs: Kfake, Quick: true, Run: onlyThePrefixIsCommitted},
	{ID: "F02-replay", Title: "the enricher killed between the table's acknowledgement and the output's: its replay is no duplicate (R6)",
		Needs: Kfake, Quick: true, Run: aReplayIsNoDuplicate},
	{ID: "F09-swapped", Title: "PostgreSQL replaced by an older copy while the sink does not look: it compares positions before it writes (R11)",
		Needs: Kfake, Quick: true, Run: thePositionIsCompared},
	{ID: "F03-between", Title: "the sink killed in the middle of a transaction: its position has not moved without its data (R10, R11)",
		Needs: Kfake, Quick: true, Run: theDataAndThePosition},
	{ID: "F08-replica-mode", Title: "a session in replication mode changes and deletes what is stored: everything is refused",
		Needs: Kfake, Quick: true, Run: nothingChangesWhatIsStored},
	{ID: "F09-idle", Title: "PostgreSQL replaced by an older copy when nothing happens: the sink notices by itself and fills the difference (R11)",
		Needs: Kfake, Quick: true, Run: theIdleSinkLooks},
	{ID: "F18-late-retry", Title: "events sent again that the enricher has forgotten: the unique key keeps the second copies out (R6, R16)",
		Needs: Kfake, Quick: true, Run: aLateRetryIsNoRecord},
	{ID: "F19-hole", Title: "an aborted transaction leaves a hole in each partition: the output behind it covers it (R4)",
		Needs: Kfake, Quick: true, Run: aHoleIsCovered},
	{ID: "F20-no-commit", Title: "the enrichers' group deleted while events wait: they begin at the start of the log (R2)",
		Needs: Kfake, Quick: true, Run: withoutACommit},
	{ID: "F21-no-gap", Title: "audit-records emptied before the sink read it, and more behind it: made again, not declared lost (R13)",
		Needs: Kfake, Quick: true, Run: noGapUpToFrom},
	{ID: "F22-shadow", Title: "events lost from both logs and sent again: what was dropped as their duplicate is stored (R14)",
		Needs: Kfake, Quick: true, Run: aDropNeedsItsFirstCopy},
	{ID: "F06-only-leader", Title: "the leading broker killed while it alone has the newest messages: those are not acknowledged (R19)", Needs: Kafka, Run: acksOfAll},
}

// ruleSystem is a small system that has stored 500 events.
func ruleSystem(t *T, c *cluster) (*system, *feed) {
	s := startSystem(t, systemConfig{cluster: c, partitions: 2, emitters: 1, enrichers: 1, sinks: 1, gateways: 1})
	f := s.newFeed(traffic.Shape{Seed: 5, Sources: 40, Run: 1})
	f.mustSend(500, load.Config{Batch: 50, Workers: 2})
	s.awaitStored(500, time.Minute)
	return s, f
}

// expectUntouched expects a clean end without a refill: what a mutation loses between enricher and sink is made again (R21), and that
// it had to be is what is wrong.
func (s *system) expectUntouched(f *feed) {
	s.t.Helper()
	s.expectClean(f)
	if n := s.refillsAsked(); n > 0 {
		s.t.Errorf("%v refills were asked for although nothing was lost", n)
	}
}

// refillsAsked is how often the sinks asked enrichers to make lost outputs again.
func (s *system) refillsAsked() (n float64) {
	s.t.Helper()
	for _, addr := range s.sinkHTTP {
		n += metric(s.t, addr, "audittrail_sink_refill_requests_total")
	}
	return n
}

// onlyThePrefixIsCommitted holds R3: the broker refuses an output of the enricher for good and takes the later ones that are in
// flight behind it. With the rule the session ends, nothing behind the failed message is committed, and the message comes again.
// Without it (the highest finished offset wins, as in goka) the commit passes the message over, and nobody has it any more: the sink
// waits for it until it has asked for a refill.
func onlyThePrefixIsCommitted(t *T) {
	{
		c := t.kafka()
		cluster := c.fake
		s, f := ruleSystem(t, c)
		var enough atomic.Bool
		outputs := kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "audit-records"}
		wait, refuse := outputs, outputs
		wait.Err, wait.Count, wait.When = kerr.NotEnoughReplicas, -1, func(kmsg.Request) bool { return !enough.Load() }
		refuse.Err, refuse.Count, refuse.When = kerr.InvalidRecord, 1, func(kmsg.Request) bool { return enough.Load() }
		defer cluster.Fault(wait).Remove()
		refused := cluster.Fault(refuse)
		defer refused.Remove()
		s.sendWhileOutputsWait(f, cluster)
		// Of the outputs that wait, the first batch is refused now.
		enough.Store(true)
		ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
		defer cancel()
		if err := refused.Wait(ctx, 1); err != nil {
			s.t.Fatalf("no output was refused: %v", err)
		}
		s.expectUntouched(f)
	}
}

// sendWhileOutputsWait sends events until the table has states of messages whose outputs wait.
func (s *system) sendWhileOutputsWait(f *feed, cluster *kfake.Cluster) {
	before := tableEnd(cluster)
	f.mustSend(1000, load.Config{Batch: 50, Workers: 2})
	s.await("the table has states of messages whose outputs wait", 30*time.Second, func() bool { return tableEnd(cluster) > before+100 })
}

// aReplayIsNoDuplicate holds R6: the table takes what the enricher writes while its outputs wait, and it is killed then. What it
// replays is in its window already. With the rule (only an earlier slot makes a duplicate) it is sent again; without it each event is
// taken for its own duplicate and dropped.
func aReplayIsNoDuplicate(t *T) {
	{
		c := t.kafka()
		cluster := c.fake
		s, f := ruleSystem(t, c)
		waiting := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "audit-records", Err: kerr.NotEnoughReplicas, Count: -1})
		defer waiting.Remove()
		s.sendWhileOutputsWait(f, cluster)
		s.enrichers[0].Kill9()
		waiting.Remove()
		if err := s.enrichers[0].Start(); err != nil {
			s.t.Fatal(err)
		}
		s.expectUntouched(f)
	}
}

// tableEnd is the number of messages in the enricher's table.
func tableEnd(cluster *kfake.Cluster) (n int64) {
	for _, p := range cluster.PartitionInfos("audit-enricher-table") {
		n += p.HighWatermark
	}
	return n
}

// thePositionIsCompared holds R11: PostgreSQL is replaced by an older copy in a moment in which the sink does not talk to it (the
// sink is stopped in its tracks meanwhile, as a virtual machine may be that is moved). With the rule it notices before it writes
// anything, and fills the difference. Without it the sink goes on where it was, and what the copy did not have is lost.
func thePositionIsCompared(t *T) {
	{
		s, f := ruleSystem(t, t.kafka())
		copied := onlineCopy(s.t, s.postgres)
		had := recordsIn(s.t, copied)
		f.mustSend(2000, load.Config{Batch: 50, Workers: 2})
		s.awaitStored(f.sent, time.Minute)
		s.sinks[0].Pause()
		paused := time.Now()
		swapIn(s.t, s.postgres, copied)
		if now := s.storedTotal(); now != had {
			s.t.Fatalf("PostgreSQL has %d records, want the %d of the copy", now, had)
		}
		// After a second the sink's pool tests a connection before it uses it, and so finds a new one without an error.
		time.Sleep(time.Until(paused.Add(1500 * time.Millisecond)))
		s.sinks[0].Resume()
		s.t.Logf("the sink did not run for %s", time.Since(paused).Round(time.Millisecond))
		f.mustSend(1000, load.Config{Batch: 50, Workers: 2})
		s.expectUntouched(f)
	}
}
