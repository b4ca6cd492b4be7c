package faults

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/maxviazov/audittrail/bench/ledger"
	"github.com/maxviazov/audittrail/bench/load"
	"github.com/maxviazov/audittrail/bench/traffic"
)

// feed is traffic in several parts into one system: one ledger, and numbers that go on.
type feed struct {
	s        *system
	ledger   *ledger.Ledger
	shape    traffic.Shape
	sent     int // events so far, all of them acknowledged
	progress load.Progress
}

func (s *system) newFeed(shape traffic.Shape) *feed {
	s.t.Helper()
	l, err := ledger.Create(s.ledger)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { l.Close() })
	if shape.Start.IsZero() {
		shape.Start = time.Now().Add(-time.Hour)
	}
	return &feed{s: s, ledger: l, shape: shape}
}

// send sends n events and returns when they are acknowledged.
func (f *feed) send(ctx context.Context, n int, c load.Config) (load.Report, error) {
	c.Conns, c.Brokers, c.Ledger, c.Shape, c.First, c.Events = f.s.conns(), f.s.Brokers, f.ledger, f.shape, f.sent, n
	c.Batch, c.Workers = max(c.Batch, 1), max(c.Workers, 1)
	report, err := load.Run(ctx, c, &f.progress)
	if err == nil {
		f.sent += n
	}
	return report, err
}

// mustSend is send for parts of a test during which nothing else happens.
func (f *feed) mustSend(n int, c load.Config) load.Report {
	f.s.t.Helper()
	report, err := f.send(f.s.t.Context(), n, c)
	if err != nil {
		f.s.t.Fatal(err)
	}
	return report
}

// stored reads how many records each log holds.
func stored(ctx context.Context, conn *pgx.Conn) (map[int16]int64, error) {
	rows, err := conn.Query(ctx, "SELECT log_id, records FROM audittrail.heads")
	if err != nil {
		return nil, fmt.Errorf("read heads: %w", err)
	}
	counts := map[int16]int64{}
	var log int16
	var records int64
	if _, err := pgx.ForEachRow(rows, []any{&log, &records}, func() error { counts[log] = records; return nil }); err != nil {
		return nil, fmt.Errorf("read heads: %w", err)
	}
	return counts, nil
}

// storedTotal is the number of records in all logs, or -1 while PostgreSQL does not answer.
func (s *system) storedTotal() int {
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.postgres.DSN())
	if err != nil {
		return -1
	}
	defer conn.Close(context.WithoutCancel(ctx))
	counts, err := stored(ctx, conn)
	if err != nil {
		return -1
	}
	total := 0
	for _, n := range counts {
		total += int(n)
	}
	return total
}

// awaitStored waits until at least n records are stored, and returns how long that took.
func (s *system) awaitStored(n int, within time.Duration) time.Duration {
	s.t.Helper()
	return s.await(fmt.Sprintf("%d records are stored", n), within, func() bool { return s.storedTotal() >= n })
}

// await waits for a condition.
func (s *system) await(what string, within time.Duration, holds func() bool) time.Duration {
	s.t.Helper()
	if s.t.Mutation != "" {
		within = min(within, 25*time.Second) // it may never hold, which is what shows the mutation
	}
	began := time.Now()
	for !holds() {
		if time.Since(began) > within {
			s.t.Fatalf("not within %s: %s", within, what)
		}
		time.Sleep(50 * time.Millisecond)
	}
	return time.Since(began)
}
