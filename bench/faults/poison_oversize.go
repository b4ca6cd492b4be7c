package faults

import (
	"bytes"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// oversize: a message over 500 events or 256 KiB is one dead letter as a whole (R5), however small it is on the wire.
func (b *badInput) oversize(t *T) {
	source := "bad/oversize/prod"
	key := []byte(source)
	tiny := make([][]byte, 50_000)
	b.rawBad(t, key, envelope(t, tiny...), letter{reason: "OVERSIZE", says: "50000 events", whole: true})
	b.rawBad(t, key, envelope(t, tiny[:501]...), letter{reason: "OVERSIZE", says: "501 events", whole: true})

	// As much as there may be: 500 events, and 256 KiB.
	var most [][]byte
	for range 500 {
		e := b.event(source)
		b.store(t, e)
		most = append(most, encode(t, e))
	}
	b.raw(t, key, envelope(t, most...))
	sized := func(sizes ...int) (events []*audittrailv1.Event, raw [][]byte) {
		for _, size := range sizes {
			e := b.event(source)
			e.Details = jsonOf(20_000)
			e.Details = jsonOf(20_000 + size - proto.Size(e))
			events, raw = append(events, e), append(raw, encode(t, e))
		}
		return events, raw
	}
	sizes := slices.Repeat([]int{32 << 10}, 8)
	events, raw := sized(sizes...)
	b.store(t, events...)
	b.raw(t, key, envelope(t, raw...))
	sizes[7]++
	_, raw = sized(sizes...)
	// Compressible, so that it is small on the wire: what counts is the length after decompression.
	squeezed := b.client(t, kgo.ProducerBatchCompression(kgo.GzipCompression()), kgo.ProducerBatchMaxBytes(64<<20))
	for _, c := range []struct {
		value []byte
		says  string
	}{
		{envelope(t, raw...), "bytes"},
		{make([]byte, 20<<20), "20971520 bytes"}, // a bomb: 20 KiB on the wire
		{bytes.Repeat(encode(t, b.event(source)), 2000), "bytes"},
	} {
		b.rawGood(t, source)
		b.expect(produce(t, squeezed, &kgo.Record{Key: key, Value: c.value}), letter{reason: "OVERSIZE", says: c.says, whole: true})
		b.rawGood(t, source)
	}
}
