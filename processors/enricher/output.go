package enricher

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/maxviazov/audittrail/processors/enricher/table"
	pipelinev1 "github.com/maxviazov/audittrail/proto/audittrail/pipeline/v1"
	"github.com/maxviazov/audittrail/proto/stream"
)

// maxOutput is the greatest value of audit-records: what a producer of ours sends, less room for the key.
var maxOutput = stream.MaxProducerMessageBytes(stream.Records, stream.Table) - 4<<10

// recordsHeader is magic and version of a value of audit-records.
var recordsHeader = stream.EncodeRecords(&pipelinev1.RecordBatch{})

// Field numbers of pipelinev1.RecordBatch, Record and Drop.
const (
	batchTopicID     = 1
	batchRuleVersion = 2
	batchFromOffset  = 3
	batchFromIndex   = 4
	batchEndOffset   = 5
	batchEndIndex    = 6
	batchOffset      = 7
	batchIngestedAt  = 8
	batchKey         = 9
	batchRecords     = 10
	batchDrops       = 11
	batchDeadLetters = 12

	recordIndex       = 1
	recordID          = 2
	recordFingerprint = 3
	recordRecord      = 4

	dropIndex       = 1
	dropFirstOffset = 2
	dropFirstIndex  = 3
)

// encodeOutputs returns the values of audit-records for one decision. Together they cover the slots from
// (from, 0) to the end of the message, each begins where the one before ends, and none is over limit bytes
// unless a single event is (R4, R5). Two enrichers may cut differently: slots say what is where.
//
// A record is its event and its stamp one after the other, so a batch is put together here from what is there
// already; with the generated code each record would be copied twice.
func encodeOutputs(d *decision, topicID []byte, m *message, from int64, limit int) [][]byte {
	begin, rest := slot{from, 0}, *d
	var outputs [][]byte
	for next := uint32(0); ; {
		part, size, end := rest.take(next, limit-headRoom)
		next = end
		if rest.empty() {
			return append(outputs, encodeOutput(&part, size, topicID, m, begin, slot{m.offset + 1, 0}))
		}
		outputs = append(outputs, encodeOutput(&part, size, topicID, m, begin, slot{m.offset, end}))
		begin = slot{m.offset, end}
	}
}

// headRoom is more than a batch takes besides its records, drops and dead letters.
const headRoom = 512

func (d *decision) empty() bool { return len(d.kept)+len(d.drops)+len(d.dead) == 0 }

// take moves events out of d, from index first on, as many as fit into limit bytes but at least one. end is the
// index behind the last one. Each event stands at the head of exactly one of the lists when its turn comes.
func (d *decision) take(first uint32, limit int) (part decision, size int, end uint32) {
	k, r, x := 0, 0, 0 // numbers of kept, drops and dead taken
	for end = first; ; end++ {
		n, nk, nr, nx := 0, k, r, x
		switch {
		case k < len(d.kept) && d.kept[k].index == end:
			n, nk = fieldSize(batchRecords, d.kept[k].size()), k+1
		case r < len(d.drops) && d.drops[r].index == end:
			n, nr = fieldSize(batchDrops, d.drops[r].size()), r+1
		case x < len(d.dead) && d.dead[x].Index == end:
			n, nx = fieldSize(batchDeadLetters, d.dead[x].SizeVT()), x+1
		}
		if n == 0 || end > first && size+n > limit {
			break
		}
		size, k, r, x = size+n, nk, nr, nx
	}
	part = decision{kept: d.kept[:k], drops: d.drops[:r], dead: d.dead[:x]}
	d.kept, d.drops, d.dead = d.kept[k:], d.drops[r:], d.dead[x:]
	return part, size, end
}

func encodeOutput(d *decision, size int, topicID []byte, m *message, begin, end slot) []byte {
	b := make([]byte, 0, headRoom+len(recordsHeader)+size)
	b = append(b, recordsHeader...)
	b = appendBytes(b, batchTopicID, topicID)
	b = appendVarint(b, batchRuleVersion, table.RuleVersion)
	b = appendVarint(b, batchFromOffset, uint64(begin.offset))
	b = appendVarint(b, batchFromIndex, uint64(begin.index))
	b = appendVarint(b, batchEndOffset, uint64(end.offset))
	b = appendVarint(b, batchEndIndex, uint64(end.index))
	b = appendVarint(b, batchOffset, uint64(m.offset))
	b = appendVarint(b, batchIngestedAt, uint64(m.ingestedAt.UnixMilli()))
	if key := outputKey(m.key); key != "" {
		b = protowire.AppendString(protowire.AppendTag(b, batchKey, protowire.BytesType), key)
	}
	for i := range d.kept {
		b = d.kept[i].append(b)
	}
	for i := range d.drops {
		b = d.drops[i].append(b)
	}
	for _, x := range d.dead {
		n := x.SizeVT()
		b = protowire.AppendVarint(protowire.AppendTag(b, batchDeadLetters, protowire.BytesType), uint64(n))
		at := len(b)
		b = append(b, make([]byte, n)...)
		if _, err := x.MarshalToSizedBufferVT(b[at:]); err != nil {
			panic(err) // only a buffer of the wrong size would do that
		}
	}
	return b
}

func (k *kept) size() int {
	n := varintSize(recordIndex, uint64(k.index)) + fieldSize(recordID, len(k.id))
	if k.fingerprint != 0 {
		n += protowire.SizeTag(recordFingerprint) + protowire.SizeFixed64()
	}
	return n + fieldSize(recordRecord, len(k.raw)+len(k.stamp))
}

func (k *kept) append(b []byte) []byte {
	b = protowire.AppendVarint(protowire.AppendTag(b, batchRecords, protowire.BytesType), uint64(k.size()))
	b = appendVarint(b, recordIndex, uint64(k.index))
	b = appendBytes(b, recordID, k.id[:])
	if k.fingerprint != 0 {
		b = protowire.AppendFixed64(protowire.AppendTag(b, recordFingerprint, protowire.Fixed64Type), k.fingerprint)
	}
	b = protowire.AppendVarint(protowire.AppendTag(b, recordRecord, protowire.BytesType), uint64(len(k.raw)+len(k.stamp)))
	return append(append(b, k.raw...), k.stamp...)
}

func (r *drop) size() int {
	return varintSize(dropIndex, uint64(r.index)) + varintSize(dropFirstOffset, uint64(r.first.offset)) +
		varintSize(dropFirstIndex, uint64(r.first.index))
}

func (r *drop) append(b []byte) []byte {
	b = protowire.AppendVarint(protowire.AppendTag(b, batchDrops, protowire.BytesType), uint64(r.size()))
	b = appendVarint(b, dropIndex, uint64(r.index))
	b = appendVarint(b, dropFirstOffset, uint64(r.first.offset))
	return appendVarint(b, dropFirstIndex, uint64(r.first.index))
}

func fieldSize(number protowire.Number, n int) int {
	return protowire.SizeTag(number) + protowire.SizeBytes(n)
}

func varintSize(number protowire.Number, v uint64) int {
	if v == 0 {
		return 0
	}
	return protowire.SizeTag(number) + protowire.SizeVarint(v)
}

func appendVarint(b []byte, number protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, number, protowire.VarintType), v)
}

func appendBytes(b []byte, number protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, number, protowire.BytesType), v)
}
