package views

import (
	"fmt"
	"testing"
	"time"
)

func TestBucket(t *testing.T) {
	now := time.Now()
	b := newBuckets(10, 3)
	for i := range 3 {
		if wait := b.take("a", now); wait != 0 {
			t.Fatalf("token %d: wait %v", i, wait)
		}
	}
	if wait := b.take("a", now); wait != 100*time.Millisecond {
		t.Errorf("empty: wait %v", wait)
	}
	if wait := b.take("b", now); wait != 0 {
		t.Errorf("another's: wait %v", wait)
	}
	if wait := b.take("a", now.Add(-time.Hour)); wait != 100*time.Millisecond {
		t.Errorf("clock set back: wait %v", wait)
	}
	if wait := b.take("a", now.Add(110*time.Millisecond)); wait != 0 {
		t.Errorf("after a while: wait %v", wait)
	}
	for i := range 3 {
		if wait := b.take("a", now.Add(time.Hour)); wait != 0 {
			t.Errorf("full again, token %d: wait %v", i, wait)
		}
	}
	if b.take("a", now.Add(time.Hour)) == 0 {
		t.Error("it holds more than its burst")
	}
}

func TestBucketsAreBounded(t *testing.T) {
	now := time.Now()
	b := newBuckets(1, 2)
	for i := range 3*maxBuckets + 7 {
		b.take(fmt.Sprint(i), now)
		if len(b.all) > maxBuckets {
			t.Fatalf("%d buckets", len(b.all))
		}
	}
	b = newBuckets(1, 2)
	b.take("empty", now)
	b.take("empty", now)
	for i := range maxBuckets - 1 {
		b.take(fmt.Sprint(i), now)
	}
	b.take("one more", now.Add(1100*time.Millisecond)) // by now all but the empty one are full
	if len(b.all) != 2 {
		t.Errorf("%d buckets left", len(b.all))
	}
	if wait := b.take("empty", now.Add(100*time.Millisecond)); wait == 0 {
		t.Error("an empty bucket was dropped though full ones were there to drop")
	}
}
