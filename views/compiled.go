package views

import (
	"time"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// compiled is a filter made ready for one query: list, tail, count, aggregate and export all decide with it. It is for one goroutine.
type compiled struct {
	filter    *Filter
	narrowing narrowing
	explain   Explain
}

// compile reads a filter. The time is what `now` means in it: that of the first call of a walk. Errors are *FilterError.
func compile(filter string, now time.Time) (*compiled, error) {
	f, err := ParseFilter(filter)
	if err != nil {
		return nil, err
	}
	return &compiled{filter: f, narrowing: narrow(f)}, nil
}

// place is where a record stands in the logs.
type place struct {
	log   int16
	index int64
}

// match says whether the filter accepts an encoded record. Errors: errDamaged when it is none.
func (c *compiled) match(at place, record []byte) (bool, error) {
	if c.everything() {
		return true, nil
	}
	e := new(audittrailv1.Event)
	if err := e.UnmarshalVT(record); err != nil {
		return false, damaged(err, "entry %d of log %d", at.index, at.log)
	}
	return c.filter.Match(e), nil
}

// everything says that every record is accepted.
func (c *compiled) everything() bool { return c.filter == nil }

// impossible says that no record can be accepted.
func (c *compiled) impossible() bool { return c.narrowing.empty() }
