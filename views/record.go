package views

import (
	"github.com/maxviazov/audittrail/proto/event"
	"github.com/maxviazov/audittrail/proto/segment"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// location is where a record stands in the logs; the day says in which leaf of `segments` its bundle is.
type location struct {
	id    event.ID
	index int64
	log   int16
	day   int16
}

func (l location) address() address {
	return address{bundleKey{l.log, l.index / segment.BundleSize}, l.day}
}

func (l location) place() place { return place{l.log, l.index} }

// decode turns a record into an event and sets what is never stored inside it. The event shares no memory with the record.
func decode(record []byte, log int16, index int64) (*audittrailv1.Event, event.ID, error) {
	e := new(audittrailv1.Event)
	if err := e.UnmarshalVT(record); err != nil {
		return nil, event.ID{}, damaged(err, "entry %d of log %d", index, log)
	}
	id := event.IDOf(e)
	e.Id = id.String()
	e.Position = &audittrailv1.Position{Log: int32(log), Index: index}
	return e, id, nil
}

// recordAt returns the record of a location from its bundle; nil when it was redacted. Errors: errDamaged when it is not there.
func recordAt(l location, b *bundle) ([]byte, error) {
	n := int(l.index % segment.BundleSize)
	if b == nil || n >= len(b.entries) {
		return nil, damaged(nil, "entry %d of log %d of day %d is not there", l.index, l.log, l.day)
	}
	switch entry := b.entries[n]; entry.Kind {
	case segment.KindRecord:
		return entry.Payload, nil
	case segment.KindRedacted:
		return nil, nil
	default:
		return nil, damaged(nil, "entry %d of log %d is a %s, not the record %s", l.index, l.log, entry.Kind, l.id)
	}
}

// eventAt is the event of a location; nil when it was redacted. That the record is the one its row speaks of is checked by its id.
func eventAt(l location, b *bundle) (*audittrailv1.Event, error) {
	record, err := recordAt(l, b)
	if err != nil || record == nil {
		return nil, err
	}
	return found{l, record}.event()
}

// event decodes what was found, and checks that it is the record its row speaks of.
func (f found) event() (*audittrailv1.Event, error) {
	e, id, err := decode(f.payload, f.log, f.index)
	if err == nil && id != f.id {
		err = damaged(nil, "entry %d of log %d is %s, not %s", f.index, f.log, id, f.id)
	}
	if err != nil {
		return nil, err
	}
	return e, nil
}
