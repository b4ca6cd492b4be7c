package client

import (
	"context"
	"sync"
	"time"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// item is one event between Emit and its result.
type item struct {
	event    *audittrailv1.Event
	size     int
	since    time.Time // Emit
	delivery *Delivery
}

// itemOverhead is what an event takes in a request besides its encoded bytes, at most.
const itemOverhead = 8

// buffer holds the events that have no result: waiting ones, in order, and those in the hands of workers. Both count.
type buffer struct {
	maxEvents, maxBytes   int
	batchEvents, batchMax int
	linger, maxBlock      time.Duration
	mu                    sync.Mutex // guards all below
	waiting               []*item
	waitingBytes          int
	unresolved            map[*Delivery]struct{}
	bytes                 int // of all unresolved
	flushing              int // this many of waiting do not linger
	closed                bool
	changed               chan struct{} // closed and replaced when waiting grows, and when something is to be sent at once
	room                  chan struct{} // closed and replaced when there may be room again
}

func newBuffer(o *Options) *buffer {
	return &buffer{maxEvents: o.MaxBufferEvents, maxBytes: o.MaxBufferBytes, batchEvents: o.MaxBatchEvents, batchMax: o.MaxBatchBytes,
		linger: o.Linger, maxBlock: o.MaxBlock, unresolved: make(map[*Delivery]struct{}), changed: make(chan struct{}), room: make(chan struct{})}
}

// put adds an item, or waits for room.
func (b *buffer) put(ctx context.Context, i *item) error {
	var timeout <-chan time.Time
	for {
		room, err := b.try(i)
		if room == nil {
			return err
		}
		if b.maxBlock < 0 {
			return ErrBufferFull
		}
		if timeout == nil {
			t := time.NewTimer(b.maxBlock)
			defer t.Stop()
			timeout = t.C
		}
		select {
		case <-room:
		case <-timeout:
			return ErrBufferFull
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// try adds the item, or returns a channel that says when to try again.
func (b *buffer) try(i *item) (<-chan struct{}, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, ErrClosed
	}
	if len(b.unresolved) >= b.maxEvents || b.bytes+i.size > b.maxBytes {
		return b.room, nil
	}
	b.waiting = append(b.waiting, i)
	b.waitingBytes += i.size + itemOverhead
	b.unresolved[i.delivery] = struct{}{}
	b.bytes += i.size
	if len(b.waiting) == 1 || b.full() {
		notify(&b.changed)
	}
	return nil, nil
}

// full says that a whole batch is waiting.
func (b *buffer) full() bool { return len(b.waiting) >= b.batchEvents || b.waitingBytes >= b.batchMax }

// next waits for a batch: full, lingered, or flushed. Nil: ctx has ended, and nothing is waiting if shut was called before.
func (b *buffer) next(ctx context.Context) []*item {
	for {
		b.mu.Lock()
		var wait time.Duration
		if len(b.waiting) > 0 {
			wait = b.linger - time.Since(b.waiting[0].since)
			if wait <= 0 || b.flushing > 0 || b.closed || b.full() {
				batch := b.cut()
				b.mu.Unlock()
				return batch
			}
		}
		changed := b.changed
		b.mu.Unlock()

		if wait <= 0 {
			wait = time.Hour // nothing is waiting
		}
		lingered := time.NewTimer(wait)
		select {
		case <-changed:
		case <-lingered.C:
		case <-ctx.Done():
		}
		lingered.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// cut takes the first batch. The caller holds the lock.
func (b *buffer) cut() []*item {
	n, bytes := 0, 0
	for n < len(b.waiting) && n < b.batchEvents {
		size := b.waiting[n].size + itemOverhead
		if n > 0 && bytes+size > b.batchMax {
			break
		}
		bytes += size
		n++
	}
	batch := append([]*item(nil), b.waiting[:n]...)
	rest := copy(b.waiting, b.waiting[n:])
	clear(b.waiting[rest:])
	b.waiting = b.waiting[:rest]
	b.waitingBytes -= bytes
	b.flushing = max(0, b.flushing-n)
	if rest > 0 {
		notify(&b.changed) // another worker may take the next
	}
	return batch
}

// resolve sets the result of an item. It does so once: an item is in one hand at a time.
func (b *buffer) resolve(i *item, err error) {
	i.delivery.err = err
	close(i.delivery.done)
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.unresolved, i.delivery)
	b.bytes -= i.size
	notify(&b.room)
}

// flush makes what is waiting go at once, and returns all that have no result.
func (b *buffer) flush() []*Delivery {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.flushing = len(b.waiting)
	notify(&b.changed)
	all := make([]*Delivery, 0, len(b.unresolved))
	for d := range b.unresolved {
		all = append(all, d)
	}
	return all
}

// shut refuses new items; those waiting in put learn it.
func (b *buffer) shut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	notify(&b.changed)
	notify(&b.room)
}

// notify wakes all who wait on the channel.
func notify(c *chan struct{}) {
	close(*c)
	*c = make(chan struct{})
}
