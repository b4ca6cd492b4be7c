package emitters

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maxviazov/audittrail/proto/stream"
)

// packer groups pieces by source into messages and decides when a message goes out:
//
//   - nothing of the source is in flight: at once;
//   - otherwise when the last message in flight is resolved, when the next piece would not fit, or after linger, whichever is first.
//
// So an idle source pays no latency and a busy one packs as much as arrives during a round trip. A source has a lane only while it has
// something open or in flight; the budget bounds how many that are.
type packer struct {
	ready chan struct{} // has a token when queue is not empty

	mu     sync.Mutex // guards all below, and lanes and messages until they are in the queue
	linger time.Duration
	lanes  map[string]*lane
	// queue holds sealed messages in the order in which they were sealed, for the sender.
	queue []*message
	// open holds messages in the order of their deadlines; some are sealed already.
	open  []*message
	timer *time.Timer // runs expire at the deadline of open[0]
	// unresolved counts sealed messages that are not resolved; drained is closed when it is 0, if somebody waits.
	unresolved int
	drained    chan struct{}
}

// lane is one source that has something open or in flight.
type lane struct {
	source   string
	open     *message // nil: none
	inFlight int      // messages sealed and not resolved
}

// message becomes one Kafka message.
type message struct {
	lane     *lane
	pieces   []*piece
	events   int
	bytes    int
	sealed   bool
	deadline time.Time
	sealedAt time.Time
}

// piece is what one call adds to one message: encoded frames of EventBatch behind room for the envelope.
type piece struct {
	waiter waiter
	buf    *[]byte
	events int
	cost   int64 // in the budget
	state  atomic.Int32
}

// waiter learns what became of a piece. resolved runs on the producer's goroutine: it must not block.
type waiter interface{ resolved(p *piece) }

// States of a piece. They only move away from pending, before the waiter is told.
const (
	statePending int32 = iota
	stateAcked
	stateFailed
)

func newPacker(linger time.Duration) *packer {
	return &packer{linger: linger, ready: make(chan struct{}, 1), lanes: make(map[string]*lane)}
}

// add takes a piece of at most stream.MaxBatchEvents events whose buffer is at most stream.MaxBatchBytes.
func (p *packer) add(source string, piece *piece) {
	now := time.Now()
	payload := len(*piece.buf) - len(batchHeader)
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.lanes[source]
	if l == nil {
		// The source may point into a request of 4 MiB, which would live as long as the lane.
		l = &lane{source: strings.Clone(source)}
		p.lanes[l.source] = l
	}
	m := l.open
	if m != nil && (m.events+piece.events > stream.MaxBatchEvents || m.bytes+payload > stream.MaxBatchBytes) {
		p.seal(m, now)
		m = nil
	}
	if m == nil {
		m = &message{lane: l, bytes: len(batchHeader), deadline: now.Add(p.linger)}
		l.open = m
	}
	m.pieces = append(m.pieces, piece)
	m.events += piece.events
	m.bytes += payload
	switch {
	case l.inFlight == 0 || p.linger <= 0 || m.events == stream.MaxBatchEvents:
		p.seal(m, now)
	case len(m.pieces) == 1:
		p.await(m)
	}
}

// seal closes a message and hands it to the sender. The caller holds the lock.
func (p *packer) seal(m *message, now time.Time) {
	m.sealed, m.sealedAt = true, now
	m.lane.open = nil
	m.lane.inFlight++
	p.unresolved++
	p.queue = append(p.queue, m)
	select {
	case p.ready <- struct{}{}:
	default:
	}
}

// await makes expire run at the deadline of m. The caller holds the lock.
func (p *packer) await(m *message) {
	p.open = append(p.open, m)
	if len(p.open) > 1 {
		return // the timer stands for an earlier one
	}
	if p.timer == nil {
		p.timer = time.AfterFunc(p.linger, p.expire)
		return
	}
	p.timer.Reset(p.linger)
}

// expire seals what has lingered long enough.
func (p *packer) expire() {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for ; n < len(p.open); n++ {
		m := p.open[n]
		if !m.sealed && m.deadline.After(now) {
			break
		}
		if !m.sealed {
			p.seal(m, now)
		}
	}
	rest := copy(p.open, p.open[n:])
	clear(p.open[rest:])
	p.open = p.open[:rest]
	if rest > 0 {
		p.timer.Reset(p.open[0].deadline.Sub(now))
	}
}

// take returns the sealed messages, and keeps spare as the next queue.
func (p *packer) take(spare []*message) []*message {
	p.mu.Lock()
	defer p.mu.Unlock()
	queue := p.queue
	p.queue = spare[:0]
	return queue
}

// resolved tells the packer that the producer is done with m, whatever the outcome.
func (p *packer) resolved(m *message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := m.lane
	l.inFlight--
	p.unresolved--
	if l.inFlight == 0 {
		if l.open != nil {
			p.seal(l.open, time.Now())
		} else {
			delete(p.lanes, l.source)
		}
	}
	p.tellDrained()
}

// flush seals what is open, and from now on everything at once.
func (p *packer) flush() {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.linger = 0
	for _, m := range p.open {
		if !m.sealed {
			p.seal(m, now)
		}
	}
}

// idle returns a channel that is closed when all is resolved. Nothing may be added any more.
func (p *packer) idle() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.drained == nil {
		p.drained = make(chan struct{})
	}
	p.tellDrained()
	return p.drained
}

// tellDrained closes drained when somebody waits and nothing is left. The caller holds the lock.
func (p *packer) tellDrained() {
	if p.drained == nil || p.unresolved > 0 {
		return
	}
	select {
	case <-p.drained:
	default:
		close(p.drained)
	}
}

// left is the number of messages that are not resolved.
func (p *packer) left() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.unresolved
}
