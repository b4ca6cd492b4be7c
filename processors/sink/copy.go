package sink

import (
	"encoding/binary"

	"github.com/maxviazov/audittrail/proto/event"
)

// copies are the rows of one transaction in PostgreSQL's binary COPY format (documentation, section "COPY", "Binary Format"), encoded by hand: the
// row interface of pgx costs five to ten times the CPU. Integers are big endian behind their length.
type copies struct {
	events, segments, tiles, rollups, tail, dead rows
	// done are bundles that leave the tail.
	doneLogs    []int16
	doneBundles []int64
}

// rows is one COPY.
type rows struct {
	buf []byte
	n   int
}

const copyHeader = "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"

func (c *copies) reset() {
	for _, s := range []*rows{&c.events, &c.segments, &c.tiles, &c.rollups, &c.tail, &c.dead} {
		s.buf, s.n = append(s.buf[:0], copyHeader...), 0
	}
	c.doneLogs, c.doneBundles = c.doneLogs[:0], c.doneBundles[:0]
}

// finished is what goes over the wire.
func (s *rows) finished() []byte {
	return append(s.buf, 0xff, 0xff)
}

func (s *rows) row(columns int) {
	s.n++
	s.buf = binary.BigEndian.AppendUint16(s.buf, uint16(columns))
}

func (s *rows) int2(v int16) {
	s.buf = append(s.buf, 0, 0, 0, 2, byte(v>>8), byte(v))
}

func (s *rows) int4(v int32) {
	s.buf = binary.BigEndian.AppendUint32(append(s.buf, 0, 0, 0, 4), uint32(v))
}

func (s *rows) int8(v int64) {
	s.buf = binary.BigEndian.AppendUint64(append(s.buf, 0, 0, 0, 8), uint64(v))
}

func (s *rows) bool(v bool) {
	b := byte(0)
	if v {
		b = 1
	}
	s.buf = append(s.buf, 0, 0, 0, 1, b)
}

func (s *rows) bytes(v []byte) {
	s.buf = append(binary.BigEndian.AppendUint32(s.buf, uint32(len(v))), v...)
}

func (s *rows) text(v string) {
	v = text(v)
	s.buf = append(binary.BigEndian.AppendUint32(s.buf, uint32(len(v))), v...)
}

func (s *rows) null() {
	s.buf = append(s.buf, 0xff, 0xff, 0xff, 0xff)
}

const eventColumns = "log_index, fingerprint, source_id, action_id, log_id, outcome, day, id"

func (c *copies) event(r *eventRow) {
	s := &c.events
	s.row(8)
	s.int8(r.index)
	s.int8(int64(r.fingerprint))
	s.int4(r.source)
	s.int4(r.action)
	s.int2(r.log)
	s.int2(r.outcome)
	s.int2(r.day)
	s.bytes(r.id[:])
}

const segmentColumns = "day, log_id, bundle, min_id, max_id, filter, data"

func (c *copies) segment(log int16, number int64, o *bundle, filter, data []byte) {
	s := &c.segments
	s.row(7)
	s.int2(o.day)
	s.int2(log)
	s.int8(number)
	for _, id := range []event.ID{o.minID, o.maxID} {
		if o.records == 0 {
			s.null()
		} else {
			s.bytes(id[:])
		}
	}
	if len(filter) == 0 {
		s.null()
	} else {
		s.bytes(filter)
	}
	s.bytes(data)
}

const tileColumns = "log_id, bundle, day, hashes"

func (c *copies) tile(log int16, number int64, day int16, hashes []byte) {
	s := &c.tiles
	s.row(4)
	s.int2(log)
	s.int8(number)
	s.int2(day)
	s.bytes(hashes)
}

const rollupColumns = "day, occurred_day, log_id, bundle, records, counts"

func (c *copies) rollup(day, occurred, log int16, number int64, records int16, counts []byte) {
	s := &c.rollups
	s.row(6)
	s.int2(day)
	s.int2(occurred)
	s.int2(log)
	s.int8(number)
	s.int2(records)
	s.bytes(counts)
}

const tailColumns = "log_id, first_index, n, data"

func (c *copies) tailRow(log int16, first int64, n int, data []byte) {
	s := &c.tail
	s.row(4)
	s.int2(log)
	s.int8(first)
	s.int2(int16(n))
	s.bytes(data)
}

// completed says that a bundle has left the tail.
func (c *copies) completed(log int16, bundle int64) {
	c.doneLogs = append(c.doneLogs, log)
	c.doneBundles = append(c.doneBundles, bundle)
}

const deadColumns = "log_id, log_index, input_offset, input_index, whole_message, reason, detail, source, key, original, original_size, original_sha256"

func (c *copies) deadLetter(log int16, index int64, d *decision) {
	s, x := &c.dead, d.dead.letter
	s.row(12)
	s.int2(log)
	s.int8(index)
	s.int8(d.slot.offset)
	s.int4(int32(d.slot.index))
	s.bool(x.WholeMessage)
	s.text(x.Reason)
	s.text(x.Detail)
	s.text(string(x.Key))
	s.bytes(x.Key)
	s.bytes(x.Original)
	s.int8(x.OriginalSize)
	s.bytes(x.OriginalSha256)
}
