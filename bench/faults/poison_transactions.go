package faults

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/google/uuid"

	"github.com/maxviazov/audittrail/bench/load"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// transactions of raw producers: committed events are stored, aborted ones are nowhere, and neither stops what is around them
// (R1: read-committed; R4: a hole is covered by the output behind it).
func (b *badInput) transactions(t *T) {
	source := "bad/transaction/prod"
	key := []byte(source)
	txn := b.client(t, kgo.TransactionalID("bad-input"))
	begin := func() {
		t.Helper()
		if err := txn.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
	}
	end := func(how kgo.TransactionEndTry) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := txn.EndTransaction(ctx, how); err != nil {
			t.Fatal(err)
		}
	}
	within := func(stored bool) {
		t.Helper()
		for range 3 {
			e := b.event(source)
			if stored {
				b.store(t, e)
			}
			produce(t, txn, &kgo.Record{Key: key, Value: encode(t, e)})
		}
		message := b.event(source)
		if stored {
			b.store(t, message)
		}
		produce(t, txn, &kgo.Record{Key: key, Value: envelope(t, encode(t, message))})
	}
	b.rawGood(t, source)
	begin()
	within(false)
	end(kgo.TryAbort)
	b.rawGood(t, source)
	begin()
	within(true)
	end(kgo.TryCommit)
	begin()
	within(false)
	b.rawGood(t, source) // between the events of an aborted transaction
	within(false)
	end(kgo.TryAbort)
	b.settled(t) // a marker is the last thing in the log

	// While a transaction is open, what is behind it waits; other partitions do not. After the abort it is stored.
	begin()
	within(false)
	behind := b.event(source)
	b.store(t, behind)
	b.raw(t, key, encode(t, behind))
	elsewhere := b.event("bad/elsewhere/prod")
	for n := 0; partitionOf([]byte(elsewhere.Source)) == partitionOf(key); n++ {
		elsewhere.Source = fmt.Sprintf("bad/elsewhere%d/prod", n)
	}
	response, err := b.emitter.EmitEvent(t.Context(), &audittrailv1.EmitEventRequest{Event: elsewhere})
	if err != nil {
		t.Fatal(err)
	}
	b.acked(t, elsewhere, response.GetId())
	get := func(e *audittrailv1.Event) codes.Code {
		_, err := b.query.GetEvent(t.Context(), &audittrailv1.GetEventRequest{Id: uuid.UUID(load.ID(e)).String()})
		return status.Code(err)
	}
	waitFor(t, "the event of another partition is stored", 20*time.Second, func() bool { return get(elsewhere) == codes.OK })
	if code := get(behind); code != codes.NotFound {
		t.Errorf("an event behind an open transaction: %s", code)
	}
	end(kgo.TryAbort)
	b.settled(t)
	if code := get(behind); code != codes.OK {
		t.Errorf("an event behind an aborted transaction: %s", code)
	}
}
