package sink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"github.com/maxviazov/audittrail/internal/group"
	"github.com/maxviazov/audittrail/proto/event"
	"github.com/maxviazov/audittrail/proto/stream"
)

// batcher stores what one session of the group gets: one goroutine, one transaction at a time, for all partitions of this replica (small
// transactions cost twice). It lives as long as its session; after any doubt it ends the session and its memory goes with it (R11).
type batcher struct {
	sink    *Sink
	session *group.Session
	owner   [16]byte
	topic   [16]byte // audit-events
	log     zerolog.Logger
	queue   *queue
	done    chan struct{} // closed when the goroutine has ended

	// The goroutine's own.
	heads    map[int32]*head
	logs     []int16 // of heads, ascending
	dict     *dictionary
	batch    batch
	leaves   time.Time // day for which leaves were made last
	farthest event.ID  // greatest id for which they were
	probing  int       // batches for which ids are looked for before they are written

	mu   sync.Mutex
	seen map[int16]seen // what is stored, for the watch
}

var (
	errOver  = errors.New("session is over")
	errStale = errors.New("callback of an earlier session")
)

func newBatcher(s *Sink, session *group.Session, topic [16]byte) *batcher {
	return &batcher{sink: s, session: session, owner: uuid.New(), topic: topic, log: s.log, queue: newQueue(int64(2 * s.cfg.BatchBytes)),
		done: make(chan struct{}), dict: newDictionary(), seen: make(map[int16]seen)}
}

// start takes the heads over and starts the goroutine.
func (b *batcher) start(heads map[int32]*head) {
	b.heads = heads
	for log, h := range heads {
		b.logs = append(b.logs, int16(log))
		b.seen[int16(log)] = h.seen()
	}
	slices.Sort(b.logs)
	go b.run()
}

// run ends with the session. Every item that was accepted gets its commit called, as goka waits for it.
func (b *batcher) run() {
	defer close(b.done)
	err := b.loop()
	if b.session.Context().Err() == nil {
		b.session.End(err)
	}
	for _, it := range append(b.batch.items, b.queue.close()...) {
		it.commit(err)
	}
}

func (b *batcher) loop() error {
	ctx := b.session.Context()
	tick := time.NewTicker(b.sink.cfg.Tick)
	defer tick.Stop()
	for {
		idle, err := b.gather(ctx, tick.C)
		switch {
		case err != nil:
			return err
		case idle:
			err = b.check(ctx)
		default:
			err = b.flush(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// gather waits for items until the batch is large or old enough; what the last batch held back is its beginning. idle: nothing came until the tick.
func (b *batcher) gather(ctx context.Context, tick <-chan time.Time) (idle bool, err error) {
	b.batch.reset()
	held := len(b.batch.items)
	var deadline time.Time
	var age <-chan time.Time
	before := func(d time.Time) {
		if deadline.IsZero() || d.Before(deadline) {
			deadline, age, tick = d, time.After(time.Until(d)), nil
		}
	}
	if held > 0 {
		before(b.batch.items[0].arrived.Add(holdFor))
	}
	for {
		var full bool
		if b.batch.items, full = b.queue.pop(b.batch.items, b.sink.cfg.BatchRows, b.sink.cfg.BatchBytes); full {
			return false, nil
		}
		if len(b.batch.items) > held {
			before(b.batch.items[held].arrived.Add(b.sink.cfg.BatchAge))
		}
		select {
		case <-ctx.Done():
			return false, errOver
		case <-b.queue.wake:
		case <-age:
			return false, nil
		case <-tick:
			return true, nil
		}
	}
}

// check is the comparison of R11 when there is nothing to write: or a rollback of PostgreSQL would go unnoticed until there is.
func (b *batcher) check(ctx context.Context) error {
	if len(b.logs) == 0 {
		return nil
	}
	want := make([]seen, len(b.logs))
	for i, log := range b.logs {
		want[i] = b.heads[int32(log)].seen()
	}
	if err := compare(ctx, b.sink.store.db, b.owner, b.logs, want, false); err != nil {
		return fmt.Errorf("compare heads when idle: %w", err)
	}
	return nil
}

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
		if [16]byte(it.output.TopicId) != b.topic {
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
	if err := b.dict.fetch(ctx, b.sink.store.db); err != nil {
		return err
	}
	if b.probing > 0 {
		if err := b.probe(ctx); err != nil {
			return err
		}
		b.probing--
	}
	return b.extendLeaves(ctx, last)
}

// extendLeaves makes leaves once a day, and when an event is ahead of them.
func (b *batcher) extendLeaves(ctx context.Context, last event.ID) error {
	today := time.Now().UTC().Truncate(24 * time.Hour)
	if today.Equal(b.leaves) && last.Compare(b.farthest) <= 0 {
		return nil
	}
	if err := b.sink.store.extendLeaves(ctx, last); err != nil {
		return err
	}
	b.leaves = today
	// What was made reaches at least to the end of tomorrow, and of the event's day.
	b.farthest = event.LowerBound(today.Add(48 * time.Hour))
	if day := event.LowerBound(last.Time().Truncate(24 * time.Hour).Add(24 * time.Hour)); b.farthest.Compare(day) < 0 {
		b.farthest = day
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
		b.batch.encode(b.dict, dayNumber(time.Now()))
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
	err := b.sink.store.write(ctx, b.owner, b.topic, &b.batch, b.sendDead)
	b.sink.metrics.transaction.Observe(time.Since(began).Seconds())
	return err
}

// dayNumber is the day of a bundle that begins at t: days since 2000-01-01 UTC.
func dayNumber(t time.Time) int16 {
	return int16(t.Unix()/86400 - 10957)
}
