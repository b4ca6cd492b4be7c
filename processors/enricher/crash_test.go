package enricher

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/maxviazov/audittrail/processors/enricher/table"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
	"github.com/maxviazov/audittrail/proto/stream"
)

// TestRandomCrashes runs the real decider, store and snapshots against a simulated Kafka, with everything that may go wrong:
// crashes that lose any suffix of the sends to each topic, zombies that go on beside their successor, eviction, compaction,
// old snapshots, memory of earlier sessions. At the end a sink in miniature must have every id exactly once, every drop must name a covered slot, and the
// table must have counted every event once (R3 to R8). The same as the model of the rules, but with the code.
func TestRandomCrashes(t *testing.T) {
	for seed := range uint64(120) {
		s := newSim(t, rand.New(rand.NewPCG(seed, 77)))
		s.noZombies, s.noCompaction = seed%3 == 0, seed%3 == 1
		s.run()
		if t.Failed() {
			t.Fatalf("seed %d: %d crashes, %d zombies", seed, s.crashes, s.zombies)
		}
	}
}

type sim struct {
	t         testing.TB
	r         *rand.Rand
	log       []*message // nil: a hole
	copies    map[event.ID]map[uint64]bool
	perKey    map[string]int64
	records   [][]byte
	changelog []changelogValue // an empty key: compacted
	commit    int64
	snapshot  []byte
	metrics   *metrics
	live      *member
	dead      []*member // zombies
	cached    []*store  // of sessions that ended while their process lives on; it may get the partition back

	noZombies, noCompaction       bool
	crashes, zombies, compactions int
}

// member is one enricher with what it has sent and what is not acknowledged yet.
type member struct {
	lane
	position       int64
	outputs        []sent
	table          []sent
	done           int64 // committed by it
	finishedOffset []int64
}

type sent struct {
	offset int64
	key    string
	value  []byte
}

func newSim(t testing.TB, r *rand.Rand) *sim {
	s := &sim{t: t, r: r, copies: map[event.ID]map[uint64]bool{}, perKey: map[string]int64{}}
	s.metrics, _ = newMetrics(nil)
	base := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	for i := range 40 {
		if r.IntN(6) == 0 {
			s.log = append(s.log, nil)
			continue
		}
		key := fmt.Sprint("acme/", r.IntN(2))
		var events []*audittrailv1.Event
		for range 1 + r.IntN(3) {
			e := &audittrailv1.Event{Source: key, IdempotencyKey: fmt.Sprint(r.IntN(12)), OccurredAt: timestamppb.New(base), Action: "a",
				Outcome: audittrailv1.Outcome_OUTCOME_SUCCESS, Actor: &audittrailv1.Actor{Id: fmt.Sprint(r.IntN(3))}}
			if r.IntN(8) == 0 {
				e.Reason = "other content"
			}
			fingerprint, _ := event.Fingerprint(e)
			id := event.IDOf(e)
			if s.copies[id] == nil {
				s.copies[id] = map[uint64]bool{}
			}
			s.copies[id][fingerprint] = true
			s.perKey[key]++
			events = append(events, e)
		}
		s.log = append(s.log, &message{offset: int64(i), key: key, value: batchOf(t, events...), ingestedAt: base.Add(time.Duration(i) * time.Second)})
	}
	return s
}

func (s *sim) run() {
	s.start()
	for steps := 0; s.live.position < int64(len(s.log)) || steps < 400; steps++ {
		m := s.live
		if len(s.dead) > 0 && s.r.IntN(3) == 0 {
			m = s.dead[s.r.IntN(len(s.dead))]
		}
		switch s.r.IntN(24) {
		default:
			s.process(m)
		case 7, 8, 9, 10, 11:
			s.ackOutput(m)
		case 12, 13, 14, 15, 16:
			s.ackTable(m)
		case 17, 18, 19:
			s.commitOf(s.live)
		case 20:
			s.save()
		case 21:
			s.crashes++
			if s.r.IntN(2) == 0 {
				_ = s.live.store.Close()
				s.cached = append(s.cached, s.live.store)
			}
			s.start()
		case 22:
			if !s.noZombies {
				s.zombies++
				s.dead = append(s.dead, s.live)
				s.start()
			}
		case 23:
			if !s.noCompaction {
				s.compact()
			}
		}
	}
	s.dead = nil
	for range 2 { // the last one finds what zombies left behind, and finishes
		s.start()
		for s.live.position < int64(len(s.log)) {
			s.process(s.live)
			for len(s.live.outputs) > 0 {
				s.ackOutput(s.live)
			}
		}
		for len(s.live.table) > 0 {
			s.ackTable(s.live)
		}
		s.commitOf(s.live)
	}
	s.check()
}

// start makes a new enricher, as positions, goka and recovered do.
func (s *sim) start() {
	st := s.newStore()
	_ = st.Open()
	for i := st.offset + 1; i < int64(len(s.changelog)); i++ {
		if v := s.changelog[i]; v.key != "" {
			if err := st.recover(i, v.key, v.value); err != nil {
				s.t.Fatal(err)
			}
		}
	}
	_ = st.MarkRecovered()
	for key, value := range st.staleStates() {
		s.changelog = append(s.changelog, changelogValue{key, value})
		st.rewritten(key, int64(len(s.changelog)-1))
	}
	s.live = &member{position: s.commit, done: s.commit, lane: lane{store: st, next: s.commit, logStart: func() (int64, error) { return 0, nil },
		decider: decider{topicID: testTopics.events, partitions: 1, maxFuture: time.Hour}}}
}

// newStore is what stores.prepare makes ready: what is still in memory, however old, a snapshot, or nothing.
func (s *sim) newStore() *store {
	if n := len(s.cached); n > 0 && s.r.IntN(2) == 0 {
		i := s.r.IntN(n)
		st := s.cached[i]
		s.cached = append(s.cached[:i], s.cached[i+1:]...)
		return st
	}
	config := Config{Window: time.Hour, WindowMaxIDs: 6 + s.r.IntN(20)}
	st := newStore(0, config, zerolog.Nop(), s.metrics)
	if s.snapshot != nil && s.r.IntN(2) == 0 {
		if err := st.read(newSnapshotReader(bytes.NewReader(s.snapshot))); err != nil {
			s.t.Fatal(err)
		}
	}
	st.ids = testTopics
	st.life.loaded = true
	return st
}

// process is what Enricher.process does.
func (s *sim) process(m *member) {
	for m.position < int64(len(s.log)) && s.log[m.position] == nil {
		m.position++
	}
	if m.position >= int64(len(s.log)) || len(m.outputs) > 6 {
		return
	}
	msg := *s.log[m.position]
	from, _ := m.from(msg.offset)
	var state *table.State
	if value, _ := m.store.Get(msg.key); value != nil {
		state, _ = stream.DecodeState(value)
	}
	d, err := m.decider.decide(msg, state, nil, m.store.window)
	if err != nil {
		s.t.Fatal(err)
	}
	limit := maxOutput
	if s.r.IntN(3) == 0 {
		limit = headRoom + 1 // every event an output of its own
	}
	for _, o := range encodeOutputs(d, testTopics.events[:], &msg, from, limit) {
		m.outputs = append(m.outputs, sent{msg.offset, msg.key, o})
	}
	m.store.accept(msg.offset, msg.ingestedAt.UnixMilli(), d.accepted)
	if d.state != nil {
		value := stream.EncodeState(d.state)
		if err := m.store.Set(msg.key, value); err != nil {
			s.t.Fatal(err)
		}
		m.table = append(m.table, sent{msg.offset, msg.key, value})
	}
	m.next = msg.offset + 1
	m.position = msg.offset + 1
	m.finishedOffset = append(m.finishedOffset, msg.offset)
}

func (s *sim) ackOutput(m *member) {
	if len(m.outputs) > 0 {
		s.records = append(s.records, m.outputs[0].value)
		m.outputs = m.outputs[1:]
	}
}

func (s *sim) ackTable(m *member) {
	if len(m.table) > 0 {
		s.changelog = append(s.changelog, changelogValue{m.table[0].key, m.table[0].value})
		_ = m.store.SetOffset(int64(len(s.changelog) - 1))
		m.table = m.table[1:]
	}
}

// commitOf commits the contiguous finished prefix (R3).
func (s *sim) commitOf(m *member) {
	for len(m.finishedOffset) > 0 {
		o := m.finishedOffset[0]
		if len(m.outputs) > 0 && m.outputs[0].offset <= o || len(m.table) > 0 && m.table[0].offset <= o {
			break
		}
		m.done = o + 1
		m.finishedOffset = m.finishedOffset[1:]
	}
	s.commit = m.done
}

func (s *sim) save() {
	if len(s.live.store.staleStates()) > 0 {
		return
	}
	var b bytes.Buffer
	w := newSnapshotWriter(&b)
	s.live.store.write(context.Background(), w)
	if err := w.finish(); err != nil {
		s.t.Fatal(err)
	}
	s.snapshot = b.Bytes()
}

// compact removes all but the last value of each key, as far as some offset.
func (s *sim) compact() {
	s.compactions++
	last := map[string]int{}
	for i, v := range s.changelog {
		last[v.key] = i
	}
	for i := range s.r.IntN(len(s.changelog) + 1) {
		if key := s.changelog[i].key; last[key] != i {
			s.changelog[i] = changelogValue{}
		}
	}
}

func (s *sim) check() {
	sink := newMiniSink(s.t, 0)
	for _, value := range s.records {
		sink.take(value)
	}
	end := int64(len(s.log))
	for end > 0 && s.log[end-1] == nil { // what follows the last message is covered with the next one
		end--
	}
	if sink.next != (slot{end, 0}) {
		s.t.Errorf("covered up to %v, want %d", sink.next, end)
	}
	if len(sink.stored) != len(s.copies) {
		s.t.Errorf("%d ids stored, want %d", len(sink.stored), len(s.copies))
	}
	// Each content of an id is kept at least once: the sink settles which is the event and which a dead letter.
	for id, contents := range s.copies {
		for fingerprint := range contents {
			if !sink.contents[id][fingerprint] {
				s.t.Errorf("content %x of %s is lost", fingerprint, id)
			}
		}
	}
	if s.zombies > 0 && s.compactions > 0 {
		return // then the table may deviate: EXACTLY_ONCE says so
	}
	for key, want := range s.perKey {
		value, _ := s.live.store.Get(key)
		state, err := stream.DecodeState(value)
		if err != nil || state.Events+state.Duplicates != want {
			s.t.Errorf("%s: %d events and %d duplicates counted of %d (%v)", key, state.GetEvents(), state.GetDuplicates(), want, err)
		}
	}
}
