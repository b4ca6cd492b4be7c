package segment

import (
	"fmt"
	"unsafe"

	"google.golang.org/protobuf/encoding/protowire"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// Summary is what the columns of `events` need of a record. Source and Action point into the record.
type Summary struct {
	Source, Action string
	Outcome        int32
	// ReceivedSeconds and ReceivedNanos are the emitter's stamp; both 0 without one.
	ReceivedSeconds int64
	ReceivedNanos   int32
}

// Scanner reads the summary and the terms off the encoding of a record, without building an Event: it allocates nothing once its buffers have
// grown. It sees what a decoder sees: the last of several scalars counts, messages that stand twice are merged. (Of an attribute that
// stands twice both values make terms; a decoder keeps the last. That is a term too many, which a filter may have.)
//
// The zero value is ready; not for concurrent use.
type Scanner struct {
	Terms []uint64 // appended to by Scan
	text  collector
}

// fields are the values that make one term each; the last one counts.
type fields struct {
	actorType, actorID, session, trace, request, ip []byte
	kind                                            int32
}

// Scan reads one record. The error wraps ErrMalformed: not an encoded event.
func (s *Scanner) Scan(record []byte) (Summary, error) {
	var sum Summary
	var f fields
	s.text.terms = s.Terms
	err := each(record, func(num protowire.Number, value []byte, varint uint64) error {
		switch num {
		case 2:
			sum.Source = view(value)
		case 5:
			return s.actor(value, &f)
		case 6:
			sum.Action = view(value)
		case 7:
			f.kind = int32(varint)
		case 8:
			sum.Outcome = int32(varint)
		case 9:
			return s.resource(value)
		case 11:
			return s.context(value, &f)
		case 12:
			return s.attribute(value)
		case 20:
			return each(value, func(num protowire.Number, _ []byte, varint uint64) error {
				switch num {
				case 1:
					sum.ReceivedSeconds = int64(varint)
				case 2:
					sum.ReceivedNanos = int32(varint)
				}
				return nil
			})
		}
		return nil
	})
	if err == nil {
		s.finish(&sum, &f)
		s.Terms = s.text.terms
	}
	return sum, err
}

func (s *Scanner) actor(value []byte, f *fields) error {
	return each(value, func(num protowire.Number, value []byte, _ uint64) error {
		switch num {
		case 1:
			f.actorType = value
		case 2:
			f.actorID = value
		case 4:
			f.session = value
		}
		return nil
	})
}

func (s *Scanner) context(value []byte, f *fields) error {
	return each(value, func(num protowire.Number, value []byte, _ uint64) error {
		switch num {
		case 1:
			f.ip = value
		case 3:
			f.request = value
		case 4:
			f.trace = value
		}
		return nil
	})
}

func (s *Scanner) resource(value []byte) error {
	var kind, id []byte
	err := each(value, func(num protowire.Number, value []byte, _ uint64) error {
		switch num {
		case 1:
			kind = value
		case 2:
			id = value
		}
		return nil
	})
	s.text.text(termResourceType, view(kind))
	s.text.text(termResourceID, view(id))
	return err
}

func (s *Scanner) attribute(value []byte) error {
	var k, v []byte
	err := each(value, func(num protowire.Number, value []byte, _ uint64) error {
		switch num {
		case 1:
			k = value
		case 2:
			v = value
		}
		return nil
	})
	s.text.attribute(view(k), view(v))
	return err
}

func (s *Scanner) finish(sum *Summary, f *fields) {
	t := &s.text
	t.source(sum.Source)
	t.text(termActorType, view(f.actorType))
	t.text(termActorID, view(f.actorID))
	t.text(termSession, view(f.session))
	t.text(termAction, sum.Action)
	t.terms = append(t.terms, TermKind(audittrailv1.ActionKind(f.kind)), TermOutcome(audittrailv1.Outcome(sum.Outcome)))
	t.text(termTrace, view(f.trace))
	t.text(termRequest, view(f.request))
	if len(f.ip) > 0 {
		t.ip(view(f.ip))
	}
}

func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// each calls f for every field of a message, with the bytes of a length-delimited one or the number of a varint; others are skipped.
func each(b []byte, f func(num protowire.Number, value []byte, varint uint64) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("%w: %w", ErrMalformed, protowire.ParseError(n))
		}
		b = b[n:]
		var value []byte
		var varint uint64
		switch typ {
		case protowire.BytesType:
			value, n = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			varint, n = protowire.ConsumeVarint(b)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return fmt.Errorf("%w: %w", ErrMalformed, protowire.ParseError(n))
		}
		if typ == protowire.BytesType || typ == protowire.VarintType {
			if err := f(num, value, varint); err != nil {
				return err
			}
		}
		b = b[n:]
	}
	return nil
}
