package views

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/maxviazov/audittrail/proto/event"
)

// candidates walks `events` from the newest id down and yields the rows that SQL cannot rule out. One statement looks at a known
// number of rows in a known number of leaves, whatever the filter is.
type candidates struct {
	db       querier
	sizes    sizes      // entries from these on came after the walk began
	sources  []int32    // nil: all
	actions  []int32    // nil: all
	outcomes []int16    // nil: all
	leaves   []event.ID // lower ends of the leaves, greatest first; the last is the smallest id
	low      event.ID   // nothing below is possible
	below    event.ID   // what was not looked at yet is below
	window   int        // leaves the next statement may open
	done     bool       // everything down to low was looked at
}

// Leaves that one statement opens: an unbounded one plans for a second and takes thousands of locks.
const (
	firstWindow = 8
	lastWindow  = 64
)

// candidatesSQL looks at $3 rows at most. The fence (MATERIALIZED) keeps the planner from walking further for a row that fits. One more row, of log
// -1, says where it came to and how many rows it looked at.
const candidatesSQL = `
WITH seen AS MATERIALIZED (
	SELECT id, log_index, log_id, day, source_id, action_id, outcome FROM audittrail.events
	WHERE id < $1 AND id >= $2 ORDER BY id DESC LIMIT $3)
SELECT id, log_index, log_id, day FROM seen
WHERE log_index < coalesce(($4::int8[])[log_id + 1], 0)
	AND ($5::int4[] IS NULL OR source_id = ANY ($5))
	AND ($6::int4[] IS NULL OR action_id = ANY ($6))
	AND ($7::int2[] IS NULL OR outcome = ANY ($7))
UNION ALL
(SELECT id, (SELECT count(*) FROM seen), -1::int2, 0::int2 FROM seen ORDER BY id LIMIT 1)`

// next returns up to limit rows' worth of candidates, newest first, and how many rows it looked at. Both may be none though more
// follow, until done is set.
func (c *candidates) next(ctx context.Context, limit int) ([]location, int, error) {
	floor := c.floor()
	rows, err := c.db.Query(ctx, candidatesSQL, [16]byte(c.below), [16]byte(floor), limit, []int64(c.sizes), c.sources, c.actions, c.outcomes)
	if err != nil {
		return nil, 0, fmt.Errorf("read events: %w", err)
	}
	var found []location
	var reached *event.ID
	looked := 0
	var l location
	_, err = pgx.ForEachRow(rows, []any{(*[16]byte)(&l.id), &l.index, &l.log, &l.day}, func() error {
		if l.log < 0 {
			id := l.id
			reached, looked = &id, int(l.index)
			return nil
		}
		found = append(found, l)
		return nil
	})
	if err != nil {
		return nil, 0, fmt.Errorf("read events: %w", err)
	}
	slices.SortFunc(found, func(a, b location) int { return b.id.Compare(a.id) }) // it is sorted already; SQL does not promise it
	if looked == limit {
		c.below = *reached
		return found, looked, nil
	}
	// The window is exhausted.
	c.below = floor
	c.done = floor.Compare(c.low) <= 0
	c.window = min(c.window*2, lastWindow)
	return found, looked, nil
}

// floor is the lower end of the next statement: that of the window's last leaf, but not below low.
func (c *candidates) floor() event.ID {
	left := c.window
	for _, lower := range c.leaves {
		if lower.Compare(c.below) >= 0 {
			continue // a leaf above what is left
		}
		if left--; left == 0 {
			if lower.Compare(c.low) > 0 {
				return lower
			}
			break
		}
	}
	return c.low
}
