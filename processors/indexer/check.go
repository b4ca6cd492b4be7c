package indexer

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/maxviazov/audittrail/internal/termindex"
)

// Report is what Check found.
type Report struct {
	Runs, Segments int
	// Missing pairs: a search by a term would not find a segment. Rebuild mends it.
	Missing int64
	// Extra pairs: a search reads a segment for nothing. Retention leaves some where it has removed records of a segment.
	Extra int64
	// Damaged runs cannot be read.
	Damaged []error
	// Holes are segments between the runs of a log that no run has, and Twice those that several have.
	Holes, Twice int64
}

// OK says whether a search finds everything.
func (r Report) OK() bool { return r.Missing == 0 && len(r.Damaged) == 0 && r.Holes == 0 }

// Progress says how many of the segments are done.
type Progress func(done, total int)

// Check compares every run with its segments. It takes no lock: runs that are merged meanwhile are left out, and counted by the next check.
func Check(ctx context.Context, dsn string, progress Progress) (Report, error) {
	var report Report
	db, err := openPool(dsn, nil)
	if err != nil {
		return report, fmt.Errorf("check the index: %w", err)
	}
	defer db.Close()
	runs, err := termindex.ReadRuns(ctx, db, nil)
	if err != nil {
		return report, fmt.Errorf("check the index: %w", err)
	}
	total := 0
	for _, r := range runs {
		total += int(r.Segments)
	}
	report.Holes, report.Twice = layout(runs)
	for _, r := range runs {
		missing, extra, err := checkRun(ctx, db, r, func(n int) error {
			report.Segments += n
			progress(report.Segments, total)
			return nil
		})
		switch {
		case errors.Is(err, termindex.ErrMalformed):
			report.Damaged = append(report.Damaged, err)
		case err != nil:
			return report, fmt.Errorf("check the index: %w", err)
		}
		report.Runs++
		report.Missing, report.Extra = report.Missing+missing, report.Extra+extra
	}
	return report, nil
}

// layout looks for holes between runs and for segments that are in two.
func layout(runs []*termindex.Run) (holes, twice int64) {
	type log struct{ first, end, segments int64 }
	logs := make(map[int16]log)
	for _, r := range runs {
		for _, s := range r.Spans {
			l, ok := logs[s.Log]
			if !ok {
				l = log{first: s.First}
			}
			logs[s.Log] = log{min(l.first, s.First), max(l.end, s.End), l.segments + s.End - s.First}
		}
	}
	for _, l := range logs {
		holes += max(0, l.end-l.first-l.segments)
		twice += max(0, l.segments-(l.end-l.first))
	}
	return holes, twice
}

func checkRun(ctx context.Context, db *pgxpool.Pool, r *termindex.Run, progress func(int) error) (missing, extra int64, err error) {
	// A run has the pairs of up to 262,144 segments: they are compared in parts of a few thousand, each with a pass over the run's blocks.
	for _, part := range parts(r.Spans, checkPart) {
		var b builder
		if err := b.read(ctx, db, part.spans, progress); err != nil {
			return missing, extra, err
		}
		want := b.pairs.sorted()
		at := 0
		c := cursor{db: db, run: r}
		for {
			if err := c.next(ctx); err != nil {
				return missing, extra, err
			}
			if c.ended {
				break
			}
			for _, o := range c.groups.Ordinals {
				if o < part.base || o-part.base >= uint32(b.run.Segments) {
					continue
				}
				have := uint64(c.groups.Hash)<<32 | uint64(o-part.base)
				for ; at < len(want) && want[at] < have; at++ {
					if at == 0 || want[at] != want[at-1] {
						missing++
					}
				}
				if at == len(want) || want[at] != have {
					extra++
				}
				for at < len(want) && want[at] == have {
					at++
				}
			}
		}
		for ; at < len(want); at++ {
			if at == 0 || want[at] != want[at-1] {
				missing++
			}
		}
		if missing > 0 { // merged meanwhile, or wrong?
			if runs, err := termindex.ReadRuns(ctx, db, []int64{r.ID}); err != nil || len(runs) == 0 {
				return 0, 0, err
			}
		}
	}
	return missing, extra, nil
}

const checkPart = 4096

type part struct {
	spans []termindex.Span
	base  uint32 // ordinal of its first segment
}

// parts cuts spans into parts of at most limit segments.
func parts(spans []termindex.Span, limit int64) (all []part) {
	var p part
	left, base := limit, uint32(0)
	for _, s := range spans {
		for s.First < s.End {
			n := min(left, s.End-s.First)
			p.spans = append(p.spans, termindex.Span{Log: s.Log, Day: s.Day, First: s.First, End: s.First + n})
			s.First, left, base = s.First+n, left-n, base+uint32(n)
			if left == 0 {
				all = append(all, p)
				p, left = part{base: base}, limit
			}
		}
	}
	if len(p.spans) > 0 {
		all = append(all, p)
	}
	return all
}
