package sink

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/maxviazov/audittrail/processors/enricher/table"
	pipelinev1 "github.com/maxviazov/audittrail/proto/audittrail/pipeline/v1"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
	"github.com/maxviazov/audittrail/proto/segment"
	"github.com/maxviazov/audittrail/proto/stream"
)

// Scenario files (testdata/*.txt) hold the decisions of the sink: outputs of the enricher in, entries of the log out. A block is one batch: lines of
// input, `----`, and what becomes of them. Each file runs twice, in memory and against PostgreSQL, with the same result.
//
//	start 5                     audit-events begins at offset 5
//	0.0-1.0: A b drop(0.0) !X   an output covering [0.0, 1.0): events A, and B with other content, a drop, a dead letter with reason X. Events stand
//	                            in the message before the end; `3:A` is event 3, without a number it is the next one
var update = flag.Bool("update", false, "write the golden files again")

var (
	testTopic   = [16]byte{7}
	ingestedAt  = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	outputLine  = regexp.MustCompile(`^(\d+)\.(\d+)-(\d+)\.(\d+): *(.*)$`)
	dropToken   = regexp.MustCompile(`^drop\((\d+)\.(\d+)\)$`)
	numberToken = regexp.MustCompile(`^(\d+):(.+)$`)
)

// testEvent is the event of a letter: lower case has the id of upper case and other content.
func testEvent(name string) *audittrailv1.Event {
	e := &audittrailv1.Event{Source: "acme/app", Action: "test.case", IdempotencyKey: strings.ToUpper(name), Outcome: audittrailv1.Outcome_OUTCOME_SUCCESS,
		OccurredAt: timestamppb.New(ingestedAt.Add(-time.Minute)), Actor: &audittrailv1.Actor{Type: "user", Id: "alice"}}
	if name != strings.ToUpper(name) {
		e.Reason = "other content"
	}
	return e
}

// testRecord is what the enricher makes of an event.
func testRecord(index uint32, e *audittrailv1.Event) *pipelinev1.Record {
	raw, err := e.MarshalVT()
	if err != nil {
		panic(err)
	}
	raw = event.AppendEmitterStamps(raw, ingestedAt, "anonymous")
	if raw, err = event.AppendEnrichment(raw, &audittrailv1.Enrichment{Owner: "team"}); err != nil {
		panic(err)
	}
	id := event.IDOf(e)
	short, _ := event.Fingerprint(e)
	return &pipelinev1.Record{Index: index, Id: id[:], Fingerprint: short, Record: raw}
}

func newOutput(from, end slot) *pipelinev1.RecordBatch {
	o := &pipelinev1.RecordBatch{TopicId: testTopic[:], RuleVersion: table.RuleVersion, FromOffset: from.offset, FromIndex: from.index, EndOffset: end.offset,
		EndIndex: end.index, Offset: end.offset, IngestedAtMs: ingestedAt.UnixMilli(), Key: []byte("acme/app")}
	if end.index == 0 {
		o.Offset--
	}
	return o
}

func letter(index uint32, reason string) *pipelinev1.DeadLetter {
	sum := sha256.Sum256([]byte(reason))
	return &pipelinev1.DeadLetter{Index: index, Reason: reason, Original: []byte(reason), OriginalSize: int64(len(reason)), OriginalSha256: sum[:], Key: []byte("acme/app")}
}

func parseOutput(t *testing.T, line string) *pipelinev1.RecordBatch {
	t.Helper()
	m := outputLine.FindStringSubmatch(line)
	if m == nil {
		t.Fatalf("cannot read %q", line)
	}
	n := func(s string) int64 {
		v, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	from, end := slot{n(m[1]), uint32(n(m[2]))}, slot{n(m[3]), uint32(n(m[4]))}
	o := newOutput(from, end)
	index := uint32(0)
	if from.offset == o.Offset {
		index = from.index
	}
	for _, token := range strings.Fields(m[5]) {
		if k := numberToken.FindStringSubmatch(token); k != nil {
			index, token = uint32(n(k[1])), k[2]
		}
		switch d := dropToken.FindStringSubmatch(token); {
		case d != nil:
			o.Drops = append(o.Drops, &pipelinev1.Drop{Index: index, FirstOffset: n(d[1]), FirstIndex: uint32(n(d[2]))})
		case token[0] == '!':
			o.DeadLetters = append(o.DeadLetters, letter(index, token[1:]))
		default:
			o.Records = append(o.Records, testRecord(index, testEvent(token)))
		}
		index++
	}
	return o
}

// place is where records of a scenario get stored: in memory, or in PostgreSQL.
type stage interface {
	head() *head
	// save settles, encodes and stores the batch.
	save(b *batch)
}

func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := runScenario(t, string(text), newMemory(t))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(text) {
				t.Errorf("in memory:\n%s", got)
			}
			pg := newPostgres(t)
			if other := runScenario(t, string(text), pg); other != got {
				t.Errorf("in PostgreSQL:\n%s", other)
			}
			pg.verify()
		})
	}
}

func runScenario(t *testing.T, text string, s stage) string {
	t.Helper()
	var out strings.Builder
	var start int64
	var b batch
	offset := int64(0)
	for i, block := range strings.Split(strings.TrimSpace(text), "\n\n") {
		if i > 0 {
			out.WriteString("\n")
		}
		input, _, _ := strings.Cut(block, "\n----")
		out.WriteString(input)
		b.reset()
		h, ran := s.head(), false
		for _, line := range strings.Split(input, "\n") {
			switch {
			case strings.HasPrefix(line, "#"):
				continue
			case strings.HasPrefix(line, "start "):
				var err error
				if start, err = strconv.ParseInt(line[6:], 10, 64); err != nil {
					t.Fatal(err)
				}
				continue
			}
			ran = true
			it, err := newItem(0, offset, stream.EncodeRecords(parseOutput(t, line)))
			if err != nil || it.output == nil {
				t.Fatalf("%s: %v %v", line, err, it)
			}
			offset++
			h.fold(it, start, &b.log(h).folded)
		}
		if !ran {
			out.WriteString("\n")
			continue
		}
		b.rows = len(b.log(h).decisions)
		s.save(&b)
		out.WriteString("\n----\n" + describe(b.log(h)))
		b.log(h).committed()
	}
	return out.String()
}

// describe prints what a batch did: entries in the order of the log, then the rest.
func describe(l *logBatch) string {
	var out strings.Builder
	index := l.state.size - l.records - l.dead - l.gaps
	for i := range l.decisions {
		d := &l.decisions[i]
		switch {
		case d.kind == takeRecord && d.verdict == retried:
			fmt.Fprintf(&out, "retry %v %s\n", d.slot, nameOf(d.record()))
			continue
		case d.kind == takeGap:
			fmt.Fprintf(&out, "%d gap %v-%v %v\n", index, d.gap.from, d.gap.end, d.gap.reason)
		case d.dead != nil:
			fmt.Fprintf(&out, "%d dead %v %s\n", index, d.slot, d.dead.letter.Reason)
		default:
			fmt.Fprintf(&out, "%d record %v %s\n", index, d.slot, nameOf(d.record()))
		}
		index++
	}
	for _, f := range l.fills {
		fmt.Fprintf(&out, "fill %v-%v\n", f.from, f.end)
	}
	if l.drops+l.discarded+l.skipped > 0 {
		fmt.Fprintf(&out, "drops %d, discarded %d, skipped %d\n", l.drops, l.discarded, l.skipped)
	}
	fmt.Fprintf(&out, "next %v", l.head.next)
	for _, p := range l.head.gaps {
		fmt.Fprintf(&out, ", open %v-%v", p.from, p.end)
	}
	return out.String() + "\n"
}

func nameOf(record []byte) string {
	var e audittrailv1.Event
	if err := e.UnmarshalVT(record); err != nil {
		return err.Error()
	}
	if e.Reason != "" {
		return strings.ToLower(e.IdempotencyKey)
	}
	return e.IdempotencyKey
}

// memory stores nothing but what it has seen.
type memory struct {
	t      *testing.T
	h      *head
	stored map[event.ID][]byte
}

func newMemory(t *testing.T) *memory {
	return &memory{t: t, h: &head{}, stored: make(map[event.ID][]byte)}
}

func (m *memory) head() *head { return m.h }

func (m *memory) save(b *batch) {
	m.settle(b)
	b.encode(newDictionary(), 9000)
	for _, l := range b.logs {
		for i := range l.stored() {
			if d := &l.decisions[i]; d.kind == takeRecord && d.verdict == fresh {
				m.stored[d.id()] = d.record()
			}
		}
	}
}

// settle settles the batch, with the map as the table.
func (m *memory) settle(b *batch) {
	if err := b.settle(); err != nil {
		m.t.Fatal(err)
	}
	judge := func(first, d *decision) {
		if old := m.stored[first.id()]; old != nil {
			same, err := sameContent(0, old, 0, d.record())
			if err != nil {
				m.t.Fatal(err)
			}
			d.verdict, d.dead = fresh, nil
			d.repeats(same)
		}
	}
	for _, d := range b.firsts {
		judge(d, d)
	}
	for _, c := range b.copies {
		judge(b.firsts[c.first], c.decision)
	}
}

// postgres stores as the sink does, optimistically.
type postgres struct {
	t     *testing.T
	store *store
	owner [16]byte
	h     *head
	log   []segment.Entry // what was appended
}

func newPostgres(t *testing.T) *postgres {
	p := &postgres{t: t, store: testStore(t), owner: [16]byte{1}}
	p.claim()
	return p
}

func (p *postgres) claim() {
	p.t.Helper()
	heads, err := p.store.claim(p.t.Context(), p.owner, []int32{0}, topics{events: testTopic, records: [16]byte{8}, partitions: 4}, anyRange)
	if err != nil {
		p.t.Fatal(err)
	}
	p.h = heads[0]
}

func (p *postgres) head() *head { return p.h }

func (p *postgres) save(b *batch) {
	p.t.Helper()
	ctx := p.t.Context()
	if err := b.settle(); err != nil {
		p.t.Fatal(err)
	}
	dict := newDictionary()
	var last event.ID
	for _, d := range b.firsts {
		dict.sources.want("acme/app")
		dict.actions.want("test.case")
		last = d.id()
	}
	day, err := p.store.extendLeaves(ctx, last)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := dict.fetch(ctx, p.store.db); err != nil {
		p.t.Fatal(err)
	}
	write := func() error {
		b.encode(dict, day)
		return p.store.write(ctx, p.owner, testTopic, b, func(context.Context) error { return nil })
	}
	err = write()
	if errors.Is(err, errStored) {
		if _, err := p.store.probe(ctx, b); err != nil {
			p.t.Fatal(err)
		}
		err = write()
	}
	if err != nil {
		p.t.Fatal(err)
	}
	for _, l := range b.logs {
		for i := range l.decisions {
			if e, ok := entryOf(&l.decisions[i]); ok {
				p.log = append(p.log, e)
			}
		}
	}
}

// entryOf is the entry a decision became.
func entryOf(d *decision) (segment.Entry, bool) {
	switch {
	case d.kind == takeGap:
		return segment.Entry{Kind: segment.KindGap, Payload: segment.Gap{FromOffset: d.gap.from.offset, FromIndex: d.gap.from.index,
			EndOffset: d.gap.end.offset, EndIndex: d.gap.end.index, Reason: d.gap.reason}.Append(nil)}, true
	case d.dead != nil:
		return segment.Entry{Kind: segment.KindDeadLetter, Payload: d.dead.entry(nil, d.slot)}, true
	case d.verdict == retried:
		return segment.Entry{}, false
	}
	return segment.Entry{Kind: segment.KindRecord, Payload: slices.Clone(d.record())}, true
}

// verify reads everything back, as another session: the log, and what the head knows.
func (p *postgres) verify() {
	p.t.Helper()
	next, gaps, state := p.h.next, slices.Clone(p.h.gaps), p.h.state
	verifyLog(p.t, p.store, 0, p.log)
	p.claim()
	if p.h.next != next || p.h.state.size != state.size || len(p.h.gaps) != len(gaps) {
		p.t.Errorf("claimed again: next %v, size %d, gaps %v; want %v, %d, %v", p.h.next, p.h.state.size, p.h.gaps, next, state.size, gaps)
		return
	}
	for i, g := range p.h.gaps {
		if g.span != gaps[i].span {
			p.t.Errorf("claimed again: gap %v, want %v", g.span, gaps[i].span)
		}
	}
	slices.SortFunc(p.h.gaps, func(a, b openPart) int { return cmp.Compare(a.from.offset, b.from.offset) })
	if string(p.h.state.frontier) != string(state.frontier) || string(p.h.state.open.framed) != string(state.open.framed) ||
		string(p.h.state.open.hashes) != string(state.open.hashes) || p.h.state.open.minID != state.open.minID || p.h.state.open.records != state.open.records {
		p.t.Error("claimed again: the open bundle is another")
	}
}
