package enricher

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/maxviazov/audittrail/processors/enricher/table"
	pipelinev1 "github.com/maxviazov/audittrail/proto/audittrail/pipeline/v1"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
	"github.com/maxviazov/audittrail/proto/stream"
)

type (
	actionCount = pipelinev1.ActionCount
	recentEvent = pipelinev1.RecentEvent
)

// message is one message of audit-events.
type message struct {
	offset     int64
	key        string
	value      []byte
	ingestedAt time.Time // when the broker appended it
}

// decision is what becomes of one message. Every event of it is in exactly one of kept, drops and dead, each
// by ascending index. It shares memory with the message and with the decider that made it.
type decision struct {
	kept  []kept
	drops []drop
	dead  []*pipelinev1.DeadLetter

	// state is the value to write to the table; nil: the table is not written.
	state *table.State
	// accepted is what enters the window at the message's offset; also in state, unless that is one of a later message.
	accepted []byte
	// replay says that the state had folded the message in before.
	replay bool
}

// kept is one event that becomes a record: raw followed by stamp.
type kept struct {
	index       uint32
	id          event.ID
	fingerprint uint64
	raw, stamp  []byte
}

// drop is one event that repeats the event of an earlier slot.
type drop struct {
	index uint32
	first slot
}

// decider decides what becomes of the messages of one partition. A decision depends on the arguments of
// decide and on unsure alone; between calls a decider keeps nothing but memory to use again. It belongs to one goroutine.
type decider struct {
	topicID    [16]byte // of audit-events
	partition  int32
	partitions int32
	maxFuture  time.Duration
	// unsure is set before each call: a slot below it may be missing from the log, and may not be named as a first copy.
	unsure int64

	m        message
	window   *window
	out      decision
	keyValid bool // an event of the message has the key, a valid path, as its source: the table may have it
	fold     fold
	stamper  stamper
	stamps   []byte
	seen     inMessage
	last     [table.MaxRecent]glance // of kept event i at i modulo its length
}

// decide is the enricher's rule: message, state of its source (nil: none yet), registration (nil: none) and
// window in; outputs, new state and accepted ids out. It changes state but not window. The only error is
// stream.ErrVersion: then the program must stop.
func (d *decider) decide(m message, state *table.State, r *audittrailv1.SourceRegistration, w *window) (*decision, error) {
	d.begin(m, w)
	events, err := stream.DecodeEvents(m.value)
	if errors.Is(err, stream.ErrVersion) {
		return nil, err
	}
	if reason, detail := d.whole(events, err); reason != "" {
		d.deadWhole(reason, detail)
		return &d.out, nil
	}

	state = d.rebase(state)
	d.out.replay = m.offset <= state.LastOffset
	work := state
	if d.out.replay {
		// Aggregates fold only offsets above last_offset (R7); what the findings need is folded aside.
		work = state.CloneVT()
	}
	d.fold.begin(work)
	d.stamper.begin(m.ingestedAt, r)
	d.seen.begin(len(events))
	for i, raw := range events {
		d.event(uint32(i), raw)
	}
	switch {
	case !d.keyValid:
	case !d.out.replay:
		d.out.state = d.fold.finish(&d.m, d.recent())
		d.out.state.Accepted = d.out.accepted
	default:
		// Write it again as it is. The one in memory may be ahead of the changelog (a write that was not acknowledged, a
		// snapshot), and a message must not be finished before the changelog has a state that holds it. The ids can only stand
		// beside the offset they belong to; those of older messages stay in memory.
		d.out.state = state
		d.out.state.Accepted = nil
		if m.offset == state.LastOffset {
			d.out.state.Accepted = d.out.accepted
		}
	}
	return &d.out, nil
}

func (d *decider) begin(m message, w *window) {
	d.m, d.window = m, w
	clear(d.out.kept)
	clear(d.out.dead)
	d.out = decision{kept: d.out.kept[:0], drops: d.out.drops[:0], dead: d.out.dead[:0], accepted: d.out.accepted[:0]}
	d.stamps = d.stamps[:0]
	d.keyValid = false
}

// whole returns why the message is one dead letter, or "".
func (d *decider) whole(events [][]byte, err error) (reason, detail string) {
	size := len(d.m.value)
	if err == nil {
		size = 0
		for _, e := range events {
			size += len(e)
		}
	}
	switch {
	case size > stream.MaxBatchBytes || len(d.m.value) > 2*stream.MaxBatchBytes:
		return event.ReasonOversize, fmt.Sprintf("the message takes %d bytes; its events take at most %d", len(d.m.value), stream.MaxBatchBytes)
	case len(events) > stream.MaxBatchEvents:
		return event.ReasonOversize, fmt.Sprintf("the message has %d events; at most %d", len(events), stream.MaxBatchEvents)
	case len(d.m.key) > event.MaxSource:
		return event.ReasonWrongSource, fmt.Sprintf("the key takes %d bytes; a source takes at most %d", len(d.m.key), event.MaxSource)
	case len(d.m.value) == 0 || err == nil && len(events) == 0:
		return event.ReasonEmpty, "the message holds no event"
	case err != nil:
		return event.ReasonUndecodable, clean(err.Error())
	}
	if p := stream.Partition(d.m.key, d.partitions); p != d.partition {
		return event.ReasonWrongPartition, fmt.Sprintf("the key belongs into partition %d (murmur2), the message stands in %d", p, d.partition)
	}
	return "", ""
}

// rebase returns the state to go on from. Offsets of another topic say nothing about this one's (R18).
func (d *decider) rebase(s *table.State) *table.State {
	if s == nil {
		s = &table.State{LastOffset: -1}
	}
	if !bytes.Equal(s.TopicId, d.topicID[:]) {
		s.TopicId, s.LastOffset = d.topicID[:], -1
	}
	s.RuleVersion = table.RuleVersion
	return s
}

// event decides about one event.
func (d *decider) event(index uint32, raw []byte) {
	e := audittrailv1.EventFromVTPool()
	defer e.ReturnToVTPool()
	if err := e.UnmarshalVTUnsafe(raw); err != nil {
		d.deadEvent(index, raw, event.ReasonUndecodable, clean(err.Error()))
		return
	}
	if reason, detail := d.refuse(e, len(raw)); reason != "" {
		d.deadEvent(index, raw, reason, detail)
		return
	}
	d.keyValid = true
	own := slot{d.m.offset, index}
	id := event.IDOf(e)
	fingerprint, _ := event.Fingerprint(e)

	first, prior, known := d.first(id)
	occurredAt := e.OccurredAt.AsTime()
	if known && (seenBefore || first.before(own) && prior == fingerprint) {
		d.fold.state.Duplicates++
		if unsureNamed || !d.isUnsure(first, own) {
			d.out.drops = append(d.out.drops, drop{index: index, first: first})
			return
		}
		// The first copy may be one of the events that are missing. The sink decides; what was found then goes with it.
		d.glance(id, e, occurredAt)
		d.seen.put(id, len(d.out.kept))
		d.keep(kept{index: index, id: id, fingerprint: fingerprint, raw: raw}, decodeFinding(d.window.find(id).enrichment), occurredAt)
		return
	}

	d.glance(id, e, occurredAt)
	found := d.fold.accept(e, occurredAt, d.m.ingestedAt)
	if known && first == own && prior == fingerprint {
		if stored := d.window.find(id); stored != nil && stored.first == own {
			found = decodeFinding(stored.enrichment)
		}
	}
	if !known || !first.before(own) {
		d.seen.put(id, len(d.out.kept))
		d.out.accepted = table.AppendAccepted(d.out.accepted, table.Accepted{ID: id, Index: index, Fingerprint: fingerprint, Enrichment: found.encode()})
	}
	d.keep(kept{index: index, id: id, fingerprint: fingerprint, raw: raw}, found, occurredAt)
}

// first returns the first slot known to hold the id, in the window or in this message, with the fingerprint of
// what is there.
func (d *decider) first(id event.ID) (first slot, fingerprint uint64, known bool) {
	if e := d.window.find(id); e != nil {
		first, fingerprint, known = e.first, e.fingerprint, true
	}
	if k := d.seen.find(id, d.out.kept); k != nil {
		if here := (slot{d.m.offset, k.index}); !known || here.before(first) || d.isUnsure(first, here) {
			return here, k.fingerprint, true
		}
	}
	return first, fingerprint, known
}

// isUnsure says whether the slot of another message may be missing from the log. What this message keeps is in its output.
func (d *decider) isUnsure(first, own slot) bool {
	return first.offset < d.unsure && first.offset != own.offset
}

func (d *decider) keep(k kept, f finding, occurredAt time.Time) {
	at := len(d.stamps)
	stamps, err := d.stamper.append(d.stamps, f, occurredAt)
	if err != nil {
		panic(fmt.Sprintf("encode enrichment: %v", err)) // only a buffer of the wrong size would do that
	}
	d.stamps = stamps
	k.stamp = stamps[at:len(stamps):len(stamps)]
	d.out.kept = append(d.out.kept, k)
}

// glance notes the event that is about to be kept.
func (d *decider) glance(id event.ID, e *audittrailv1.Event, occurredAt time.Time) {
	d.last[len(d.out.kept)%table.MaxRecent] = glance{id, occurredAt.UnixMilli(), e.Action, int32(e.Outcome), e.Actor.GetId()}
}

// glance is what the state shows of an event. Its strings share memory with the message.
type glance struct {
	id           event.ID
	occurredAtMs int64
	action       string
	outcome      int32
	actorID      string
}

// recent returns the last kept events, oldest first.
func (d *decider) recent() []*recentEvent {
	n := len(d.out.kept)
	recent := make([]*recentEvent, 0, table.MaxRecent)
	for i := max(0, n-table.MaxRecent); i < n; i++ {
		g := &d.last[i%table.MaxRecent]
		recent = append(recent, &recentEvent{Id: bytes.Clone(g.id[:]), OccurredAtMs: g.occurredAtMs, Action: g.action, Outcome: g.outcome, ActorId: g.actorID})
	}
	return recent
}
