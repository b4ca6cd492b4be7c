package faults

import (
	"math/rand/v2"

	"google.golang.org/protobuf/proto"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// Producers that write straight into the topic, single events and batches: the enricher checks every limit again (R9).
func (b *badInput) limitsRaw(t *T) {
	source := "bad/raw/prod"
	for _, l := range limits() {
		at := b.broken(source, l, 0)
		b.store(t, at)
		b.raw(t, []byte(at.Source), encode(t, at))
	}
	missing := limit{field: "idempotency_key", set: func(e *audittrailv1.Event, _ int) { e.IdempotencyKey = "" }}
	for _, l := range append(bad(), missing) { // without the emitter nobody makes a key
		e := b.broken(source, l, 1)
		want := letter{reason: "INVALID_EVENT", says: l.field}
		if l.says != "" {
			want.says = l.says
		}
		alone := want
		if l.reason != "" {
			alone.reason, alone.whole = l.reason, l.whole
			// An output's key takes at most what a source may.
			alone.key = []byte(e.Source[:256])
		}
		b.rawBad(t, []byte(e.Source), encode(t, e), alone)

		before, behind := b.event(source), b.event(source)
		b.store(t, before, behind)
		if e.Source != source {
			want = letter{reason: "WRONG_SOURCE"}
		}
		want.index, want.original = 1, encode(t, e)
		b.expect(b.raw(t, []byte(source), envelope(t, encode(t, before), want.original, encode(t, behind))), want)
	}
}

// bytes that are no event at all.
func (b *badInput) bytes(t *T) {
	source := []byte("bad/bytes/prod")
	b.rawBad(t, source, nil, letter{reason: "EMPTY", whole: true})
	b.rawBad(t, source, []byte{}, letter{reason: "EMPTY", whole: true})
	b.rawBad(t, source, envelope(t), letter{reason: "EMPTY", whole: true})
	b.rawBad(t, source, []byte{0}, letter{reason: "UNDECODABLE", whole: true})
	b.rawBad(t, source, []byte("\x00ATE"), letter{reason: "UNDECODABLE", whole: true})
	b.rawBad(t, source, []byte("\x00ATR\x01"), letter{reason: "UNDECODABLE", whole: true}) // of another topic
	b.rawBad(t, source, []byte("\x00ATE\x01\xff\xff"), letter{reason: "UNDECODABLE", whole: true})
	b.rawBad(t, source, []byte(`{"source":"bad/bytes/prod","action":"a.b"}`), letter{reason: "UNDECODABLE"})

	whole := encode(t, b.event(string(source)))
	for cut := 1; cut < len(whole); cut += 7 {
		// A cut between two fields leaves a shorter event, which lacks something or says nothing wrong.
		if proto.Unmarshal(whole[:cut], &audittrailv1.Event{}) == nil {
			continue
		}
		b.rawBad(t, source, whole[:cut], letter{reason: "UNDECODABLE"})
		before, behind := b.event(string(source)), b.event(string(source))
		b.store(t, before, behind)
		b.expect(b.raw(t, source, envelope(t, encode(t, before), whole[:cut], encode(t, behind))), letter{reason: "UNDECODABLE", index: 1, original: whole[:cut]})
	}
	// A batch that is cut: nobody can say where an event begins.
	message := envelope(t, whole, whole)
	b.rawBad(t, source, message[:len(message)-9], letter{reason: "UNDECODABLE", whole: true})

	r := rand.New(rand.NewPCG(7, 7))
	for range 60 {
		value := make([]byte, 1+r.IntN(3000))
		for i := range value {
			value[i] = byte(r.Uint32())
		}
		key := make([]byte, 1+r.IntN(40))
		for i := range key {
			key[i] = byte(r.Uint32())
		}
		b.rawBad(t, key, value, letter{whole: value[0] == 0})
	}
	// An event in an event of another type: a field that protobuf knows, with another wire type.
	b.rawBad(t, source, []byte{0x10, 0x01}, letter{reason: "UNDECODABLE"})
}
