package sink

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
)

// verdict is what becomes of a record once its id is settled.
type verdict uint8

const (
	fresh   verdict = iota // to be stored
	retried                // stored already, with the same content: ignored
	killed                 // an entry of the log, but not a record
)

// maxAhead is how far beyond its arrival in Kafka an event may claim to have happened. The enricher's own bound is minutes; leaves are never
// made further ahead than this. It is taken from the record and not from a clock, so that the log stays a function of audit-records.
const maxAhead = 31 * 24 * time.Hour

// settle gives each record of the batch its verdict as far as the batch alone tells (R16): ids that stand in it twice, in the order of logs and
// slots, and events whose place in time cannot be stored. What is stored already, probe finds: each copy is compared with what is stored, the first
// one or an older one, so that the verdicts do not depend on where a batch ends.
func (b *batch) settle() error {
	b.ids.reset(b.rows)
	b.firsts, b.copies = b.firsts[:0], b.copies[:0]
	for _, l := range b.logs {
		for i := range l.decisions {
			d := &l.decisions[i]
			if d.kind != takeRecord || d.verdict == killed { // killed: of another topic
				continue
			}
			if reason, detail := d.unfit(l.head); reason != "" {
				d.kill(reason, detail)
				continue
			}
			id := d.id()
			n, found := b.ids.put(id, int32(len(b.firsts)))
			if !found {
				b.firsts = append(b.firsts, d)
				continue
			}
			b.copies = append(b.copies, copyOf{n, d})
			first := b.firsts[n]
			same, err := sameContent(first.fingerprint(), first.record(), d.fingerprint(), d.record())
			if err != nil {
				return err
			}
			d.repeats(same)
		}
	}
	return nil
}

// unfit says why a record cannot be stored, whatever else there is.
func (d *decision) unfit(h *head) (reason, detail string) {
	s := &d.item.records[d.at]
	id := d.id()
	switch {
	case s.bad:
		return event.ReasonUndecodable, "the record is not an encoded event of at most 65,534 bytes"
	case bytes.Compare(id[:], h.bound[:]) < 0:
		return event.ReasonExpired, "older than what retention has removed"
	case id.Time().UnixMilli() > d.item.output.IngestedAtMs+maxAhead.Milliseconds():
		return event.ReasonInvalidEvent, fmt.Sprintf("occurred_at: more than %v after it was received", maxAhead)
	}
	return "", ""
}

func (d *decision) id() event.ID        { return event.ID(d.item.output.Records[d.at].Id) }
func (d *decision) fingerprint() uint64 { return d.item.output.Records[d.at].Fingerprint }
func (d *decision) record() []byte      { return d.item.output.Records[d.at].Record }

// repeats is the verdict on a record whose id is taken.
func (d *decision) repeats(same bool) {
	if same {
		d.verdict = retried
		return
	}
	d.kill(event.ReasonConflict, "an event with this source, idempotency_key and occurred_at is stored with other content; it needs another key")
}

// sameContent compares what two producers said: fingerprints first, and when they are equal the canonical bytes.
func sameContent(fingerprintA uint64, a []byte, fingerprintB uint64, b []byte) (bool, error) {
	if fingerprintA != fingerprintB {
		return false, nil
	}
	ca, err := canonical(a)
	if err != nil {
		return false, err
	}
	cb, err := canonical(b)
	return bytes.Equal(ca, cb), err
}

func canonical(record []byte) ([]byte, error) {
	var e audittrailv1.Event
	if err := e.UnmarshalVTUnsafe(record); err != nil {
		return nil, fmt.Errorf("compare records: %w", err)
	}
	return event.Canonical(nil, &e), nil
}

// copyOf is a record whose id stands in the batch before: firsts[first].
type copyOf struct {
	first int32
	*decision
}

// idTable maps the ids of a batch to numbers. Ids end in bits of SHA-256, which serve as the hash.
type idTable struct {
	slots []int32 // number + 1; 0 is free
	ids   []event.ID
}

func (t *idTable) reset(n int) {
	size := 1024
	for size < 2*n {
		size *= 2
	}
	if len(t.slots) < size {
		t.slots = make([]int32, size)
	} else {
		clear(t.slots)
	}
	t.ids = t.ids[:0]
}

// put returns the number of the id, and whether it was there; if not it gets n, which must be the next number. The table never gets more
// ids than reset was told.
func (t *idTable) put(id event.ID, n int32) (number int32, found bool) {
	mask := uint64(len(t.slots) - 1)
	for i := binary.BigEndian.Uint64(id[8:]) & mask; ; i = (i + 1) & mask {
		switch s := t.slots[i]; {
		case s == 0:
			t.slots[i] = n + 1
			t.ids = append(t.ids, id)
			return n, false
		case t.ids[s-1] == id:
			return s - 1, true
		}
	}
}
