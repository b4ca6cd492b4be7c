package sink

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"
)

// queue is between the callbacks and the batcher. It is bounded by bytes: when PostgreSQL is slow the callbacks wait, so goka stops fetching, so the
// data stays in Kafka.
type queue struct {
	budget *semaphore.Weighted
	limit  int64
	wake   chan struct{} // has a value when items came

	mu     sync.Mutex
	items  []*item // in the order of each partition
	closed bool
}

func newQueue(limit int64) *queue {
	return &queue{budget: semaphore.NewWeighted(limit), limit: limit, wake: make(chan struct{}, 1)}
}

func (q *queue) cost(it *item) int64 { return min(int64(it.bytes)+256, q.limit) }

// put waits for room. It reports false when the queue is closed or ctx is done; the item is the caller's again.
func (q *queue) put(ctx context.Context, it *item) bool {
	if q.budget.Acquire(ctx, q.cost(it)) != nil {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	q.items = append(q.items, it)
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return true
}

// pop appends the oldest items to dst until it holds `rows` records or `bytes` bytes, and at least one if there is one. full says that the limit
// was reached.
func (q *queue) pop(dst []*item, rows, bytes int) (items []*item, full bool) {
	for _, it := range dst {
		rows, bytes = rows-it.rows(), bytes-it.bytes
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for n < len(q.items) && rows > 0 && bytes > 0 {
		rows, bytes = rows-q.items[n].rows(), bytes-q.items[n].bytes
		n++
	}
	dst = append(dst, q.items[:n]...)
	rest := copy(q.items, q.items[n:])
	clear(q.items[rest:])
	q.items = q.items[:rest]
	return dst, rows <= 0 || bytes <= 0
}

// done gives the room of items back.
func (q *queue) done(items []*item) {
	var n int64
	for _, it := range items {
		n += q.cost(it)
	}
	q.budget.Release(n)
}

// close makes put report false, and returns what is left.
func (q *queue) close() []*item {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	rest := q.items
	q.items = nil
	return rest
}
