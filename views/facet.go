package views

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// facet counts the values of one field. Memory is bounded: when the values take more than facetBytes, the rarest are dropped, as in Misra and
// Gries, "Finding repeated elements" (1982). A value that was dropped with a count of n, or came later, is counted short by at most the sum of the
// greatest counts that were dropped: short.
type facet struct {
	name  string
	field *field
	key   string // of an attribute
	slots slots

	counts  map[string]*int64
	bytes   int
	total   int64 // occurrences of values, dropped ones included
	missing int64
	short   int64

	seen []string // values of one record
}

const (
	facetBytes = 8 << 20
	// facetOverhead is about what a value costs besides its bytes.
	facetOverhead = 64
)

func newFacet(name string) *facet {
	f, key := findField(name)
	if f == nil || f.flag&faceted == 0 {
		return nil
	}
	return &facet{name: name, field: f, key: key, counts: make(map[string]*int64)}
}

// facetNames lists what may be asked for.
func facetNames() string {
	var list []string
	for i := range fields {
		if fields[i].flag&faceted != 0 {
			list = append(list, fields[i].name)
		}
	}
	return strings.Join(list, ", ")
}

func (f *facet) add(at place, r *scratch) {
	f.seen = f.seen[:0]
	f.values(at, r)
	if len(f.seen) == 0 {
		f.missing++
	}
	for _, value := range f.seen {
		f.addValue(value, 1)
	}
}

// addValue counts n records that have a value. The value may be part of a record, which it does not keep.
func (f *facet) addValue(value string, n int64) {
	f.total += n
	if count := f.counts[value]; count != nil {
		*count += n
		return
	}
	value = strings.Clone(value)
	f.counts[value] = &n
	if f.bytes += len(value) + facetOverhead; f.bytes > facetBytes {
		f.prune()
	}
}

// prune drops the rarer values, half of the memory at least.
func (f *facet) prune() {
	list := slices.SortedFunc(maps.Keys(f.counts), func(a, b string) int { return cmp.Compare(*f.counts[b], *f.counts[a]) })
	kept := 0
	var dropped int64
	for _, value := range list {
		size := len(value) + facetOverhead
		count := *f.counts[value]
		if kept+size <= facetBytes/2 && count > dropped {
			kept += size
			continue
		}
		dropped = max(dropped, count)
		kept = facetBytes // what follows is rarer: it goes, too
		f.bytes -= size
		delete(f.counts, value)
	}
	f.short += dropped
}

// values puts what one record has into seen: each value once, the empty one never.
func (f *facet) values(at place, r *scratch) {
	switch f.field.kind {
	case kindText, kindAddress:
		if f.field.list == 0 {
			f.see(view(r.bytes[f.slots.bytes]))
			return
		}
		for _, element := range r.lists[f.slots.list] {
			f.see(view(lastOf(element, uint64(f.field.path[f.field.list]))))
		}
	case kindKeys, kindValue:
		entries := r.lists[f.slots.list]
		for i := len(entries) - 1; i >= 0; i-- {
			key := view(lastOf(entries[i], 1))
			switch {
			case f.field.kind == kindKeys:
				f.see(key)
			case key == f.key: // of a key that stands twice the last counts
				f.see(view(lastOf(entries[i], 2)))
				return
			}
		}
	case kindEnum:
		f.see(f.field.enumName(int32(r.numbers[f.slots.number])))
	case kindNumber:
		f.see(strconv.FormatUint(uint64(uint32(r.numbers[f.slots.number])), 10))
	case kindBool:
		f.see(strconv.FormatBool(r.numbers[f.slots.number] != 0))
	case kindLog:
		f.see(strconv.Itoa(int(at.log)))
	}
}

func (f *facet) see(value string) {
	if value != "" && !slices.Contains(f.seen, value) {
		f.seen = append(f.seen, value)
	}
}

// enumName is the name of a value as filters write it.
func (f *field) enumName(number int32) string {
	if number == 0 {
		return f.silent
	}
	for name, n := range f.values {
		if n == number {
			return name
		}
	}
	return strconv.Itoa(int(number)) // of a program that is newer
}

// message lists the most frequent values: n at most, and not more than so many bytes.
func (f *facet) message(n, bytes int) *audittrailv1.Facet {
	out := &audittrailv1.Facet{Field: f.name, MissingCount: f.missing, OtherCount: f.total, MaxUndercount: f.short}
	list := slices.SortedFunc(maps.Keys(f.counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(*f.counts[b], *f.counts[a]), strings.Compare(a, b))
	})
	for _, value := range list[:min(n, len(list))] {
		if bytes -= len(value) + 16; bytes < 0 {
			break
		}
		count := *f.counts[value]
		out.Values = append(out.Values, &audittrailv1.FacetValue{Value: value, Count: count})
		out.OtherCount -= count
	}
	return out
}
