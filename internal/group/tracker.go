package group

import (
	"math"
	"slices"
	"sync"
)

// pending is one delivered message. An offset takes 8 bytes, so a partition with 100,000 messages in flight costs 1.6 MB.
type pending struct {
	offset int64
	done   bool
}

// tracker knows which delivered messages of one partition in one session are finished.
//
// goka starts the callbacks of a partition one after the other in the order of offsets, so register is called in order;
// complete comes from any goroutine in any order. If the process dies, all of this is forgotten, and the messages behind
// the last commit are delivered again.
type tracker struct {
	mu       sync.Mutex // guards everything below, and the order of calls to mark
	queue    []pending  // queue[head:] are the unfinished prefix and what follows it, ascending
	head     int
	last     int64  // highest registered offset, -1 before the first
	next     int64  // what was last marked or set: the offset to be delivered first after a restart; -1 when unknown
	limit    int64  // offsets from here on are never finished; set when the session's context is over
	metadata string // goes with every commit
}

func newTracker() *tracker {
	return &tracker{last: -1, next: -1, limit: math.MaxInt64}
}

// register notes that a callback starts. over says that the context of the callback is done already.
func (t *tracker) register(offset int64, over bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if over {
		t.close()
	}
	if offset <= t.last {
		return // delivered again in the same session: the first registration stands for both
	}
	t.last = offset
	t.queue = append(t.queue, pending{offset: offset})
}

// complete notes that a message is finished, and calls mark (while locked, so that marks are in order) with the new
// position when the finished prefix grew. It reports whether it did.
func (t *tracker) complete(offset int64, over bool, mark func(next int64, metadata string)) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if over {
		t.close()
	}
	if offset >= t.limit {
		return false
	}
	if maxWinsCommits {
		mark(offset+1, t.metadata)
		return true
	}
	live := t.queue[t.head:]
	if offset > t.last {
		// goka commits a nil value without a callback (NilIgnore), on the goroutine that starts the callbacks: it is in
		// order, registered and finished at once.
		t.last = offset
		t.queue = append(t.queue, pending{offset: offset, done: true})
	} else {
		i, found := slices.BinarySearchFunc(live, offset, func(p pending, o int64) int {
			switch {
			case p.offset < o:
				return -1
			case p.offset > o:
				return 1
			}
			return 0
		})
		if !found {
			return false // finished before
		}
		live[i].done = true
	}
	return t.advance(mark)
}

// advance pops the finished prefix.
func (t *tracker) advance(mark func(next int64, metadata string)) bool {
	head := t.head
	for t.head < len(t.queue) && t.queue[t.head].done {
		t.head++
	}
	if t.head == head {
		return false
	}
	t.next = t.queue[t.head-1].offset + 1
	mark(t.next, t.metadata)
	switch {
	case t.head == len(t.queue):
		t.queue, t.head = t.queue[:0], 0
	case t.head >= 1024 && t.head*2 >= len(t.queue):
		n := copy(t.queue, t.queue[t.head:])
		t.queue, t.head = t.queue[:n], 0
	}
	return true
}

// close is called once the session's context is over: the message registered last may still be in its callback, or have
// been in it when the context ended, and then a Fail in it did not stop it. It and all later ones count as unfinished.
func (t *tracker) close() {
	if t.limit == math.MaxInt64 {
		t.limit = t.last
	}
}
