package sink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/maxviazov/audittrail/internal/clock"
	"github.com/maxviazov/audittrail/internal/group"
	"github.com/maxviazov/audittrail/proto/event"
	"github.com/maxviazov/audittrail/proto/stream"
)

// flush stores the batch and finishes its messages. The commit of PostgreSQL is what counts: if the process dies after it, the messages are
// delivered again, and their slots are known.
func (b *batcher) flush(ctx context.Context) error {
	began := time.Now()
	if err := b.fold(); err != nil {
		return err
	}
	if err := b.settle(ctx); err != nil {
		return err
	}
	attempts, err := b.write(ctx)
	if err != nil {
		return err
	}
	b.mu.Lock()
	for _, l := range b.batch.logs {
		l.committed()
		b.seen[l.head.log] = l.head.seen()
		if l.special {
			b.gaps[l.head.log] = l.head.gaps.spans()
		}
	}
	b.mu.Unlock()
	finished := b.split()
	for _, it := range finished {
		it.commit(nil)
	}
	b.queue.done(finished)
	b.report(finished, time.Since(began), attempts)
	return nil
}

// split takes the items that are stored out of the batch; what is held stays (see plan).
func (b *batcher) split() (finished []*item) {
	held := b.batch.items[:0]
	for _, it := range b.batch.items {
		if it.offset < b.heads[it.partition].position {
			finished = append(finished, it)
		} else {
			held = append(held, it)
		}
	}
	clear(b.batch.items[len(held):])
	b.batch.items = held
	return finished
}

// fold takes the messages into the heads, in the order of arrival; partitions do not depend on each other.
func (b *batcher) fold() error {
	for _, it := range b.batch.items {
		h := b.heads[it.partition]
		if h == nil {
			return fmt.Errorf("message of %s/%d, which is not claimed", stream.Records, it.partition)
		}
		if it.offset < h.position {
			continue // delivered twice
		}
		l := b.batch.log(h)
		if it.output == nil {
			b.log.Error().Err(it.malformed).Int32("partition", it.partition).Int64("offset", it.offset).Msg("output is malformed and left out")
			b.sink.metrics.malformed.Inc()
			h.position, l.special = it.offset+1, true
			continue
		}
		if [16]byte(it.output.TopicId) != b.topics.events {
			if err := b.foreign(h, it, &l.folded); err != nil {
				return err
			}
			continue
		}
		start, err := b.inputLog(h, it)
		if err != nil {
			return err
		}
		h.fold(it, start, &l.folded)
	}
	for _, l := range b.batch.logs {
		b.batch.rows += len(l.decisions)
	}
	return nil
}

// inputLog asks Kafka what fold must know of the input log: that the output does not reach beyond its end (R15), and, when slots before the
// output are missing, its start, read after the delivery (R13).
func (b *batcher) inputLog(h *head, it *item) (start int64, err error) {
	end := it.output.EndOffset
	if it.output.EndIndex > 0 {
		end++
	}
	from := slot{it.output.FromOffset, it.output.FromIndex}
	for try := 0; end > h.inputEnd || h.next.before(from); try++ {
		r, err := b.session.LogRange(stream.Events, it.partition)
		if err != nil {
			return 0, err
		}
		h.inputEnd, start = max(h.inputEnd, r.End), r.Start
		switch {
		case end <= h.inputEnd:
			return start, nil
		case try == inputTries:
			return 0, group.Refusef("%s/%d@%d covers slots up to %d.%d, but %s ends at %d: it was not written by an enricher of this log",
				stream.Records, it.partition, it.offset, it.output.EndOffset, it.output.EndIndex, stream.Events, h.inputEnd)
		}
		// A new leader may not know the end yet.
		select {
		case <-b.session.Context().Done():
			return 0, errOver
		case <-time.After(time.Second):
		}
	}
	return start, nil
}

const inputTries = 5

// settle gives records their verdicts and the names in them numbers, and makes leaves.
func (b *batcher) settle(ctx context.Context) error {
	if err := b.batch.settle(); err != nil {
		return err
	}
	b.dict.trim()
	var last event.ID
	for _, d := range b.batch.firsts {
		s := &d.item.records[d.at]
		b.dict.sources.want(s.Source)
		b.dict.actions.want(s.Action)
		if id := d.id(); id.Compare(last) > 0 {
			last = id
		}
	}
	for _, l := range b.batch.logs {
		l.head.state.open.wantNames(b.dict)
	}
	if err := b.dict.fetch(ctx, b.sink.store.db); err != nil {
		return err
	}
	for _, l := range b.batch.logs {
		l.head.state.open.name(b.dict)
	}
	if b.probing > 0 {
		if err := b.probe(ctx); err != nil {
			return err
		}
		b.probing--
	}
	return b.extendLeaves(ctx, last)
}

// extendLeaves makes leaves once a day, and when an event is ahead of them. The day by which bundles are stored is PostgreSQL's of then, which has a
// leaf: this process's clock may be days off.
func (b *batcher) extendLeaves(ctx context.Context, last event.ID) error {
	today := clock.Now().UTC().Truncate(24 * time.Hour)
	if today.Equal(b.leaves) && last.Compare(b.farthest) <= 0 {
		return nil
	}
	day, err := b.sink.store.extendLeaves(ctx, last)
	if err != nil {
		return err
	}
	b.leaves, b.day = today, day
	// What was made reaches at least to the end of tomorrow, and of the event's day.
	b.farthest = event.LowerBound(dayTime(day).Add(48 * time.Hour))
	if end := event.LowerBound(last.Time().Truncate(24 * time.Hour).Add(24 * time.Hour)); b.farthest.Compare(end) < 0 {
		b.farthest = end
	}
	return nil
}

// probeFor is for how many batches ids are looked for first after a conflict; conflicts come in rows, when the enricher's window was lost.
const probeFor = 16

func (b *batcher) probe(ctx context.Context) error {
	n, err := b.sink.store.probe(ctx, &b.batch)
	if n > 0 {
		b.probing = probeFor
	}
	return err
}

// write encodes and stores the batch. Writing is optimistic: only when an id turns out to be taken are the stored ones looked for, and the batch is
// laid out again without them. That can happen again only if another log got the same id in between.
func (b *batcher) write(ctx context.Context) (attempts int, err error) {
	for attempts = 1; ; attempts++ {
		b.batch.encode(b.dict, b.day)
		err := b.transact(ctx)
		if !errors.Is(err, errStored) || attempts == maxAttempts {
			return attempts, err
		}
		b.sink.metrics.conflicts.Inc()
		b.probing = probeFor
		if err := b.probe(ctx); err != nil {
			return attempts, err
		}
	}
}

const maxAttempts = 10

// transact runs the transaction on a context of its own: what has begun is finished, for some seconds, when the session ends.
func (b *batcher) transact(session context.Context) error {
	if session.Err() != nil {
		return errOver
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(session), b.sink.cfg.TransactionTimeout)
	defer cancel()
	finished := context.AfterFunc(session, func() {
		grace := time.AfterFunc(b.sink.cfg.Grace, cancel)
		context.AfterFunc(ctx, func() { grace.Stop() })
	})
	defer finished()
	began := time.Now()
	err := b.sink.store.write(ctx, b.owner, b.topics.events, &b.batch, b.sendDead)
	b.sink.metrics.transaction.Observe(time.Since(began).Seconds())
	return err
}

// dayTime is when a day begins that is counted from 2000-01-01 UTC.
func dayTime(day int16) time.Time { return time.Unix((int64(day)+10957)*86400, 0).UTC() }
