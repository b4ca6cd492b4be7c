package views

import (
	"container/list"
	"sync"
)

// lru keeps the values used last, within a budget of bytes. It is safe for concurrent use; values must not change any more.
type lru[K comparable, V any] struct {
	budget int64

	mu    sync.Mutex
	bytes int64
	order *list.List // of *lruEntry, the one used last in front
	items map[K]*list.Element
}

type lruEntry[K comparable, V any] struct {
	key   K
	value V
	bytes int64
}

// entryOverhead is about what the list, the map and the entry cost themselves.
const entryOverhead = 160

func newLRU[K comparable, V any](budget int64) *lru[K, V] {
	return &lru[K, V]{budget: budget, order: list.New(), items: make(map[K]*list.Element)}
}

func (c *lru[K, V]) get(key K) (value V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	element, ok := c.items[key]
	if !ok {
		return value, false
	}
	c.order.MoveToFront(element)
	return element.Value.(*lruEntry[K, V]).value, true
}

// put keeps a value of so many bytes, unless it alone is over the budget.
func (c *lru[K, V]) put(key K, value V, bytes int64) {
	bytes += entryOverhead
	if bytes > c.budget {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if element, ok := c.items[key]; ok {
		c.remove(element)
	}
	c.items[key] = c.order.PushFront(&lruEntry[K, V]{key, value, bytes})
	for c.bytes += bytes; c.bytes > c.budget; {
		c.remove(c.order.Back())
	}
}

// remove needs mu.
func (c *lru[K, V]) remove(element *list.Element) {
	entry := c.order.Remove(element).(*lruEntry[K, V])
	delete(c.items, entry.key)
	c.bytes -= entry.bytes
}

func (c *lru[K, V]) size() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}
