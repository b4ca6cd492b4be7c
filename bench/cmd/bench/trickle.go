package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/maxviazov/audittrail/bench/load"
	"github.com/maxviazov/audittrail/bench/traffic"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// trickle sends a few events a second to each partition and measures, for every one, the time from the
// call to its row in PostgreSQL, and what the database and its WAL grow by.
func (r *rig) trickle(ctx context.Context) error {
	perSecond := r.rate * r.partitions
	total := int(r.lasting.Seconds()) * perSecond
	say("%d events/s for %s: %d events", perSecond, r.lasting, total)
	if err := r.awaitStored(ctx, 0, time.Minute); err != nil {
		return err
	}
	client := audittrailv1.NewEmitterServiceClient(r.conn)
	shape := traffic.Shape{Seed: uint64(time.Now().UnixNano()), Sources: 50 * r.partitions, Run: 1}
	if err := r.emitOne(ctx, client, shape, total); err != nil { // the first one waits for everything to be up
		return err
	}
	if err := r.awaitStored(ctx, 1, time.Minute); err != nil {
		return err
	}
	wal, size, err := r.growth(ctx)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var latencies []time.Duration
	var failure error
	var wg sync.WaitGroup
	start := time.Now()
	for i := range total {
		due := start.Add(time.Duration(float64(i) / float64(perSecond) * float64(time.Second)))
		if !waitUntil(ctx, due) {
			return context.Cause(ctx)
		}
		wg.Go(func() { // measured from the intended time: a slow one does not hide those behind it
			err := r.emitOne(ctx, client, shape, i)
			if err == nil {
				err = r.awaitRow(ctx, load.ID(shapeAt(shape, i)))
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failure = err
				return
			}
			latencies = append(latencies, time.Since(due))
		})
		if i%(30*perSecond) == 0 {
			say("%4.0f s: %d of %d sent", time.Since(start).Seconds(), i, total)
		}
	}
	wg.Wait()
	if failure != nil {
		return failure
	}
	walAfter, sizeAfter, err := r.growth(ctx)
	if err != nil {
		return err
	}
	slices.Sort(latencies)
	at := func(q float64) time.Duration {
		return latencies[int(q*float64(len(latencies)-1))].Round(time.Millisecond)
	}
	fmt.Printf("%d events, %d partitions, %d a second and partition, from the intended time of the call to the row in PostgreSQL (found by asking every 10 ms)\n",
		total, r.partitions, r.rate)
	fmt.Printf("stored_ms p50=%s p99=%s max=%s wal_bytes_per_event=%d disk_bytes_per_event=%d\n",
		at(0.5), at(0.99), at(1), (walAfter-wal)/int64(total), (sizeAfter-size)/int64(total))
	return nil
}

var started = time.Now().Truncate(time.Second)

func shapeAt(shape traffic.Shape, i int) *audittrailv1.Event {
	e := shape.Event(i)
	e.OccurredAt = timestamppb.New(started.Add(time.Duration(i) * time.Millisecond))
	return e
}

func (r *rig) emitOne(ctx context.Context, client audittrailv1.EmitterServiceClient, shape traffic.Shape, i int) error {
	for {
		callCtx, cancel := context.WithTimeout(ctx, 10*time.Second)
		_, err := client.EmitEvent(callCtx, &audittrailv1.EmitEventRequest{Event: shapeAt(shape, i)})
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
		if !waitUntil(ctx, time.Now().Add(100*time.Millisecond)) {
			return err
		}
	}
}

func (r *rig) awaitRow(ctx context.Context, id [16]byte) error {
	for deadline := time.Now().Add(30 * time.Second); ; {
		var there bool
		if err := r.pool.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM audittrail.events WHERE id = $1)", id).Scan(&there); err != nil {
			return err
		}
		if there {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("event %x is not stored after 30 s", id)
		}
		if !waitUntil(ctx, time.Now().Add(10*time.Millisecond)) {
			return context.Cause(ctx)
		}
	}
}

// growth is the WAL written so far and the size of the schema's tables with their indexes.
func (r *rig) growth(ctx context.Context) (wal, size int64, err error) {
	err = r.pool.QueryRow(ctx, `SELECT (pg_current_wal_lsn() - '0/0')::int8,
		(SELECT sum(pg_total_relation_size(c.oid))::int8 FROM pg_class c WHERE c.relnamespace = 'audittrail'::regnamespace AND c.relkind = 'r')`).Scan(&wal, &size)
	return wal, size, err
}

func waitUntil(ctx context.Context, at time.Time) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(time.Until(at)):
		return true
	}
}
