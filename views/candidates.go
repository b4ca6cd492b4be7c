package views

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/maxviazov/audittrail/proto/event"
)

// candidates reads `events` in the order of ids and yields the rows that SQL cannot rule out. One statement looks at a known
// number of rows in a known number of leaves, whatever the filter is. What was not looked at yet is [low, high).
type candidates struct {
	db          querier
	sizes       sizes      // entries from these on came after the walk began
	sources     []int32    // nil: all
	actions     []int32    // nil: all
	outcomes    []int16    // nil: all
	leaves      []event.ID // lower ends of the leaves, greatest first; the last is the smallest id
	low, high   event.ID
	oldestFirst bool
	window      int  // leaves the next statement may open
	done        bool // nothing is left
}

// Leaves that one statement opens: an unbounded one plans for a second and takes thousands of locks.
const (
	firstWindow = 8
	lastWindow  = 64
)

// candidatesSQL looks at $3 rows at most. The fence (MATERIALIZED) keeps the planner from walking further for a row that fits. One more row, of log
// -1, says where it came to and how many rows it looked at.
const (
	candidatesSQL = `
WITH seen AS MATERIALIZED (
	SELECT id, log_index, log_id, day, source_id, action_id, outcome FROM audittrail.events
	WHERE id < $1 AND id >= $2 ORDER BY id DESC LIMIT $3)` + fittingSQL + `
(SELECT id, (SELECT count(*) FROM seen), -1::int2, 0::int2 FROM seen ORDER BY id LIMIT 1)`
	ascendingSQL = `
WITH seen AS MATERIALIZED (
	SELECT id, log_index, log_id, day, source_id, action_id, outcome FROM audittrail.events
	WHERE id < $1 AND id >= $2 ORDER BY id LIMIT $3)` + fittingSQL + `
(SELECT id, (SELECT count(*) FROM seen), -1::int2, 0::int2 FROM seen ORDER BY id DESC LIMIT 1)`
	fittingSQL = `
SELECT id, log_index, log_id, day FROM seen
WHERE log_index < coalesce(($4::int8[])[log_id + 1], 0)
	AND ($5::int4[] IS NULL OR source_id = ANY ($5))
	AND ($6::int4[] IS NULL OR action_id = ANY ($6))
	AND ($7::int2[] IS NULL OR outcome = ANY ($7))
UNION ALL`
)

// next returns up to limit rows' worth of candidates, in order, and how many rows it looked at. Both may be none though more
// follow, until done is set.
func (c *candidates) next(ctx context.Context, limit int) ([]location, int, error) {
	low, high := c.part()
	sql := candidatesSQL
	if c.oldestFirst {
		sql = ascendingSQL
	}
	rows, err := c.db.Query(ctx, sql, [16]byte(high), [16]byte(low), limit, []int64(c.sizes), c.sources, c.actions, c.outcomes)
	if err != nil {
		return nil, 0, fmt.Errorf("read events: %w", err)
	}
	var list []location
	var reached event.ID
	looked := 0
	var l location
	_, err = pgx.ForEachRow(rows, []any{(*[16]byte)(&l.id), &l.index, &l.log, &l.day}, func() error {
		if l.log < 0 {
			reached, looked = l.id, int(l.index)
			return nil
		}
		list = append(list, l)
		return nil
	})
	if err != nil {
		return nil, 0, fmt.Errorf("read events: %w", err)
	}
	slices.SortFunc(list, func(a, b location) int { // it is sorted already; SQL does not promise it
		if c.oldestFirst {
			return a.id.Compare(b.id)
		}
		return b.id.Compare(a.id)
	})
	whole := looked < limit
	switch {
	case whole && c.oldestFirst:
		c.low = high
	case whole:
		c.high = low
	case c.oldestFirst:
		c.low = successor(reached)
	default:
		c.high = reached
	}
	if whole {
		c.window = min(c.window*2, lastWindow)
	}
	c.done = c.low.Compare(c.high) >= 0
	return list, looked, nil
}

// reached is where what was not looked at begins.
func (c *candidates) reached() event.ID {
	if c.oldestFirst {
		return c.low
	}
	return c.high
}

// opens is how many leaves the next statement opens.
func (c *candidates) opens() int64 {
	low, high := c.part()
	n := int64(1)
	for _, lower := range c.leaves {
		if lower.Compare(low) > 0 && lower.Compare(high) < 0 {
			n++
		}
	}
	return n
}

// part is what the next statement reads: the leaves of one window, as far as they are not looked at yet.
func (c *candidates) part() (low, high event.ID) {
	left := c.window
	if c.oldestFirst {
		for i := len(c.leaves) - 1; i >= 0; i-- {
			if lower := c.leaves[i]; lower.Compare(c.low) > 0 {
				if left--; left == 0 {
					if lower.Compare(c.high) < 0 {
						return c.low, lower
					}
					break
				}
			}
		}
		return c.low, c.high
	}
	for _, lower := range c.leaves {
		if lower.Compare(c.high) >= 0 {
			continue // a leaf above what is left
		}
		if left--; left == 0 {
			if lower.Compare(c.low) > 0 {
				return lower, c.high
			}
			break
		}
	}
	return c.low, c.high
}
