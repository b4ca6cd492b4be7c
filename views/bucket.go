package views

import (
	"sync"
	"time"
)

// buckets are token buckets by name, in memory. At most maxBuckets are kept: beyond, those that are full again are dropped, since a
// full bucket is the same as none, and then the rest, which forgives somebody a little.
type buckets struct {
	rate, burst float64

	mu  sync.Mutex
	all map[string]bucket
}

// bucket had so many tokens at a time.
type bucket struct {
	tokens float64
	at     time.Time
}

const maxBuckets = 10_000

func newBuckets(rate, burst float64) *buckets {
	return &buckets{rate: rate, burst: burst, all: make(map[string]bucket)}
}

// take takes a token, or says how long to wait for one.
func (b *buckets) take(name string, now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	tokens := b.tokens(b.all[name], now)
	if tokens < 1 {
		return max(time.Duration((1-tokens)/b.rate*float64(time.Second)), 1)
	}
	if _, known := b.all[name]; !known && len(b.all) >= maxBuckets {
		b.prune(now)
	}
	b.all[name] = bucket{tokens - 1, now}
	return 0
}

// tokens of a bucket by now; the zero bucket is full.
func (b *buckets) tokens(of bucket, now time.Time) float64 {
	if of.at.IsZero() {
		return b.burst
	}
	return min(b.burst, of.tokens+max(0, now.Sub(of.at).Seconds())*b.rate)
}

// prune needs mu.
func (b *buckets) prune(now time.Time) {
	for name, of := range b.all {
		if b.tokens(of, now) >= b.burst {
			delete(b.all, name)
		}
	}
	if len(b.all) >= maxBuckets {
		clear(b.all)
	}
}
