package views

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// pattern is a value of a dictionary, or a prefix of values.
type pattern struct {
	text   string
	prefix bool
}

// patterns narrows a dictionary: a value must fit one pattern of each element. Nil admits every value.
type patterns [][]pattern

// maxPatterns bounds the work of one call; more alternatives do not narrow.
const maxPatterns = 256

func (a patterns) and(b patterns) patterns { return append(slices.Clip(a), b...) }

// or keeps one element of each side: exact where both have one, too much where they have more.
func (a patterns) or(b patterns) patterns {
	if a == nil || b == nil {
		return nil
	}
	either := append(slices.Clip(a[0]), b[0]...)
	if len(either) > maxPatterns {
		return nil
	}
	return patterns{either}
}

// dictionary is one of the tables that give values numbers.
type dictionary struct{ byValue, byPrefix string }

var (
	sourceDictionary = dictionary{
		byValue:  `SELECT source_id FROM audittrail.sources WHERE path = $1`,
		byPrefix: `SELECT source_id FROM audittrail.sources WHERE path >= $1 AND path < $2`,
	}
	actionDictionary = dictionary{
		byValue:  `SELECT action_id FROM audittrail.actions WHERE name = $1`,
		byPrefix: `SELECT action_id FROM audittrail.actions WHERE name >= $1 AND name < $2`,
	}
)

// resolve returns the numbers that the patterns admit, sorted; nil when every number is admitted. What is not in the
// dictionary yet has no event either: a value gets its number before the first event with it is stored.
func (d dictionary) resolve(ctx context.Context, db querier, p patterns) ([]int32, error) {
	if p == nil {
		return nil, nil
	}
	var admitted []int32
	for i, alternatives := range p {
		ids := []int32{}
		for _, a := range alternatives {
			some, err := d.lookup(ctx, db, a)
			if err != nil {
				return nil, fmt.Errorf("look up dictionary: %w", err)
			}
			ids = append(ids, some...)
		}
		slices.Sort(ids)
		ids = slices.Compact(ids)
		if i > 0 {
			ids = slices.DeleteFunc(ids, func(id int32) bool {
				_, found := slices.BinarySearch(admitted, id)
				return !found
			})
		}
		admitted = ids
	}
	return admitted, nil
}

func (d dictionary) lookup(ctx context.Context, db querier, p pattern) ([]int32, error) {
	var rows pgx.Rows
	var err error
	switch {
	case strings.ContainsFunc(p.text, func(r rune) bool { return r < ' ' || r > '~' }):
		return nil, nil // no path and no action has such characters
	case p.prefix:
		last := len(p.text) - 1 // never empty, see test.narrow
		rows, err = db.Query(ctx, d.byPrefix, p.text, p.text[:last]+string(rune(p.text[last]+1)))
	default:
		rows, err = db.Query(ctx, d.byValue, p.text)
	}
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[int32])
}
