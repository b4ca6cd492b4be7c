package enricher

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/maxviazov/audittrail/proto/event"
)

func testID(n uint64) (id event.ID) {
	binary.BigEndian.PutUint64(id[8:], n*0x9e3779b97f4a7c15)
	binary.BigEndian.PutUint64(id[:8], n)
	return id
}

// modelWindow is the window in the simplest form: entries in order of arrival.
type modelWindow struct {
	maxAge, now int64
	maxSize     int
	entries     []entry
}

func (m *modelWindow) find(id event.ID) *entry {
	for i := range m.entries {
		if m.entries[i].id == id {
			return &m.entries[i]
		}
	}
	return nil
}

func (m *modelWindow) add(e entry) {
	if old := m.find(e.id); old != nil {
		if e.first.before(old.first) {
			at := max(old.at, e.at)
			*old = e
			old.at = at
		}
		return
	}
	if len(m.entries) >= m.maxSize {
		m.entries = m.entries[1:]
	}
	m.entries = append(m.entries, e)
}

func (m *modelWindow) advance(now int64) {
	m.now = max(m.now, now)
	for len(m.entries) > 0 && m.entries[0].at < m.now-m.maxAge {
		m.entries = m.entries[1:]
	}
}

// TestWindowAgainstModel: smallest slot on merge (R6), eviction by age and by count, whatever the order of operations.
func TestWindowAgainstModel(t *testing.T) {
	for seed := range uint64(30) {
		runWindow(t, rand.New(rand.NewPCG(seed, 1)), 4000)
	}
}

func runWindow(t *testing.T, r *rand.Rand, steps int) {
	t.Helper()
	size := 1 + r.IntN(300)
	m := &modelWindow{maxAge: int64(10 + r.IntN(500)), maxSize: size}
	w := newWindow(m.maxAge, size)
	now := int64(0)
	for step := range steps {
		id := testID(r.Uint64N(600))
		switch r.IntN(10) {
		case 0:
			now += r.Int64N(20)
			w.advance(now)
			m.advance(now)
		case 1, 2, 3, 4, 5:
			e := entry{id: id, fingerprint: r.Uint64(), first: slot{r.Int64N(1000), r.Uint32N(3)}, at: now - r.Int64N(5)}
			w.add(e)
			m.add(e)
		}
		got, want := w.find(id), m.find(id)
		if (got == nil) != (want == nil) || got != nil && *got != *want {
			t.Fatalf("step %d: find gives %+v, the model %+v", step, got, want)
		}
		if w.len() != len(m.entries) {
			t.Fatalf("step %d: %d entries, the model has %d", step, w.len(), len(m.entries))
		}
	}
	all := make([]entry, size)
	if n, _ := w.copyRange(0, all); n != len(m.entries) {
		t.Fatalf("copyRange gives %d entries of %d", n, len(m.entries))
	}
	for i := range m.entries {
		if all[i] != m.entries[i] {
			t.Fatalf("entry %d in order is %+v, the model's %+v", i, all[i], m.entries[i])
		}
	}
}

func FuzzWindow(f *testing.F) {
	f.Add(uint64(1), uint64(2))
	f.Fuzz(func(t *testing.T, a, b uint64) { runWindow(t, rand.New(rand.NewPCG(a, b)), 500) })
}

// TestWindowMemory: 72 bytes an id when the window is full, as Config says.
func TestWindowMemory(t *testing.T) {
	w := newWindow(1000, 1<<16)
	for i := range uint64(200_000) {
		w.add(entry{id: testID(i)})
	}
	entryBytes := int(unsafe.Sizeof(entry{}))
	if size := len(w.ring)*entryBytes + len(w.index)*4; w.len() != 1<<16 || size != 72<<16 {
		t.Errorf("%d ids in %d bytes, want %d in %d", w.len(), size, 1<<16, 72<<16)
	}
}
