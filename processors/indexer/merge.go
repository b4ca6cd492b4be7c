package indexer

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/maxviazov/audittrail/internal/termindex"
	"github.com/maxviazov/audittrail/proto/event"
)

// mergeable returns the oldest runs of a level that are to become one, or nothing.
func mergeable(runs []*termindex.Run, cfg Config) []*termindex.Run {
	byLevel := make([][]*termindex.Run, max(cfg.Levels, 0))
	for _, r := range runs {
		if int(r.Level) >= len(byLevel) {
			continue
		}
		l := &byLevel[r.Level]
		if *l = append(*l, r); len(*l) == cfg.Fan {
			return *l
		}
	}
	return nil
}

// merge makes one run of several, in their order: its spans are theirs, its ordinals go on from run to run. The parts are read block by block.
func merge(ctx context.Context, db database, parts []*termindex.Run, rest func(context.Context) error) (*termindex.Run, error) {
	out := &termindex.Run{Level: parts[0].Level + 1}
	ids := make([]int64, len(parts))
	cursors := make([]*cursor, len(parts))
	var pairs int64
	for i, p := range parts {
		cursors[i] = &cursor{db: db, run: p, base: uint32(out.Segments)}
		ids[i] = p.ID
		out.Segments += p.Segments
		out.Spans = append(out.Spans, p.Spans...)
		pairs += p.Pairs
		if p.MinID != nil && (out.MinID == nil || event.ID(*p.MinID).Compare(*out.MinID) < 0) {
			out.MinID = p.MinID
		}
		if p.MaxID != nil && (out.MaxID == nil || event.ID(*p.MaxID).Compare(*out.MaxID) > 0) {
			out.MaxID = p.MaxID
		}
	}
	// Rare terms are most of the hashes: about a third of the pairs.
	err := writeRun(ctx, db, out, int(pairs/3), func(add func(uint32, []uint32) error) error { return mergeGroups(ctx, cursors, add, rest) }, ids)
	if err != nil {
		return nil, fmt.Errorf("merge term runs %v: %w", ids, err)
	}
	return out, nil
}

func mergeGroups(ctx context.Context, cursors []*cursor, add func(uint32, []uint32) error, rest func(context.Context) error) error {
	for _, c := range cursors {
		if err := c.next(ctx); err != nil {
			return err
		}
	}
	var ordinals []uint32
	for n := 1; ; n++ {
		first := (*cursor)(nil)
		for _, c := range cursors {
			if !c.ended && (first == nil || c.groups.Hash < first.groups.Hash) {
				first = c
			}
		}
		if first == nil {
			return nil
		}
		hash := first.groups.Hash
		ordinals = ordinals[:0]
		for _, c := range cursors {
			if c.ended || c.groups.Hash != hash {
				continue
			}
			for _, o := range c.groups.Ordinals {
				ordinals = append(ordinals, c.base+o)
			}
			if err := c.next(ctx); err != nil {
				return err
			}
		}
		if err := add(hash, ordinals); err != nil {
			return err
		}
		if n%20_000 == 0 {
			if err := rest(ctx); err != nil {
				return err
			}
		}
	}
}

// cursor goes through the groups of a run.
type cursor struct {
	db     termindex.Querier
	run    *termindex.Run
	base   uint32 // of its ordinals in the merged run
	groups termindex.Groups
	ended  bool

	blocks []block
	from   int64 // the next query begins here
	done   bool  // the last block was read
}

type block struct {
	first int64
	data  []byte
}

// cursorBlocks is how many blocks are in memory for each run that is merged.
const cursorBlocks = 128

func (c *cursor) next(ctx context.Context) error {
	for !c.groups.Next() {
		if err := c.groups.Err(); err != nil {
			return fmt.Errorf("read run %d: %w", c.run.ID, err)
		}
		if len(c.blocks) == 0 && !c.done {
			if err := c.fetch(ctx); err != nil {
				return fmt.Errorf("read run %d: %w", c.run.ID, err)
			}
		}
		if len(c.blocks) == 0 {
			c.ended = true
			return nil
		}
		c.groups.Reset(uint32(c.blocks[0].first), c.blocks[0].data, uint32(c.run.Segments))
		c.blocks = c.blocks[1:]
	}
	return nil
}

func (c *cursor) fetch(ctx context.Context) error {
	rows, err := c.db.Query(ctx, `SELECT first_hash, data FROM audittrail.term_blocks WHERE run_id = $1 AND first_hash >= $2 ORDER BY first_hash LIMIT $3`,
		c.run.ID, c.from, cursorBlocks)
	if err != nil {
		return err
	}
	c.blocks, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (b block, err error) {
		return b, row.Scan(&b.first, &b.data)
	})
	if n := len(c.blocks); n > 0 {
		c.from = c.blocks[n-1].first + 1
	}
	c.done = len(c.blocks) < cursorBlocks
	return err
}
