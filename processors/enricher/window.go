package enricher

import (
	"encoding/binary"
	"math/rand/v2"

	"github.com/maxviazov/audittrail/processors/enricher/table"
	"github.com/maxviazov/audittrail/proto/event"
)

// slot is the place of an event in audit-events: offset and index in the message.
type slot struct {
	offset int64
	index  uint32
}

func (s slot) before(t slot) bool {
	return s.offset < t.offset || s.offset == t.offset && s.index < t.index
}

// entry is what the window knows of an id (R6). It has no pointers: a million of them cost the garbage
// collector nothing.
type entry struct {
	id          event.ID
	fingerprint uint64
	first       slot
	at          int64 // milliseconds; when the message of first was appended
	enrichment  [table.EnrichmentSize]byte
}

// window is the dedup window of one partition: id → first slot, in order of arrival, bounded by age and by
// count. Its clock is the time at which the broker appended the messages (stream time), not when the events
// happened nor when they are processed: an import of old events is deduplicated like anything else, and a
// replay evicts what the first run evicted.
//
// Entries stand in a ring, 72 bytes each; an open-addressing index of 4 bytes a place, at most half full,
// finds them. Forgetting an entry is always safe: the store's unique key is the backstop.
type window struct {
	maxAge  int64 // milliseconds
	maxSize int

	ring  []entry  // a power of two; grows with the content
	head  uint64   // number of the oldest entry; entry n stands at ring[n % len(ring)]
	tail  uint64   // number of the next entry
	index []uint32 // place in the ring + 1; 0: free. Twice as long as the ring
	seed  uint64   // so that nobody can choose ids that fall on one place
	now   int64    // stream time in milliseconds: the greatest seen
}

const minRing = 1 << 6

func newWindow(maxAgeMs int64, maxSize int) *window {
	return &window{maxAge: maxAgeMs, maxSize: maxSize, seed: rand.Uint64(), ring: make([]entry, minRing), index: make([]uint32, 2*minRing)}
}

func (w *window) len() int { return int(w.tail - w.head) }

func (w *window) mask() uint64 { return uint64(len(w.ring) - 1) }

// place is where the search for an id begins. The second half of an id comes from SHA-256.
func (w *window) place(id *event.ID) uint64 {
	h := (binary.LittleEndian.Uint64(id[8:]) ^ w.seed) * 0x9e3779b97f4a7c15
	return h >> 32 & uint64(len(w.index)-1)
}

// find returns the entry of an id, or nil. It is valid until the next change.
func (w *window) find(id event.ID) *entry {
	for p := w.place(&id); ; p = (p + 1) & uint64(len(w.index)-1) {
		n := w.index[p]
		if n == 0 {
			return nil
		}
		if e := &w.ring[n-1]; e.id == id {
			return e
		}
	}
}

// add merges an entry: of two of one id the smaller slot stays. When the broker's clock has jumped back, its age counts from the greatest time
// seen, as the clock stands there: else the window would forget everything at once until the broker's clock has caught up.
func (w *window) add(e entry) {
	e.at = max(e.at, w.now)
	if old := w.find(e.id); old != nil {
		if e.first.before(old.first) {
			at := max(old.at, e.at)
			*old = e
			old.at = at
		}
		return
	}
	if w.len() >= w.maxSize {
		w.evictOldest()
	}
	if w.len() == len(w.ring) {
		w.grow()
	}
	at := w.tail & w.mask()
	w.ring[at] = e
	w.tail++
	w.insert(uint32(at))
}

// advance moves the clock and evicts what has become too old.
func (w *window) advance(now int64) {
	w.now = max(w.now, now)
	for w.head < w.tail && w.ring[w.head&w.mask()].at < w.now-w.maxAge {
		w.evictOldest()
	}
}

func (w *window) insert(at uint32) {
	p := w.place(&w.ring[at].id)
	for w.index[p] != 0 {
		p = (p + 1) & uint64(len(w.index)-1)
	}
	w.index[p] = at + 1
}

// evictOldest removes the entry at the head, and closes the hole in the index (Knuth, algorithm 6.4R).
func (w *window) evictOldest() {
	at := uint32(w.head & w.mask())
	w.head++
	m := uint64(len(w.index) - 1)
	p := w.place(&w.ring[at].id)
	for w.index[p] != at+1 {
		p = (p + 1) & m
	}
	for next := (p + 1) & m; w.index[next] != 0; next = (next + 1) & m {
		// The entry at next may move to p when its search begins at or before p.
		if home := w.place(&w.ring[w.index[next]-1].id); (next-home)&m >= (next-p)&m {
			w.index[p] = w.index[next]
			p = next
		}
	}
	w.index[p] = 0
}

func (w *window) grow() {
	ring := make([]entry, 2*len(w.ring))
	for n := w.head; n < w.tail; n++ {
		ring[n&uint64(len(ring)-1)] = w.ring[n&w.mask()]
	}
	w.ring = ring
	w.index = make([]uint32, 2*len(ring))
	for n := w.head; n < w.tail; n++ {
		w.insert(uint32(n & w.mask()))
	}
}

// copyRange copies entries from number n on into dst, oldest first, and returns how many and the number that
// follows. A snapshot reads the window in pieces with it.
func (w *window) copyRange(n uint64, dst []entry) (int, uint64) {
	n = max(n, w.head)
	i := 0
	for ; i < len(dst) && n < w.tail; i++ {
		dst[i] = w.ring[n&w.mask()]
		n++
	}
	return i, n
}
