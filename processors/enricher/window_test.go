package enricher

import (
	"encoding/binary"
	"slices"
	"testing"
	"unsafe"

	"pgregory.net/rapid"

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
	e.at = max(e.at, m.now)
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

// windowIsTheModel: smallest slot on merge (R6), eviction by age and by count, whatever the order of operations.
func windowIsTheModel(t *rapid.T) {
	size := rapid.IntRange(1, 300).Draw(t, "size")
	m := &modelWindow{maxAge: rapid.Int64Range(1, 60).Draw(t, "age"), maxSize: size}
	w := newWindow(m.maxAge, size)
	now := int64(0)
	ids := rapid.Uint64Range(0, 400)
	look := func(id uint64) {
		got, want := w.find(testID(id)), m.find(testID(id))
		if (got == nil) != (want == nil) || got != nil && *got != *want {
			t.Fatalf("find %d gives %+v, the model %+v", id, got, want)
		}
	}
	t.Repeat(map[string]func(*rapid.T){
		"add": func(t *rapid.T) {
			from, n := ids.Draw(t, "first id"), rapid.Uint64Range(1, 100).Draw(t, "ids")
			at := slot{rapid.Int64Range(0, 5).Draw(t, "offset"), rapid.Uint32Range(0, 2).Draw(t, "index")}
			late := rapid.Int64Range(0, 4).Draw(t, "late")
			for id := from; id < from+n; id++ {
				e := entry{id: testID(id), fingerprint: id ^ uint64(at.offset), first: at, at: now - late}
				w.add(e)
				m.add(e)
			}
		},
		"advance": func(t *rapid.T) {
			now += rapid.Int64Range(-3, 20).Draw(t, "by")
			w.advance(now)
			m.advance(now)
		},
		"find": func(t *rapid.T) { look(ids.Draw(t, "id")) },
		"": func(*rapid.T) {
			if w.len() != len(m.entries) {
				t.Fatalf("%d entries, the model has %d", w.len(), len(m.entries))
			}
		},
	})
	for id := range uint64(500) {
		look(id)
	}
	all := make([]entry, size)
	if n, _ := w.copyRange(0, all); n != len(m.entries) || !slices.Equal(all[:n], m.entries) {
		t.Fatalf("in order %+v, the model has %+v", all[:n], m.entries)
	}
}

func TestWindowAgainstModel(t *testing.T) { rapid.Check(t, windowIsTheModel) }

func FuzzWindow(f *testing.F) { f.Fuzz(rapid.MakeFuzz(windowIsTheModel)) }

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
