package rollup

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// Cell is a count of events that agree in everything but what is not in it.
type Cell struct {
	Minute  int32 // of occurrence, since 1970-01-01 UTC
	Source  int32 // sources.source_id
	Action  int32 // actions.action_id; 0: the dictionary of actions was full
	Count   int32
	Outcome int16 // number of audittrail.v1.Outcome
}

const (
	minutesPerDay = 24 * 60
	// firstDay is 2000-01-01 in days since 1970-01-01: days in PostgreSQL are counted from there.
	firstDay = 10957
	version  = 1
)

// Day is the cell's day of occurrence as PostgreSQL has it (audittrail.day_number).
func (c *Cell) Day() int16 { return int16(floorDiv(c.Minute, minutesPerDay) - firstDay) }

// MinuteOf is the minute of a time in milliseconds since 1970. Times that no row can have (before 1910, after 2089) count in the first or last
// minute there is.
func MinuteOf(ms int64) int32 {
	m := ms / 60_000
	if ms < 0 && ms%60_000 != 0 {
		m--
	}
	return int32(min(max(m, minMinute), maxMinute))
}

const (
	minMinute = (firstDay - 1<<15) * minutesPerDay
	maxMinute = (firstDay+1<<15)*minutesPerDay - 1
)

func floorDiv(a, b int32) int32 {
	if q := a / b; a%b >= 0 {
		return q
	}
	return a/b - 1
}

func compare(a, b Cell) int {
	return cmp.Or(cmp.Compare(a.Minute, b.Minute), cmp.Compare(a.Source, b.Source), cmp.Compare(a.Action, b.Action), cmp.Compare(a.Outcome, b.Outcome))
}

// Sum sorts the cells and adds up those that differ in the count only. It works in place and returns the shorter slice.
func Sum(cells []Cell) []Cell {
	slices.SortFunc(cells, compare)
	n := 0
	for i, c := range cells {
		if i > 0 && compare(cells[n-1], c) == 0 {
			cells[n-1].Count += c.Count
			continue
		}
		cells[n] = c
		n++
	}
	return cells[:n]
}

// Append appends the encoding of cells of one day, as Sum returns them:
//
//	version (1 byte), then for each cell, as varints (signed ones in zigzag, as in protobuf):
//	minutes since the cell before (the first: of the day); source and action, less those of the cell before, signed;
//	8*(count-1) + outcome, or 8*(count-1) + 7 and the outcome, signed, when it is not 0 to 6
func Append(dst []byte, cells []Cell) []byte {
	dst = append(dst, version)
	last := Cell{}
	if len(cells) > 0 {
		last.Minute = floorDiv(cells[0].Minute, minutesPerDay) * minutesPerDay
	}
	for _, c := range cells {
		dst = binary.AppendUvarint(dst, uint64(c.Minute-last.Minute))
		dst = binary.AppendVarint(dst, int64(c.Source)-int64(last.Source))
		dst = binary.AppendVarint(dst, int64(c.Action)-int64(last.Action))
		count := uint64(c.Count-1) * 8
		if c.Outcome >= 0 && c.Outcome < 7 {
			dst = binary.AppendUvarint(dst, count+uint64(c.Outcome))
		} else {
			dst = binary.AppendVarint(binary.AppendUvarint(dst, count+7), int64(c.Outcome))
		}
		last = c
	}
	return dst
}

// ErrMalformed: the bytes are not what Append wrote, or a newer program wrote them.
var ErrMalformed = errors.New("malformed rollup")

// Each calls f for the cells of a row of `rollups`, in their order. It allocates nothing.
func Each(day int16, counts []byte, f func(Cell)) error {
	if len(counts) == 0 || counts[0] != version {
		return fmt.Errorf("%w: unknown version", ErrMalformed)
	}
	r := reader{rest: counts[1:]}
	c := Cell{Minute: (int32(day) + firstDay) * minutesPerDay}
	for len(r.rest) > 0 {
		c.Minute += int32(r.unsigned())
		c.Source += int32(r.signed())
		c.Action += int32(r.signed())
		n := r.unsigned()
		c.Count, c.Outcome = int32(n/8+1), int16(n%8)
		if c.Outcome == 7 {
			c.Outcome = int16(r.signed())
		}
		if r.bad {
			return fmt.Errorf("%w: cut off", ErrMalformed)
		}
		f(c)
	}
	return nil
}

type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) unsigned() uint64 {
	v, n := binary.Uvarint(r.rest)
	return v & r.step(n)
}

func (r *reader) signed() int64 {
	v, n := binary.Varint(r.rest)
	return v & int64(r.step(n))
}

// step goes on by n bytes. It returns a mask for the value: nothing of one that is not there.
func (r *reader) step(n int) uint64 {
	if n <= 0 {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[n:]
	return ^uint64(0)
}
