package sink

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/maxviazov/audittrail/proto/stream"
)

// loadOf is outputs with everything that may be in them but gaps: records, retries, conflicts, drops, dead letters, splits, repetitions.
func loadOf(t *testing.T, rng *rand.Rand, log int32, messages int) (items []*item) {
	t.Helper()
	offset := int64(0)
	emit := func(from, end slot, fill func(o *slotFiller)) {
		o := newOutput(from, end)
		first, last := uint32(0), uint32(100)
		if from.offset == o.Offset {
			first = from.index
		}
		if end.index > 0 {
			last = end.index
		}
		f := &slotFiller{}
		fill(f)
		for i := first; i < last; i++ {
			switch e := f.events[i]; e[0] {
			case '!':
				o.DeadLetters = append(o.DeadLetters, letter(i, e[1:]))
			case '-':
				d := parseOutput(t, "0.0-1.0: drop("+e[1:]+")").Drops[0]
				d.Index = i
				o.Drops = append(o.Drops, d)
			default:
				o.Records = append(o.Records, testRecord(i, testEvent(e)))
			}
		}
		it, err := newItem(log, offset, stream.EncodeRecords(o))
		if err != nil || it.output == nil {
			t.Fatal(err, it.malformed)
		}
		offset++
		items = append(items, it)
	}
	for m := range int64(messages) {
		var f slotFiller
		for i := range f.events {
			switch r := rng.IntN(40); {
			case r == 0:
				f.events[i] = "!INVALID_EVENT"
			case r == 1 && m > 0:
				f.events[i] = fmt.Sprintf("-%d.%d", rng.Int64N(m), rng.IntN(100))
			case r == 2 && m > 0:
				f.events[i] = fmt.Sprintf("K%d-%d-%d", log, rng.Int64N(m), rng.IntN(100))
			case r == 3 && m > 0:
				f.events[i] = fmt.Sprintf("k%d-%d-%d", log, rng.Int64N(m), rng.IntN(100))
			default:
				f.events[i] = fmt.Sprintf("K%d-%d-%d", log, m, i)
			}
		}
		fill := func(o *slotFiller) { *o = f }
		if rng.IntN(5) == 0 {
			cut := slot{m, 1 + uint32(rng.IntN(99))}
			emit(slot{m, 0}, cut, fill)
			emit(cut, slot{m + 1, 0}, fill)
			continue
		}
		emit(slot{m, 0}, slot{m + 1, 0}, fill)
		if rng.IntN(10) == 0 {
			emit(slot{m, 0}, slot{m + 1, 0}, fill)
		}
	}
	return items
}

type slotFiller struct{ events [100]string }

// ending is what two ways of batching must agree on.
type ending struct {
	next                          slot
	position, size                int64
	frontier                      string
	records, retries, drops, dead int64
}

// store stores the items in batches of the given size, holding what plan holds, and at last everything.
// starts are the starts of the input log as they are read for an item; 0 otherwise.
func storeAll(t *testing.T, logs [][]*item, starts map[*item]int64, perBatch func() int) (ends []ending, tails int) {
	t.Helper()
	m := newMemory(t)
	heads := make([]*head, len(logs))
	ends = make([]ending, len(logs))
	queues := slices.Clone(logs)
	for i := range heads {
		heads[i] = &head{log: int16(i)}
	}
	var b batch
	var held []*item
	for last := false; ; {
		b.reset()
		b.items = append(b.items[:0], held...)
		for i := range queues {
			n := min(perBatch(), len(queues[i]))
			b.items, queues[i] = append(b.items, queues[i][:n]...), queues[i][n:]
		}
		if len(b.items) == len(held) {
			if last = true; len(held) == 0 {
				break
			}
		}
		for _, it := range b.items {
			it.arrived = time.Now()
			if last {
				it.arrived = time.Now().Add(-holdFor)
			}
			if h := heads[it.partition]; it.offset >= h.position {
				h.fold(it, starts[it], &b.log(h).folded)
			}
		}
		for _, l := range b.logs {
			b.rows += len(l.decisions)
		}
		m.save(&b)
		tails += b.out.tail.n
		for _, l := range b.logs {
			l.committed()
			e := &ends[l.head.log]
			e.records, e.retries, e.drops, e.dead = e.records+l.records, e.retries+l.retries, e.drops+l.dropped, e.dead+l.dead
		}
		held = nil
		for _, it := range b.items {
			if it.offset >= heads[it.partition].position {
				held = append(held, it)
			}
		}
	}
	for i, h := range heads {
		ends[i].next, ends[i].position, ends[i].size, ends[i].frontier = h.next, h.position, h.state.size, string(h.state.frontier)
	}
	return ends, tails
}

// TestBatchesDoNotShowInTheLog: whatever the batches, and whether something is held back or not, log, counters and position come out the same.
func TestBatchesDoNotShowInTheLog(t *testing.T) {
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 3))
		logs := [][]*item{loadOf(t, rng, 0, 120), loadOf(t, rng, 1, 80), loadOf(t, rng, 2, 30)}
		one, many := func() int { return 1 }, func() int { return 4 + rng.IntN(8) }
		want, tails := storeAll(t, logs, nil, one)
		have, fewer := storeAll(t, logs, nil, many)
		if !slices.Equal(have, want) {
			t.Errorf("seed %d: in large batches\n%+v\none by one\n%+v", seed, have, want)
		}
		if want[0].retries == 0 || want[0].drops == 0 || want[0].dead == 0 {
			t.Fatalf("the load has too little in it: %+v", want[0])
		}
		if fewer > tails/4 {
			t.Errorf("seed %d: %d rows in the tail (one by one: %d): nothing was held back", seed, fewer, tails)
		}
	}
}

// TestLateFillsAreNotHeld: the ledger forgets a gap when it is filled, so what fills it must be stored with that (R12).
func TestLateFillsAreNotHeld(t *testing.T) {
	var items []*item
	for i, m := range []int64{2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 1, 0} {
		o := newOutput(slot{m, 0}, slot{m + 1, 0})
		for e := range uint32(100) {
			o.Records = append(o.Records, testRecord(e, testEvent(fmt.Sprintf("K%d-%d", m, e))))
		}
		it, err := newItem(0, int64(i), stream.EncodeRecords(o))
		if err != nil || it.output == nil {
			t.Fatal(err, it.malformed)
		}
		items = append(items, it)
	}
	starts := map[*item]int64{items[0]: 2} // messages 0 and 1 are lost, but for what was read of them before
	one, all := func() int { return 1 }, func() int { return len(items) }
	want, _ := storeAll(t, [][]*item{items}, starts, one)
	have, _ := storeAll(t, [][]*item{items}, starts, all)
	if !slices.Equal(have, want) || want[0].records != 1400 || want[0].size != 1401 {
		t.Errorf("at once\n%+v\none by one\n%+v", have, want)
	}
}
