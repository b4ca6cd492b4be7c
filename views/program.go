package views

import "google.golang.org/protobuf/encoding/protowire"

// program is what one filter needs of a record: which fields to keep while its encoding is read once, and where. What the filter
// does not name is skipped, without being decoded.
type program struct {
	root    node
	plan    plan
	counts  slots // how many slots of each sort there are
	byField map[*field]slots
}

// slots says in which slots of a scratch a field is kept; which of them, depends on the kind of the field.
type slots struct{ bytes, number, nanos, list int }

// use is what is done with one field of a message.
type use uint8

const (
	useNone    use = iota
	useBytes       // keep what stands last
	useNumber      // the same, of a varint
	useList        // keep every element
	useMessage     // read on inside
)

const maxFieldNumber = 31

// plan is what is kept of one message, by the number of the field.
type plan [maxFieldNumber + 1]struct {
	use  use
	slot int
	sub  *plan
}

// newProgram takes the tree of a filter, which it changes.
func newProgram(root *node) *program {
	p := &program{byField: make(map[*field]slots)}
	if root == nil {
		return p
	}
	p.assign(root)
	p.root = *root
	return p
}

func (p *program) assign(n *node) {
	for _, kid := range n.kids {
		p.assign(kid)
	}
	if n.kind == nodeTest {
		n.test.slots = p.keep(n.test.field)
	}
}

// keep plans to keep a field and returns where. Fields of one list share its slot.
func (p *program) keep(f *field) slots {
	if s, ok := p.byField[f]; ok {
		return s
	}
	var s slots
	switch f.kind {
	case kindLog, kindIndex:
	case kindID:
		s.bytes = p.keep(fieldSource).bytes
		s.list = p.keep(fieldKey).bytes // the second text it is made of
		at := p.keep(fieldOccurredAt)
		s.number, s.nanos = at.number, at.nanos
	case kindTime, kindDuration:
		inner := p.message(f.path)
		s.bytes = p.slot(inner, f.path[len(f.path)-1], useMessage, &p.counts.bytes)
		within := &(*inner)[f.path[len(f.path)-1]]
		if within.sub == nil {
			within.sub = new(plan)
		}
		s.number = p.slot(within.sub, 1, useNumber, &p.counts.number)
		s.nanos = p.slot(within.sub, 2, useNumber, &p.counts.number)
	case kindEnum, kindNumber, kindBool:
		s.number = p.slot(p.message(f.path), f.path[len(f.path)-1], useNumber, &p.counts.number)
	default:
		if f.list > 0 {
			s.list = p.slot(p.message(f.path[:f.list]), f.path[f.list-1], useList, &p.counts.list)
		} else {
			s.bytes = p.slot(p.message(f.path), f.path[len(f.path)-1], useBytes, &p.counts.bytes)
		}
	}
	p.byField[f] = s
	return s
}

// message is the plan of the message that holds the last field of a path.
func (p *program) message(path []protowire.Number) *plan {
	at := &p.plan
	for _, n := range path[:len(path)-1] {
		next := &at[n]
		if next.sub == nil {
			next.use, next.sub = useMessage, new(plan)
			next.slot = -1
		}
		at = next.sub
	}
	return at
}

// slot gives a field of a message a slot, unless it has one.
func (p *program) slot(in *plan, n protowire.Number, u use, count *int) int {
	at := &in[n]
	if at.use == useNone {
		at.use, at.slot = u, *count
		*count++
	}
	return at.slot
}

// scratch is what was kept of one record. It is used again for the next one, so that nothing is allocated.
type scratch struct {
	bytes   [][]byte
	numbers []uint64
	lists   [][][]byte
}

func (p *program) newScratch() *scratch {
	return &scratch{make([][]byte, p.counts.bytes), make([]uint64, p.counts.number), make([][][]byte, p.counts.list)}
}

func (s *scratch) reset() {
	clear(s.bytes)
	clear(s.numbers)
	for i := range s.lists {
		s.lists[i] = s.lists[i][:0]
	}
}
