package faults

import "github.com/twmb/franz-go/pkg/kgo"

// keys that are not the source, and partitions that are not the key's (R8).
func (b *badInput) keys(t *T) {
	source := []byte("bad/keys/prod")
	right := partitionOf(source)
	for p := range int32(badPartitions) {
		if p == right {
			continue
		}
		e := b.event(string(source))
		r := produce(t, b.placed, &kgo.Record{Key: source, Value: encode(t, e), Partition: p})
		b.expect(r, letter{reason: "WRONG_PARTITION", whole: true, event: e, original: r.Value})
	}
	// A key is missing.
	for p := range int32(badPartitions) {
		want := letter{reason: "WRONG_PARTITION", whole: true, key: []byte{}}
		if p == partitionOf([]byte{}) {
			want = letter{reason: "WRONG_SOURCE", key: []byte{}}
		}
		r := produce(t, b.placed, &kgo.Record{Value: encode(t, b.event(string(source))), Partition: p})
		b.expect(r, want)
	}
	other := b.event("bad/keys/other")
	b.rawBad(t, source, encode(t, other), letter{reason: "WRONG_SOURCE"})
	before, behind := b.event(string(source)), b.event(string(source))
	b.store(t, before, behind)
	wrong := encode(t, other) // once: protobuf encodes a map in another order each time
	b.expect(b.raw(t, source, envelope(t, encode(t, before), wrong, encode(t, behind))), letter{reason: "WRONG_SOURCE", index: 1, original: wrong})
	b.rawBad(t, []byte("bad/keys/PROD"), encode(t, b.event(string(source))), letter{reason: "WRONG_SOURCE"}) // case counts
	long := []byte("bad/" + chars(5000))
	b.rawBad(t, long, encode(t, b.event(string(source))), letter{reason: "WRONG_SOURCE", whole: true, key: long[:256]})
}
