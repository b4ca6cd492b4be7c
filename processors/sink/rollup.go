package sink

import (
	"slices"
	"strings"

	"github.com/maxviazov/audittrail/internal/rollup"
	"github.com/maxviazov/audittrail/proto/event"
	"github.com/maxviazov/audittrail/proto/segment"
)

// A bundle that is complete is counted by minute, source, action and outcome in rows of `rollups`, in the transaction that writes its segment: so
// they are there exactly when the segment is, and a log that is built again has the same counts.

// unnamedCell is a cell of a record that was read back from the tail: its source and action have numbers only once the dictionary has been asked.
type unnamedCell struct {
	cell           int
	source, action string
}

// count adds the cell of a record that is in the open bundle.
func (b *bundle) count(id event.ID, source, action int32, outcome int16) {
	b.cells = append(b.cells, rollup.Cell{Minute: rollup.MinuteOf(id.Time().UnixMilli()), Source: source, Action: action, Outcome: outcome, Count: 1})
}

// countRestored adds the cell of a record from the tail.
func (b *bundle) countRestored(id event.ID, s *segment.Summary) {
	b.unnamed = append(b.unnamed, unnamedCell{len(b.cells), strings.Clone(s.Source), strings.Clone(s.Action)})
	b.count(id, 0, 0, outcome(s.Outcome))
}

// wantNames asks the dictionary for what restored cells lack; name gives it to them after the dictionary was filled.
func (b *bundle) wantNames(dict *dictionary) {
	for _, u := range b.unnamed {
		dict.sources.want(u.source)
		dict.actions.want(u.action)
	}
}

func (b *bundle) name(dict *dictionary) {
	for _, u := range b.unnamed {
		b.cells[u.cell].Source, b.cells[u.cell].Action = dict.sources.id(u.source), dict.actions.id(u.action)
	}
	b.unnamed = nil
}

// rollup encodes the rows of a bundle that is complete: one for each day on which its records occurred.
func (b *batch) rollup(log int16, number int64, o *bundle) {
	cells := append(b.lay.cells[:0], o.cells...)
	b.lay.cells = cells
	for cells = rollup.Sum(cells); len(cells) > 0; {
		day := cells[0].Day()
		n := slices.IndexFunc(cells, func(c rollup.Cell) bool { return c.Day() != day })
		if n < 0 {
			n = len(cells)
		}
		records := int32(0)
		for _, c := range cells[:n] {
			records += c.Count
		}
		b.lay.data = rollup.Append(b.lay.data[:0], cells[:n])
		b.out.rollup(o.day, day, log, number, int16(records), b.lay.data)
		cells = cells[n:]
	}
}
