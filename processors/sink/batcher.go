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
)

// batcher stores what one session of the group gets: one goroutine, one transaction at a time, for all partitions of this replica (small
// transactions cost twice). It lives as long as its session; after any doubt it ends the session and its memory goes with it (R11).
type batcher struct {
	sink    *Sink
	session *group.Session
	owner   [16]byte
	topics  topics // as they were when the session began
	log     zerolog.Logger
	queue   *queue
	done    chan struct{} // closed when the goroutine has ended

	// The goroutine's own.
	heads    map[int32]*head
	logs     []int16 // of heads, ascending
	dict     *dictionary
	batch    batch
	leaves   time.Time // day for which leaves were made last
	day      int16     // PostgreSQL's day then
	farthest event.ID  // greatest id for which they were
	probing  int       // batches for which ids are looked for before they are written

	mu   sync.Mutex
	seen map[int16]seen   // what is stored, for the watch
	gaps map[int16][]span // those that are open; replaced, never changed
}

var (
	errOver  = errors.New("session is over")
	errStale = errors.New("callback of an earlier session")
)

func newBatcher(s *Sink, session *group.Session, now topics) *batcher {
	return &batcher{sink: s, session: session, owner: uuid.New(), topics: now, log: s.log, queue: newQueue(int64(2 * s.cfg.BatchBytes)),
		done: make(chan struct{}), dict: newDictionary(), seen: make(map[int16]seen), gaps: make(map[int16][]span)}
}

// start takes the heads over and starts the goroutine.
func (b *batcher) start(heads map[int32]*head) {
	b.heads = heads
	for log, h := range heads {
		b.logs = append(b.logs, int16(log))
		b.seen[int16(log)], b.gaps[int16(log)] = h.seen(), h.gaps.spans()
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
	if len(b.logs) == 0 || noIdleTick {
		return nil
	}
	want := make([]seen, len(b.logs))
	for i, log := range b.logs {
		want[i] = b.heads[int32(log)].seen()
	}
	if err := compare(ctx, b.sink.store.db, b.owner, b.logs, want, false); err != nil {
		return fmt.Errorf("compare heads when idle: %w", err)
	}
	if err := compareBounds(ctx, b.sink.store.db, b.logs, func(i int) event.ID { return b.heads[int32(b.logs[i])].bound }); err != nil {
		return fmt.Errorf("compare bounds when idle: %w", err)
	}
	return nil
}
