package termindex

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// Index looks terms up. It remembers the directory: runs never change, they only come and go. Several goroutines may use it.
type Index struct {
	mu   sync.Mutex
	runs map[int64]*Run
}

// Result is what a lookup found.
type Result struct {
	// Segments may hold all that was asked for; those that are not among them, and below Covered, do not. By log and bundle.
	Segments []Segment
	// Covered is the first bundle of each log that no run knows; the filters of segments from there on decide. Logs without an entry: 0.
	Covered map[int16]int64
	// Runs and Blocks that were looked at, and Considered: the segments in these runs.
	Runs, Blocks, Considered int
}

// Lookup finds the segments of runs that may hold a record in the range with, for every clause, one of its terms (an AND of ORs). A clause
// without terms is held by none; no clauses: every segment of the runs in the range.
//
// Runs are merged while this reads. In a transaction of one snapshot (REPEATABLE READ) that is not seen; otherwise a lookup to which it happens
// begins again.
func (x *Index) Lookup(ctx context.Context, db Querier, clauses [][]uint64, rg Range) (Result, error) {
	for try := 0; ; try++ {
		r, err := x.lookup(ctx, db, clauses, rg)
		if !errors.Is(err, errMerged) || try == 10 {
			return r, err
		}
	}
}

var errMerged = errors.New("term runs were merged meanwhile")

func (x *Index) lookup(ctx context.Context, db Querier, clauses [][]uint64, rg Range) (Result, error) {
	all, err := x.directory(ctx, db)
	if err != nil {
		return Result{}, err
	}
	result := Result{Covered: Covered(all)}
	var runs []*Run
	var ids []int64
	for _, r := range all {
		if r.meets(rg) {
			runs, ids = append(runs, r), append(ids, r.ID)
			result.Considered += int(r.Segments)
		}
	}
	result.Runs = len(runs)
	found := make(map[int64]bitmap, len(runs))
	for _, r := range runs {
		found[r.ID] = newBitmap(int(r.Segments), true)
	}
	for _, terms := range clauses {
		n, err := narrow(ctx, db, runs, terms, found)
		result.Blocks += n
		if err != nil {
			return Result{}, err
		}
	}
	for _, r := range runs {
		if hits := found[r.ID]; hits.any() {
			r.All(func(o uint32, s Segment) {
				if hits.has(o) {
					result.Segments = append(result.Segments, s)
				}
			})
		}
	}
	sortSegments(result.Segments)
	if len(clauses) > 0 {
		// A run that is there now was there when its blocks were read.
		rows, err := db.Query(ctx, "SELECT count(*) FROM audittrail.term_runs WHERE run_id = ANY ($1)", ids)
		if err != nil {
			return Result{}, fmt.Errorf("read term runs: %w", err)
		}
		n, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[int])
		if err != nil {
			return Result{}, fmt.Errorf("read term runs: %w", err)
		}
		if n != len(ids) {
			return Result{}, errMerged
		}
	}
	return result, nil
}

// directory returns the runs that are there now, reading those it does not know.
func (x *Index) directory(ctx context.Context, db Querier) ([]*Run, error) {
	rows, err := db.Query(ctx, "SELECT run_id FROM audittrail.term_runs ORDER BY run_id")
	if err != nil {
		return nil, fmt.Errorf("read term runs: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("read term runs: %w", err)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	missing := []int64{}
	known := make(map[int64]*Run, len(ids))
	for _, id := range ids {
		if r := x.runs[id]; r != nil {
			known[id] = r
		} else {
			missing = append(missing, id)
		}
	}
	if len(missing) > 0 {
		read, err := ReadRuns(ctx, db, missing)
		if err != nil {
			return nil, err
		}
		for _, r := range read {
			known[r.ID] = r
		}
	}
	x.runs = known
	runs := make([]*Run, 0, len(ids))
	for _, id := range ids {
		if known[id] == nil {
			return nil, errMerged
		}
		runs = append(runs, known[id])
	}
	return runs, nil
}

// chunk is how many blocks one query reads at most.
const chunk = 1000

// narrow takes the segments out of found that hold none of the terms.
func narrow(ctx context.Context, db Querier, runs []*Run, terms []uint64, found map[int64]bitmap) (blocks int, err error) {
	type want struct {
		run  int64
		hash int64
	}
	hashes := make([]int64, 0, len(terms))
	for _, t := range terms {
		hashes = append(hashes, int64(Hash(t)))
	}
	slices.Sort(hashes)
	hashes = slices.Compact(hashes)
	var wants []want
	hits := make(map[int64]bitmap, len(runs))
	segments := make(map[int64]uint32, len(runs))
	for _, r := range runs {
		if !found[r.ID].any() {
			continue
		}
		hits[r.ID], segments[r.ID] = newBitmap(int(r.Segments), false), uint32(r.Segments)
		for _, h := range hashes {
			wants = append(wants, want{r.ID, h})
		}
	}
	var g Groups
	for part := range slices.Chunk(wants, chunk) {
		ids, hs := make([]int64, len(part)), make([]int64, len(part))
		for i, w := range part {
			ids[i], hs[i] = w.run, w.hash
		}
		rows, err := db.Query(ctx, `SELECT w.run_id, w.hash, b.first_hash, b.data FROM unnest($1::int8[], $2::int8[]) AS w (run_id, hash)
			CROSS JOIN LATERAL (SELECT first_hash, data FROM audittrail.term_blocks t WHERE t.run_id = w.run_id AND t.first_hash <= w.hash
			ORDER BY t.first_hash DESC LIMIT 1) b`, ids, hs)
		if err != nil {
			return blocks, fmt.Errorf("read term blocks: %w", err)
		}
		var run, hash, first int64
		var data pgtype.DriverBytes
		if _, err := pgx.ForEachRow(rows, []any{&run, &hash, &first, &data}, func() error {
			blocks++
			if g.Reset(uint32(first), data, segments[run]); g.Find(uint32(hash)) {
				for _, o := range g.Ordinals {
					hits[run].set(o)
				}
			}
			return g.Err()
		}); err != nil {
			return blocks, fmt.Errorf("read term blocks: %w", err)
		}
	}
	for id, b := range hits {
		found[id].and(b)
	}
	return blocks, nil
}

type bitmap []uint64

func newBitmap(n int, full bool) bitmap {
	b := make(bitmap, (n+63)/64)
	if full {
		for i := range n {
			b.set(uint32(i))
		}
	}
	return b
}

func (b bitmap) set(i uint32)      { b[i/64] |= 1 << (i % 64) }
func (b bitmap) has(i uint32) bool { return b[i/64]>>(i%64)&1 == 1 }

func (b bitmap) and(other bitmap) {
	for i := range b {
		b[i] &= other[i]
	}
}

func (b bitmap) any() bool {
	for _, w := range b {
		if bits.OnesCount64(w) > 0 {
			return true
		}
	}
	return false
}
