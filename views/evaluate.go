package views

import (
	"net/netip"
	"strings"
	"time"

	"github.com/maxviazov/audittrail/proto/event"
)

// accepts is the one evaluator: list, tail, count, aggregate and export ask it, and nothing else decides.
func (n *node) accepts(at place, r *scratch) bool {
	switch n.kind {
	case nodeAnd:
		for _, kid := range n.kids {
			if !kid.accepts(at, r) {
				return false
			}
		}
		return true
	case nodeOr:
		for _, kid := range n.kids {
			if kid.accepts(at, r) {
				return true
			}
		}
		return false
	case nodeNot:
		return !n.kids[0].accepts(at, r)
	default:
		return n.test.accepts(at, r)
	}
}

func (t *test) accepts(at place, r *scratch) bool {
	f := t.field
	switch f.kind {
	case kindText, kindAddress:
		if f.list == 0 {
			return t.acceptsText(view(r.bytes[t.slots.bytes]))
		}
		for _, element := range r.lists[t.slots.list] {
			if t.acceptsText(view(lastOf(element, uint64(f.path[f.list])))) {
				return true
			}
		}
		return false
	case kindKeys, kindValue:
		return t.acceptsAttributes(r.lists[t.slots.list])
	case kindEnum:
		number := int32(r.numbers[t.slots.number])
		if number == 0 {
			number = f.values[f.silent]
		}
		return t.compare == comparePresent || int64(number) == t.number
	case kindNumber:
		return t.ordered(int64(uint32(r.numbers[t.slots.number])))
	case kindBool:
		return (r.numbers[t.slots.number] != 0) == (t.number != 0)
	case kindTime, kindDuration:
		if t.compare == comparePresent {
			return r.bytes[t.slots.bytes] != nil
		}
		seconds, nanos := int64(r.numbers[t.slots.number]), int32(r.numbers[t.slots.nanos])
		if f.kind == kindDuration {
			return t.ordered(int64(durationOf(seconds, nanos)))
		}
		return t.orderedAs(time.Unix(seconds, int64(nanos)).Compare(t.time))
	case kindLog:
		return t.ordered(int64(at.log))
	case kindIndex:
		return t.ordered(at.index)
	default: // kindID
		when := time.Unix(int64(r.numbers[t.slots.number]), int64(int32(r.numbers[t.slots.nanos])))
		if when.UnixMilli() != t.time.UnixMilli() {
			return false // without the hash, which costs as much as everything else
		}
		source, key := r.bytes[t.slots.bytes], r.bytes[t.slots.list]
		if len(source) > event.MaxSource || len(key) > event.MaxIdempotencyKey {
			return false
		}
		id := event.NewID(view(source), view(key), when)
		return string(id[:]) == t.text
	}
}

func (t *test) ordered(n int64) bool {
	order := 0
	if n < t.number {
		order = -1
	} else if n > t.number {
		order = 1
	}
	return t.orderedAs(order)
}

func (t *test) orderedAs(order int) bool {
	switch t.compare {
	case compareLess:
		return order < 0
	case compareLessEqual:
		return order <= 0
	case compareGreater:
		return order > 0
	case compareGreaterEqual:
		return order >= 0
	default:
		return order == 0
	}
}

func (t *test) acceptsText(value string) bool {
	switch t.compare {
	case comparePrefix:
		return value != "" && strings.HasPrefix(value, t.text)
	case compareSuffix:
		return value != "" && strings.HasSuffix(value, t.text)
	case comparePart:
		return value != "" && strings.Contains(value, t.text)
	case comparePresent:
		return value != ""
	case compareWords:
		return containsFolded(value, t.text)
	}
	if !t.network.IsValid() {
		return value == t.text
	}
	if value == "" {
		return false // and ParseAddr would allocate an error
	}
	addr, err := netip.ParseAddr(value)
	return err == nil && t.network.Contains(addr.Unmap().WithZone(""))
}

// acceptsAttributes looks at the entries of the map. Of a key that stands twice the last counts.
func (t *test) acceptsAttributes(entries [][]byte) bool {
	named := t.key != ""
	for i := len(entries) - 1; i >= 0; i-- {
		key := view(lastOf(entries[i], 1))
		if named && key != t.key {
			continue
		}
		value := key
		if t.field.kind == kindValue {
			value = view(lastOf(entries[i], 2))
		}
		switch {
		case named:
			return t.acceptsText(value)
		case t.acceptsText(value) && !standsIn(entries[i+1:], key):
			return true
		}
	}
	return named && t.acceptsText("")
}

func standsIn(entries [][]byte, key string) bool {
	for _, e := range entries {
		if view(lastOf(e, 1)) == key {
			return true
		}
	}
	return false
}

// durationOf is what durationpb makes of seconds and nanoseconds: an overflow gives the greatest or smallest duration.
func durationOf(seconds int64, nanos int32) time.Duration {
	const greatest, smallest = time.Duration(1<<63 - 1), time.Duration(-1 << 63)
	d := time.Duration(seconds) * time.Second
	over := d/time.Second != time.Duration(seconds)
	d += time.Duration(nanos)
	over = over || seconds < 0 && nanos < 0 && d > 0 || seconds > 0 && nanos > 0 && d < 0
	switch {
	case over && seconds < 0:
		return smallest
	case over:
		return greatest
	}
	return d
}
