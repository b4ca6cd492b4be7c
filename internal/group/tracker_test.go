package group

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestTracker: r registers, c completes; capital letters do so when the session's context is over; "=n" is the position
// expected to be marked by what stands before it.
func TestTracker(t *testing.T) {
	for name, steps := range map[string][]string{
		"in order":                   {"r5", "c5", "=6", "r6", "c6", "=7"},
		"out of order":               {"r5", "r6", "r7", "c7", "c6", "c5", "=8"},
		"hole is stepped over":       {"r5", "r9", "c5", "=6", "c9", "=10"},
		"hole is not first":          {"r5", "r9", "c9", "c5", "=10"},
		"unfinished stays":           {"r5", "r6", "r7", "c5", "=6", "c7"},
		"twice finished":             {"r5", "r6", "c5", "=6", "c5", "c6", "=7"},
		"delivered twice":            {"r5", "r6", "r5", "c5", "=6", "c6", "=7"},
		"nil value, never begun":     {"r5", "c6", "c5", "=7"},
		"nil value, alone":           {"c6", "=7", "c7", "=8"},
		"over: the last is doubtful": {"r5", "r6", "C5", "=6", "C6"},
		"over: so is what follows":   {"r5", "r6", "R7", "C7", "C6", "C5", "=6"},
		"over: nothing was begun":    {"R7", "C7"},
	} {
		t.Run(name, func(t *testing.T) {
			tr := newTracker()
			marked, want := []int64{}, []int64{}
			for _, s := range steps {
				var n int64
				if _, err := fmt.Sscan(s[1:], &n); err != nil {
					t.Fatal(err)
				}
				switch s[0] {
				case 'r', 'R':
					tr.register(n, s[0] == 'R')
				case 'c', 'C':
					tr.complete(n, s[0] == 'C', func(next int64, _ string) { marked = append(marked, next) })
				case '=':
					want = append(want, n)
				}
			}
			if !slices.Equal(marked, want) {
				t.Errorf("marked %v, want %v", marked, want)
			}
		})
	}
}

// TestTrackerAgainstModel finishes random messages of a log with holes in random order and compares each mark with the
// definition.
func TestTrackerAgainstModel(t *testing.T) {
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		tr := newTracker()
		done := map[int64]bool{}
		var registered, open []int64
		offset, marked := int64(0), int64(-1)
		for range 5000 {
			if len(open) == 0 || rnd.IntN(2) == 0 && len(open) < 3000 {
				offset += 1 + int64(rnd.IntN(3))
				tr.register(offset, false)
				registered, open = append(registered, offset), append(open, offset)
				continue
			}
			i := rnd.IntN(len(open))
			o := open[i]
			open = slices.Delete(open, i, i+1)
			done[o] = true
			tr.complete(o, false, func(next int64, _ string) { marked = next })
			want := int64(-1)
			for len(registered) > 0 && done[registered[0]] {
				want = registered[0] + 1
				registered = registered[1:]
			}
			if want >= 0 && marked != want || want < 0 && marked >= 0 && len(registered) > 0 && marked > registered[0] {
				t.Fatalf("seed %d: marked %d, want %d", seed, marked, want)
			}
		}
		if len(tr.queue) > 16384 {
			t.Errorf("queue of %d entries for %d in flight", len(tr.queue), len(open))
		}
	}
}

func BenchmarkTracker(b *testing.B) {
	tr := newTracker()
	mark := func(int64, string) {}
	b.ReportAllocs()
	for i := range int64(b.N) {
		tr.register(i, false)
		if i >= 512 {
			tr.complete(i-512, false, mark)
		}
	}
}
