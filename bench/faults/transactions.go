package faults

import (
	"context"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/maxviazov/audittrail/bench/load"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

var transactionScenarios = []Scenario{
	{ID: "F19-transactions", Title: "transactional producers straight into audit-events: committed, aborted, left open; markers first, last and right behind the committed offset, with restarts of enricher and sink at each (R1, R4)",
		Quick: true, Run: transactionsAndRestarts},
}

// transactionsAndRestarts holds R1 and R4 where a marker, which nobody delivers, is all there is to start at: nothing waits for it, nothing of
// an aborted transaction is stored, and what is behind an open one is stored once it has ended.
func transactionsAndRestarts(t *T) {
	s := startSystem(t, systemConfig{cluster: t.kafka(), partitions: badPartitions, emitters: 1, enrichers: 1, sinks: 1, gateways: 1})
	s.allReady(30 * time.Second)
	b := newBadInput(t, s)
	x := &transacting{badInput: b, key: []byte("bad/transactions/prod"), client: b.client(t, kgo.TransactionalID("straight-in"), kgo.TransactionTimeout(3*time.Minute)), admin: s.kafkaAdmin()}

	x.transaction(t, 3, kgo.TryAbort)
	x.restart(t, "an aborted transaction is all there is in the log")

	x.transaction(t, 3, kgo.TryCommit)
	b.settled(t)
	x.restart(t, "a marker is last in the log, and right behind the committed offset")

	x.transaction(t, 2, kgo.TryAbort)
	x.restart(t, "the marker of an aborted transaction is last in the log")

	// The log begins with a marker, and the enrichers begin at it.
	marker := x.transaction(t, 2, kgo.TryCommit)
	b.rawGood(t, string(x.key))
	b.settled(t)
	stop(t, s.enrichers[0])
	x.beginAt(t, marker)
	x.restart(t, "a marker is first in the log")

	x.hanging(t, x.client, func() { x.end(t, kgo.TryAbort) }, true)
	if t.Broker == "kafka" {
		// Its producer is gone for good: the broker ends it.
		dead := b.client(t, kgo.TransactionalID("gone"), kgo.TransactionTimeout(10*time.Second))
		x.hanging(t, dead, func() {}, false)
	}
	v := s.judge()
	t.Logf("verdict: %s", v)
	if !v.OK() || v.Acked != b.good || v.Stored != b.good || v.DeadLetters != 0 {
		t.Errorf(contractBroken+": %d good events: %s", b.good, v)
	}
}

type transacting struct {
	*badInput
	key    []byte
	client *kgo.Client
	admin  *kadm.Client
}

// produced writes n events into an open transaction and returns the offset of the last one.
func (x *transacting) produced(t *T, client *kgo.Client, n int, stored bool) (last int64) {
	t.Helper()
	for range n {
		e := x.event(string(x.key))
		if stored {
			x.store(t, e)
		}
		last = produce(t, client, &kgo.Record{Key: x.key, Value: encode(t, e)}).Offset
	}
	return last
}

// transaction is a whole one; it returns the offset of its marker.
func (x *transacting) transaction(t *T, n int, how kgo.TransactionEndTry) int64 {
	t.Helper()
	if err := x.client.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	last := x.produced(t, x.client, n, how == kgo.TryCommit)
	x.end(t, how)
	return last + 1
}

func (x *transacting) end(t *T, how kgo.TransactionEndTry) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := x.client.EndTransaction(ctx, how); err != nil {
		t.Fatal(err)
	}
}

// restart restarts enricher and sink, and expects that nothing is waited for, and that events go through.
func (x *transacting) restart(t *T, when string) {
	t.Helper()
	stop(t, x.enrichers[0])
	stop(t, x.sinks[0])
	x.startEnded()
	began := time.Now()
	x.settled(t)
	x.rawGood(t, string(x.key))
	x.settled(t)
	t.recovered(when+", and a restart", time.Since(began), goalRecovery)
}

// beginAt deletes what is before an offset, and makes the enrichers' group begin there.
func (x *transacting) beginAt(t *T, offset int64) {
	t.Helper()
	at := kadm.Offsets{}
	at.AddOffset("audit-events", partitionOf(x.key), offset, -1)
	deleted, err := x.admin.DeleteRecords(t.Context(), at)
	if err == nil {
		err = deleted.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	r := &refilling{system: x.system, admin: x.admin}
	r.changeEmpty("audit-enricher", func() error { return x.admin.CommitAllOffsets(t.Context(), "audit-enricher", at) })
}

// hanging leaves a transaction open: what is behind it waits, also over a restart, and other partitions do not. alerted: it is left open for
// so long that status alerts.
func (x *transacting) hanging(t *T, client *kgo.Client, end func(), alerted bool) {
	t.Helper()
	if err := client.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	x.produced(t, client, 2, false)
	behind := x.event(string(x.key))
	x.store(t, behind)
	x.raw(t, x.key, encode(t, behind))
	stop(t, x.enrichers[0])
	stop(t, x.sinks[0])
	x.startEnded()
	stored := func(e *audittrailv1.Event) bool {
		_, err := x.query.GetEvent(t.Context(), &audittrailv1.GetEventRequest{Id: uuid.UUID(load.ID(e)).String()})
		return status.Code(err) == codes.OK
	}
	elsewhere := x.event("bad/elsewhere/prod")
	for partitionOf([]byte(elsewhere.Source)) == partitionOf(x.key) {
		elsewhere.Source += "x"
	}
	x.store(t, elsewhere)
	x.raw(t, []byte(elsewhere.Source), encode(t, elsewhere))
	waitFor(t, "an event of another partition is stored", 30*time.Second, func() bool { return stored(elsewhere) })
	if stored(behind) && client == x.client {
		t.Error("an event behind an open transaction is stored")
	}
	if alerted {
		waitFor(t, "status alerts", 2*time.Minute, func() bool {
			out, err := x.Run(t.Context(), "status", "--addr", x.gatewayAddrs[0])
			return err == nil && strings.Contains(out, "ALERT: partition") && strings.Contains(out, "an open transaction has held up audit-events")
		})
		if out, err := x.Run(t.Context(), "status", "--wait", "--timeout", "2s", "--addr", x.gatewayAddrs[0]); err == nil {
			t.Errorf("status says that everything is stored, but for what is behind an open transaction: %s", out)
		}
	}
	began := time.Now()
	end()
	waitFor(t, "the event behind it is stored", time.Minute, func() bool { return stored(behind) })
	t.recovered("the end of a hanging transaction", time.Since(began), goalRecovery)
	x.settled(t)
}
