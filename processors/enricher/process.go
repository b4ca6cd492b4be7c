package enricher

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/lovoo/goka"

	"github.com/maxviazov/audittrail/internal/clock"
	"github.com/maxviazov/audittrail/internal/group"
	"github.com/maxviazov/audittrail/processors/enricher/table"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
	"github.com/maxviazov/audittrail/proto/stream"
)

// generation is one session of the group as the callbacks see it. It is made in positions and never changed.
type generation struct {
	session *group.Session // nil under goka's tester
	topics  topicIDs       // as they were when it began
	// partitions of audit-events when it began
	partitions int32
	lanes      map[int32]*lane
}

// lane is one partition in one session. It belongs to the goroutine that runs the partition's callbacks.
type lane struct {
	decider decider
	store   *store
	headers goka.Headers // send everything into this partition (R8)
	label   string
	// next is the first slot's offset that no output of this session covers: the offset after the last message, at first where
	// the session started.
	next int64
	// at is next, for the goroutine that looks for requests.
	at atomic.Int64
	// mark goes beside the group's commit: the topic, and which refill was made last; set in positions.
	mark stream.RefillMark
	// lost is where the input began when a refill asked for more, or 0: nothing below it will be seen again. Set in positions.
	lost int64
	// unsure is the offset below which slots may be missing from the log, and are not named as first copies (R14).
	unsure atomic.Int64
	// logStart reads where the log of audit-events begins now.
	logStart func() (int64, error)
	// placement asks whether audit-events still has the partitions that it had, and says up to which offset that answer counts; see misplaced.
	placement func(context.Context) (until int64, err error)
	placed    int64 // what it said last
}

var errStale = errors.New("callback of a session that is over")

// process is the goka callback: it decides, and hands everything to goka, which finishes the message when outputs and
// table write are acknowledged (R3). If the process dies here, nothing of this message is committed, and it comes again;
// parts that were written already are recognised by their slots.
func (e *Enricher) process(ctx goka.Context, value any) {
	began := time.Now()
	g := e.generation.Load()
	if g == nil || g.session != group.SessionFrom(ctx.Context()) || g.lanes[ctx.Partition()] == nil {
		ctx.Fail(errStale)
		return
	}
	l := g.lanes[ctx.Partition()]
	m := message{offset: ctx.Offset(), key: ctx.Key(), ingestedAt: appended(ctx.Timestamp())}
	m.value, _ = value.([]byte) // nil for a message without a value
	from, err := l.from(m.offset)
	if err != nil {
		ctx.Fail(fmt.Errorf("read start of %s/%d: %w", stream.Events, ctx.Partition(), err))
		return
	}
	state, _ := ctx.Value().(*table.State)
	l.decider.unsure = l.unsure.Load()
	d, err := l.decider.decide(m, state, e.registration(ctx), l.store.window)
	if err != nil {
		ctx.Fail(group.Refusef("message %s/%d@%d: %w", stream.Events, ctx.Partition(), m.offset, err))
		return
	}
	if len(d.dead) == 1 && d.dead[0].Reason == event.ReasonWrongPartition {
		if err := l.misplaced(ctx.Context(), m.offset); err != nil {
			ctx.Fail(fmt.Errorf("place %s/%d@%d: %w", stream.Events, ctx.Partition(), m.offset, err))
			return
		}
	}
	outputs := encodeOutputs(d, l.decider.topicID[:], &m, from, maxOutput)

	l.store.accept(m.offset, m.ingestedAt.UnixMilli(), d.accepted)
	if d.state != nil {
		ctx.SetValue(d.state, goka.WithCtxEmitHeaders(l.headers))
	}
	for _, output := range outputs {
		ctx.Emit(stream.Records, outputKey(m.key), output, goka.WithCtxEmitHeaders(l.headers))
	}
	l.next = m.offset + 1
	l.at.Store(l.next)
	e.metrics.observe(d, l, &m, began)
}

// maxBrokerAhead is how far the broker's clock may be ahead of ours: two clocks, each wrong by a day, and some. It is no more, as what events
// may claim beyond it (maxReceivedAhead, and the sink's 31 days) has to stay within the 35 days for which the store makes leaves.
const maxBrokerAhead = 3 * 24 * time.Hour

// appended is when the broker appended a message. The topic is LogAppendTime; a broker that does not know it (the embedded one) passes on what a raw
// producer made up. With a time before all events every event would lie in the future. One far ahead would stop the window's clock, and let
// events pass that the store has no leaf for, at which it would stop for good. Within the bound our own clock decides nothing: a replay sees the
// same time, and an enricher whose clock is a day behind refuses nothing that is good.
func appended(t time.Time) time.Time {
	if now := clock.Now(); t.Before(event.MinOccurredAt) || t.After(now.Add(maxBrokerAhead)) {
		return now.UTC()
	}
	return t.UTC()
}

// from is the first offset that the output of the message at offset covers. Offsets between the last message and this one
// are holes (transaction markers, aborted records), or retention took what was there: where the log starts is read after
// the delivery, and what was lost is left for the sink to find (R4).
func (l *lane) from(offset int64) (int64, error) {
	if l.next == offset || outputOverHole {
		return offset, nil
	}
	start, err := l.logStart()
	if err != nil {
		return 0, err
	}
	return min(max(l.next, start), offset), nil
}

// registration is what the joined registry says of the source, or nil. One that does not decode counts as none: the events
// matter more.
func (e *Enricher) registration(ctx goka.Context) *audittrailv1.SourceRegistration {
	value, _ := ctx.Join(goka.Table(stream.Sources)).([]byte)
	if value == nil {
		return nil
	}
	r := new(audittrailv1.SourceRegistration)
	if err := r.UnmarshalVT(value); err != nil || len(event.ValidateRegistration(r)) > 0 {
		e.metrics.badValues.Inc()
		return nil
	}
	return r
}

func (m *metrics) observe(d *decision, l *lane, msg *message, began time.Time) {
	n := len(d.kept) + len(d.drops) + len(d.dead)
	m.messages.Inc()
	if d.replay {
		m.replays.Inc()
	}
	m.events.Add(float64(n))
	m.kept.Add(float64(len(d.kept)))
	m.duplicates.Add(float64(len(d.drops)))
	for _, dead := range d.dead {
		m.deadLetters.WithLabelValues(dead.Reason).Inc()
	}
	m.batch.Observe(float64(n))
	m.processing.Observe(time.Since(began).Seconds())
	m.lag.WithLabelValues(l.label).Set(clock.Now().Sub(msg.ingestedAt).Seconds())
}
