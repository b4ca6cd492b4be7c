package views

import (
	"context"
	"time"
)

// compiled is a filter made ready for one query: list, tail, count, aggregate and export all decide with it. It is for one goroutine
// at a time; fork makes one for another goroutine.
type compiled struct {
	filter    *Filter // nil: everything
	narrowing narrowing
	program   *program
	scratch   *scratch
	ids       *idReader
}

// compile reads a filter. The time is what `now` means in it: that of the first call of a walk. Errors are *FilterError.
func compile(filter string, now time.Time) (*compiled, error) {
	f, err := parseFilter(filter, now)
	if err != nil {
		return nil, err
	}
	return f.compile(), nil
}

func (f *Filter) compile() *compiled {
	c := &compiled{filter: f, narrowing: narrow(f), ids: newIDReader()}
	if f != nil {
		c.program = newProgram(f.root)
		c.scratch = c.program.newScratch()
	}
	return c
}

// compile reads the filter of a call, and adds what its caller may see at all (Deps.Scope).
func (s *Server) compile(ctx context.Context, filter string, now time.Time) (*compiled, error) {
	f, err := parseFilter(filter, now)
	if err != nil {
		return nil, invalid("filter", "%v", err)
	}
	if s.scope != nil {
		scope, err := s.scope(ctx)
		if err != nil {
			return nil, err
		}
		f = scope.and(f)
	}
	return f.compile(), nil
}

// and accepts what both filters accept.
func (f *Filter) and(other *Filter) *Filter {
	switch {
	case f == nil:
		return other
	case other == nil:
		return f
	}
	return &Filter{text: "(" + f.text + ") AND (" + other.text + ")", root: join(nodeAnd, f.root, other.root)}
}

// place is where a record stands in the logs.
type place struct {
	log   int16
	index int64
}

// match says whether the filter accepts an encoded record. It reads only the fields it needs, and allocates nothing. Errors: errDamaged when
// it is no record.
func (c *compiled) match(at place, record []byte) (bool, error) {
	if c.filter == nil {
		return true, nil
	}
	c.scratch.reset()
	if err := c.program.plan.scan(record, c.scratch); err != nil {
		return false, damaged(err, "entry %d of log %d", at.index, at.log)
	}
	return c.program.root.accepts(at, c.scratch), nil
}

// fork is the same filter for another goroutine.
func (c *compiled) fork() *compiled {
	other := *c
	other.ids = newIDReader()
	if c.filter != nil {
		other.scratch = c.program.newScratch()
	}
	return &other
}

// byRows says that rows of `events` answer the filter: it asks for nothing but times.
func (c *compiled) byRows() bool {
	return c.filter == nil || c.filter.root.onlyTimes()
}

func (n *node) onlyTimes() bool {
	if n.kind == nodeTest {
		return n.test.field == fieldOccurredAt || n.test.field.kind == kindID
	}
	for _, kid := range n.kids {
		if !kid.onlyTimes() {
			return false
		}
	}
	return true
}

// everything says that every record is accepted.
func (c *compiled) everything() bool { return c.filter == nil }

// impossible says that no record can be accepted.
func (c *compiled) impossible() bool { return c.narrowing.empty() }
