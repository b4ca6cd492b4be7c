package indexer

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/maxviazov/audittrail/internal/termindex"
	"github.com/maxviazov/audittrail/proto/event"
)

func start(t testing.TB, cfg Config) *Indexer {
	t.Helper()
	if cfg.Duty == 0 {
		cfg.Duty = 1
	}
	x, err := New(cfg, zerolog.Nop(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.db.Close)
	return x
}

func (f *filled) verify(t *testing.T, rounds int) {
	t.Helper()
	slices.SortFunc(f.segments, func(a, b stored) int { return cmp.Or(cmp.Compare(a.Log, b.Log), cmp.Compare(a.Bundle, b.Bundle)) })
	var index termindex.Index
	for range rounds {
		clauses := make([][]uint64, f.rng.IntN(4))
		for i := range clauses {
			for range 1 + f.rng.IntN(3) {
				clauses[i] = append(clauses[i], f.anyTerm())
			}
		}
		r, err := index.Lookup(t.Context(), f.db, clauses, termindex.Range{})
		if err != nil {
			t.Fatal(err)
		}
		if want := f.naive(r.Covered, clauses); !slices.Equal(r.Segments, want) {
			t.Fatalf("%d clauses: %v, want %v", len(clauses), r.Segments, want)
		}
	}
	report, err := Check(t.Context(), f.dsn, func(int, int) {})
	if err != nil || !report.OK() || report.Extra > 0 || report.Twice > 0 {
		t.Errorf("check: %+v, %v", report, err)
	}
}

// TestRunsFindWhatSegmentsHold: runs of three levels, over logs of different sizes, while segments are added.
func TestRunsFindWhatSegmentsHold(t *testing.T) {
	t.Parallel()
	f := newFilled(t)
	x := start(t, Config{DSN: f.writer(t), RunSegments: 8, Fan: 2, Levels: 2})
	for round := range 4 {
		for log := range int16(3) {
			f.add(t, log, 3+7*int(log)+round, 40)
		}
		if err := x.work(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.verify(t, 50)
	}
	runs, err := termindex.ReadRuns(t.Context(), f.db, nil)
	if err != nil {
		t.Fatal(err)
	}
	levels := make(map[int16]int)
	for _, r := range runs {
		levels[r.Level]++
	}
	if levels[2] == 0 || levels[0] > 1 || levels[1] > 1 {
		t.Errorf("runs by level: %v", levels)
	}
	if n, err := termindex.Backlog(t.Context(), f.db); err != nil || n >= 8 {
		t.Errorf("backlog of %d segments, %v", n, err)
	}
	// Only runs that meet the range are looked at.
	var index termindex.Index
	late := termindex.Range{From: event.LowerBound(time.Now().Add(time.Hour))}
	if r, err := index.Lookup(t.Context(), f.db, nil, late); err != nil || r.Runs != 0 || len(r.Segments) != 0 || len(r.Covered) != 3 {
		t.Errorf("lookup in the future: %+v, %v", r, err)
	}
}

// TestCheckAndRebuild: what is missing in a block is found and mended, also in a merged run, while an indexer runs.
func TestCheckAndRebuild(t *testing.T) {
	t.Parallel()
	f := newFilled(t)
	dsn := f.writer(t)
	x := start(t, Config{DSN: dsn, RunSegments: 8, Fan: 2, Interval: 10 * time.Millisecond})
	f.add(t, 0, 40, 40)
	if err := x.work(t.Context()); err != nil {
		t.Fatal(err)
	}
	var damaged int64
	if err := f.db.QueryRow(t.Context(), `WITH t AS (SELECT run_id, first_hash FROM audittrail.term_blocks ORDER BY random() LIMIT 1) SELECT run_id FROM t`).Scan(&damaged); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{"ALTER TABLE audittrail.term_blocks DISABLE TRIGGER run_gone",
		fmt.Sprintf("DELETE FROM audittrail.term_blocks WHERE (run_id, first_hash) IN (SELECT run_id, first_hash FROM audittrail.term_blocks WHERE run_id = %d LIMIT 1)", damaged),
		"ALTER TABLE audittrail.term_blocks ENABLE ALWAYS TRIGGER run_gone"} {
		if _, err := f.db.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	done := 0
	report, err := Check(t.Context(), dsn, func(n, total int) { done = total - n })
	if err != nil || report.OK() || report.Missing == 0 || done != 0 {
		t.Fatalf("check of a damaged index: %+v, %v", report, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	other := start(t, Config{DSN: dsn, RunSegments: 8, Fan: 2, Interval: 10 * time.Millisecond})
	wg.Go(func() { other.Run(ctx) })
	if _, err := Rebuild(t.Context(), dsn, func(int, int) {}); err != nil {
		t.Error(err)
	}
	cancel()
	wg.Wait()
	f.verify(t, 50)
}

const childEnv = "AUDITTRAIL_TEST_INDEXER"

// child is an indexer that is killed.
func child() {
	x, err := New(Config{DSN: os.Getenv(childEnv), RunSegments: 16, Fan: 2, Interval: time.Millisecond, Duty: 0.5}, zerolog.Nop(), nil)
	if err != nil {
		panic(err)
	}
	fmt.Println("started")
	x.Run(context.Background())
}

// TestKill kills an indexer at any moment, many times; at the end everything is indexed, once.
func TestKill(t *testing.T) {
	t.Parallel()
	f := newFilled(t)
	dsn := f.writer(t)
	f.add(t, 0, 200, 100)
	f.add(t, 1, 200, 100)
	backlog := func() int64 {
		left, err := termindex.Backlog(t.Context(), f.db)
		if err != nil {
			t.Fatal(err)
		}
		return left
	}
	var lefts []int64
	for i := range 10 {
		before := backlog()
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+dsn)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(20 * time.Second); i%2 == 0 && backlog() == before && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Duration(f.rng.IntN(60)) * time.Millisecond) // the moment of death is what varies
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		lefts = append(lefts, backlog())
	}
	f.verify(t, 10)
	t.Logf("segments left after each death: %v", lefts)
	if lefts[len(lefts)-1] == 400 {
		t.Error("no indexer got anywhere before it was killed")
	}
	x := start(t, Config{DSN: dsn, RunSegments: 16, Fan: 2})
	deadline := time.Now().Add(30 * time.Second)
	for backlog() > 0 && time.Now().Before(deadline) { // the server may hold the lock of the dead one for a moment
		if err := x.work(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if left := backlog(); left > 0 {
		t.Errorf("%d segments are not indexed", left)
	}
	f.verify(t, 30)
	var orphans int
	if err := f.db.QueryRow(t.Context(), "SELECT count(*) FROM audittrail.term_blocks LEFT JOIN audittrail.term_runs r USING (run_id) WHERE r.run_id IS NULL").Scan(&orphans); err != nil || orphans > 0 {
		t.Errorf("%d blocks without a run, %v", orphans, err)
	}
}
