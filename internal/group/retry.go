package group

import (
	"context"
	"time"
)

// retries is a doubling back-off between min and max.
type retries struct {
	min, max time.Duration
	count    int // since reset
}

func (r *retries) reset() { r.count = 0 }

// next is min, 2·min, … max.
func (r *retries) next() time.Duration {
	d := r.min << min(r.count, 20)
	r.count++
	return min(d, r.max)
}

// nextAfterFree is the same, but 0 the first time.
func (r *retries) nextAfterFree() time.Duration {
	if r.count == 0 {
		r.count++
		return 0
	}
	d := r.min << min(r.count-1, 20)
	r.count++
	return min(d, r.max)
}

// sleep reports false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
