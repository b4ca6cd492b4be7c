package sink

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/maxviazov/audittrail/proto/event"
)

// maxCached bounds the memory of a dictionary; it is emptied when full, and filled again from PostgreSQL.
const maxCached = 200_000

// dictionary gives the numbers of sources and actions. It is thrown away with the session (R11): after a rollback of PostgreSQL its numbers may
// be somebody else's.
type dictionary struct {
	sources, actions names
}

type names struct {
	insert, find string
	limit        int // of numbers
	ids          map[string]int32
	missing      map[string]struct{}
}

func newDictionary() *dictionary {
	statements := func(table, id, name string) (insert, find string) {
		// Sorted: two sinks that insert the same names would lock each other out. Names that are there must not use up numbers.
		return "INSERT INTO audittrail." + table + " (" + name + ") SELECT n FROM unnest($1::text[]) WITH ORDINALITY AS u (n, i)" +
				" WHERE NOT EXISTS (SELECT FROM audittrail." + table + " WHERE " + name + " = n) AND (SELECT coalesce(max(" + id + "), 0) FROM audittrail." + table + ") < $2 ORDER BY i ON CONFLICT DO NOTHING",
			"SELECT " + id + ", " + name + " FROM audittrail." + table + " WHERE " + name + " = ANY ($1)"
	}
	d := &dictionary{}
	d.sources.insert, d.sources.find = statements("sources", "source_id", "path")
	d.actions.insert, d.actions.find = statements("actions", "action_id", "name")
	d.sources.limit, d.actions.limit = math.MaxInt32, event.MaxNamedActions
	for _, t := range []*names{&d.sources, &d.actions} {
		t.ids, t.missing = make(map[string]int32), make(map[string]struct{})
	}
	return d
}

// trim forgets everything when there is too much. Called between batches.
func (d *dictionary) trim() {
	for _, t := range []*names{&d.sources, &d.actions} {
		if len(t.ids) > maxCached {
			clear(t.ids)
		}
	}
}

// id is the number of a name; 0 before fetch, and where there is none.
func (t *names) id(name string) int32 { return t.ids[name] }

// want notes a name for fetch. The name may be in memory that is used again.
func (t *names) want(name string) {
	if _, ok := t.ids[name]; ok {
		return
	}
	if _, ok := t.missing[name]; !ok {
		t.missing[strings.Clone(name)] = struct{}{}
	}
}

// fetch gets the numbers of what was wanted, making them where needed, in transactions of its own: in the batch's they would be locks that other
// sinks wait for. If the process dies here, numbers nobody uses remain.
func (d *dictionary) fetch(ctx context.Context, db *pgxpool.Pool) error {
	if err := d.sources.fetch(ctx, db); err != nil {
		return fmt.Errorf("number sources: %w", err)
	}
	if err := d.actions.fetch(ctx, db); err != nil {
		return fmt.Errorf("number actions: %w", err)
	}
	return nil
}

func (t *names) fetch(ctx context.Context, db *pgxpool.Pool) error {
	if len(t.missing) == 0 {
		return nil
	}
	// Different names may be one text when PostgreSQL does not take them as they are.
	texts := make([]string, 0, len(t.missing))
	for name := range t.missing {
		texts = append(texts, text(name))
	}
	slices.Sort(texts)
	texts = slices.Compact(texts)
	found, err := t.lookup(ctx, db, texts)
	if err != nil {
		return err
	}
	if len(found) < len(texts) {
		if _, err := db.Exec(ctx, t.insert, texts, t.limit); err != nil {
			return err
		}
		if found, err = t.lookup(ctx, db, texts); err != nil {
			return err
		}
	}
	for name := range t.missing {
		t.ids[name] = found[text(name)] // 0 beyond the limit
	}
	clear(t.missing)
	return nil
}

func (t *names) lookup(ctx context.Context, db *pgxpool.Pool, texts []string) (map[string]int32, error) {
	rows, err := db.Query(ctx, t.find, texts)
	if err != nil {
		return nil, err
	}
	found := make(map[string]int32, len(texts))
	var id int32
	var name string
	_, err = pgx.ForEachRow(rows, []any{&id, &name}, func() error {
		found[name] = id
		return nil
	})
	return found, err
}
