package sink

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/maxviazov/audittrail/internal/group"
	"github.com/maxviazov/audittrail/processors/enricher/table"
	pipelinev1 "github.com/maxviazov/audittrail/proto/audittrail/pipeline/v1"
	"github.com/maxviazov/audittrail/proto/segment"
	"github.com/maxviazov/audittrail/proto/stream"
)

// item is one message of audit-records on its way into PostgreSQL. The callback that made it fills it; then the batcher owns it. Its memory is
// the message's own: nothing is copied before the entry is framed.
type item struct {
	partition int32
	offset    int64 // in audit-records
	bytes     int
	arrived   time.Time
	commit    func(error)

	output  *pipelinev1.RecordBatch // nil: not one, see malformed
	records []scanned               // one for each of output.Records
	terms   []uint64
	drops   int64 // that fold believed
	// malformed says why there is no output. No enricher of ours writes such a value, so it covers nothing and is left out.
	malformed error
}

// scanned is what the callback computed of a record, so that the batcher only copies.
type scanned struct {
	segment.Summary
	terms [2]int32 // span in item.terms
	leaf  [segment.HashSize]byte
	bad   bool // not an event
}

var errMalformed = errors.New("malformed output")

// newItem decodes a value of audit-records. The error is a Refusal: a version this program does not know.
func newItem(partition int32, offset int64, value []byte) (*item, error) {
	it := &item{partition: partition, offset: offset, bytes: len(value), arrived: time.Now()}
	output, err := stream.DecodeRecords(value)
	switch {
	case errors.Is(err, stream.ErrVersion):
		return nil, group.Refusef("%s/%d@%d: %w", stream.Records, partition, offset, err)
	case err == nil && output.RuleVersion != table.RuleVersion:
		return nil, group.Refusef("%s/%d@%d: rule version %d, this program knows %d", stream.Records, partition, offset, output.RuleVersion, table.RuleVersion)
	case err == nil:
		err = check(output)
	}
	if err != nil {
		it.malformed = err
		return it, nil
	}
	it.output = output
	it.scan()
	return it, nil
}

// check looks at what the rest relies on: the order of slots and the lengths of fixed fields.
func check(o *pipelinev1.RecordBatch) error {
	covers := span{slot{o.FromOffset, o.FromIndex}, slot{o.EndOffset, o.EndIndex}}
	switch {
	case len(o.TopicId) != 16:
		return fmt.Errorf("%w: topic id of %d bytes", errMalformed, len(o.TopicId))
	case covers.from.offset < 0 || covers.empty() || max(o.FromIndex, o.EndIndex) > math.MaxInt32:
		return fmt.Errorf("%w: covers %v to %v", errMalformed, covers.from, covers.end)
	}
	last := int64(-1)
	ascending := func(index uint32) bool {
		ok := int64(index) > last && covers.contains(slot{o.Offset, index})
		last = int64(index)
		return ok
	}
	for _, r := range o.Records {
		if !ascending(r.Index) || len(r.Id) != 16 {
			return fmt.Errorf("%w: record %d", errMalformed, r.Index)
		}
	}
	last = -1
	for _, d := range o.Drops {
		if !ascending(d.Index) {
			return fmt.Errorf("%w: drop %d", errMalformed, d.Index)
		}
	}
	last = -1
	for _, d := range o.DeadLetters {
		if !ascending(d.Index) || len(d.OriginalSha256) != segment.HashSize {
			return fmt.Errorf("%w: dead letter %d", errMalformed, d.Index)
		}
	}
	return nil
}

// scan computes columns, terms and leaf hashes. It runs in the callback, so several partitions use several cores.
func (it *item) scan() {
	w := scanners.Get().(*scanner)
	defer scanners.Put(w)
	w.Terms = w.Terms[:0]
	it.records = make([]scanned, len(it.output.Records))
	for i, r := range it.output.Records {
		s, from := &it.records[i], len(w.Terms)
		var err error
		if s.Summary, err = w.Scan(r.Record); err != nil || len(r.Record) > segment.MaxPayload {
			s.bad = true
			w.Terms = w.Terms[:from]
			continue
		}
		s.terms = [2]int32{int32(from), int32(len(w.Terms))}
		w.hasher.AppendLeaf(s.leaf[:0], segment.KindRecord, r.Record)
	}
	it.terms = append([]uint64(nil), w.Terms...)
}

// rows is how much the item adds to a batch.
func (it *item) rows() int {
	if it.output == nil {
		return 1
	}
	return 1 + len(it.output.Records)
}
