package emitters_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/maxviazov/audittrail/emitters"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
	"github.com/maxviazov/audittrail/proto/stream"
)

// held is a publisher whose messages are resolved by the test.
type held struct {
	mu       sync.Mutex
	messages []heldMessage
}

type heldMessage struct {
	source string
	keys   []string // idempotency keys
	bytes  int
	done   func(error)
}

func (h *held) Ready() bool { return true }

func (h *held) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (h *held) Publish(key string, value []byte, done func(error)) {
	m := heldMessage{source: key, bytes: len(value), done: done}
	encoded, err := stream.DecodeEvents(value)
	if err != nil {
		panic(err)
	}
	for _, raw := range encoded {
		var e audittrailv1.Event
		if err := e.UnmarshalVT(raw); err != nil {
			panic(err)
		}
		m.keys = append(m.keys, e.IdempotencyKey)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.messages = append(h.messages, m)
}

// sent returns the messages so far, once there are at least n.
func (h *held) sent(tb testing.TB, n int) []heldMessage {
	tb.Helper()
	var all []heldMessage
	eventually(tb, fmt.Sprintf("%d messages", n), func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		all = append(all[:0], h.messages...)
		return len(all) >= n
	})
	return all
}

// resolveAll resolves each message, also those that come later, until the test ends.
func (h *held) resolveAll(tb testing.TB, err error) { h.resolve(tb, 0, err) }

// resolveAfter is resolveAll for a test that has resolved the first n with its own hands.
func (h *held) resolveAfter(tb testing.TB, n int) { h.resolve(tb, n, nil) }

func (h *held) resolve(tb testing.TB, from int, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for done := from; ctx.Err() == nil; time.Sleep(time.Millisecond) {
			h.mu.Lock()
			fresh := h.messages[done:]
			done = len(h.messages)
			h.mu.Unlock()
			for _, m := range fresh {
				m.done(err)
			}
		}
	}()
	tb.Cleanup(func() { cancel(); <-ended })
}

// calls runs emits in the background and waits for them at the end of the test.
type calls struct{ sync.WaitGroup }

func (c *calls) emit(tb testing.TB, e *emitter, events ...*audittrailv1.Event) {
	c.Go(func() {
		_, err := e.BatchEmitEvents(context.Background(), &audittrailv1.BatchEmitEventsRequest{Events: events})
		if err != nil {
			tb.Errorf("%s: %v", events[0].IdempotencyKey, err)
		}
	})
}

// queued waits until the emitter has taken n events in all.
func (e *emitter) queued(tb testing.TB, n int, events ...*audittrailv1.Event) {
	tb.Helper()
	eventually(tb, fmt.Sprintf("%d events in flight", n), func() bool {
		return e.metric(tb, "in_flight_bytes", "") >= float64(n*(emitters.EventOverhead+events[0].SizeVT()))
	})
}

func TestIdleSourceDoesNotWait(t *testing.T) {
	h := new(held)
	e := newEmitter(t, options{publisher: h, cfg: emitters.Config{Linger: time.Second}})
	var c calls
	defer c.Wait()
	start := time.Now()
	c.emit(t, e, newEvent("acme/a", 1))
	h.sent(t, 1)
	c.emit(t, e, newEvent("acme/b", 1)) // a is busy, b is not
	all := h.sent(t, 2)
	if waited := time.Since(start); waited > 500*time.Millisecond {
		t.Errorf("waited %s", waited)
	}
	if all[1].source != "acme/b" {
		t.Errorf("second message of %s", all[1].source)
	}
	h.resolveAll(t, nil)
}

func TestBusySourcePacksUntilTheAcknowledgement(t *testing.T) {
	h := new(held)
	e := newEmitter(t, options{publisher: h, cfg: emitters.Config{Linger: time.Second}})
	var c calls
	defer c.Wait()
	first := newEvent("acme/a", 0)
	c.emit(t, e, first)
	h.sent(t, 1)
	start := time.Now()
	for i := range 20 {
		c.emit(t, e, newEvent("acme/a", i+1))
	}
	e.queued(t, 21, first)
	if n := len(h.sent(t, 1)); n != 1 {
		t.Fatalf("%d messages while the first is in flight", n)
	}
	h.sent(t, 1)[0].done(nil)
	// A call that has its budget may come to the packer a moment after the acknowledgement, and then waits for the next one.
	if all := h.sent(t, 2); len(all[1].keys) < 15 || time.Since(start) > 900*time.Millisecond {
		t.Errorf("second message has %d events after %s", len(all[1].keys), time.Since(start))
	}
	h.resolveAfter(t, 1)
}

func TestBusySourceWaitsNoLongerThanLinger(t *testing.T) {
	h := new(held)
	const linger = 50 * time.Millisecond
	e := newEmitter(t, options{publisher: h, cfg: emitters.Config{Linger: linger}})
	var c calls
	defer c.Wait()
	c.emit(t, e, newEvent("acme/a", 0))
	h.sent(t, 1)
	for round := range 3 {
		start := time.Now()
		c.emit(t, e, newEvent("acme/a", round+1))
		h.sent(t, round+2) // nothing is resolved
		if waited := time.Since(start); waited < linger-5*time.Millisecond || waited > 10*linger {
			t.Errorf("round %d: waited %s, linger is %s", round, waited, linger)
		}
	}
	h.resolveAll(t, nil)
}

func TestFullMessageDoesNotWait(t *testing.T) {
	h := new(held)
	e := newEmitter(t, options{publisher: h, cfg: emitters.Config{Linger: time.Second}})
	var c calls
	defer c.Wait()
	c.emit(t, e, newEvent("acme/a", 0))
	h.sent(t, 1)
	start := time.Now()
	c.emit(t, e, newEvents("acme/a", 400)...)
	c.emit(t, e, newEvents("acme/a", 101)...) // they do not fit into one: whichever came first goes
	open := 501 - len(h.sent(t, 2)[1].keys)
	if open != 101 && open != 400 {
		t.Errorf("%d events wait", open)
	}
	c.emit(t, e, newEvents("acme/a", 500-open)...) // fits exactly
	if all := h.sent(t, 3); len(all[2].keys) != stream.MaxBatchEvents {
		t.Errorf("%d events", len(all[2].keys))
	}
	var large []*audittrailv1.Event
	for i := range 20 {
		large = append(large, newEvent("acme/a", i))
		large[i].Details = `{"k":"` + strings.Repeat("x", event.MaxDetails-8) + `"}`
	}
	c.emit(t, e, large...)
	all := h.sent(t, 5) // two full ones of seven, the rest waits
	for _, m := range all {
		if m.bytes > stream.MaxBatchBytes {
			t.Errorf("message of %d bytes", m.bytes)
		}
	}
	if waited := time.Since(start); waited > 800*time.Millisecond {
		t.Errorf("took %s", waited)
	}
	h.resolveAll(t, nil)
}

// TestMessagesOfASourceKeepTheirOrder: one producer that waits for each answer sees its events in order, whatever is packed.
func TestMessagesOfASourceKeepTheirOrder(t *testing.T) {
	h := new(held)
	e := newEmitter(t, options{publisher: h, cfg: emitters.Config{Linger: 2 * time.Millisecond}})
	h.resolveAll(t, nil)
	const producers, rounds = 8, 50
	var c calls
	for p := range producers {
		c.Go(func() {
			for r := range rounds {
				ev := newEvent("acme/a", r)
				ev.IdempotencyKey = fmt.Sprintf("%d/%03d", p, r)
				if _, err := e.EmitEvent(context.Background(), &audittrailv1.EmitEventRequest{Event: ev}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	c.Wait()
	last := map[string]string{}
	n := 0
	for _, m := range h.sent(t, 1) {
		for _, key := range m.keys {
			producer, _, _ := strings.Cut(key, "/")
			if key <= last[producer] {
				t.Fatalf("%s after %s", key, last[producer])
			}
			last[producer] = key
			n++
		}
	}
	if n != producers*rounds {
		t.Errorf("%d events, want %d", n, producers*rounds)
	}
	if got := e.metric(t, "in_flight_bytes", ""); got != 0 {
		t.Errorf("%v bytes in flight at the end", got)
	}
}

func TestRefusedMessageIsUnavailable(t *testing.T) {
	h := new(held)
	e := newEmitter(t, options{publisher: h})
	h.resolveAll(t, errors.New("NOT_ENOUGH_REPLICAS"))
	_, err := e.EmitEvent(t.Context(), &audittrailv1.EmitEventRequest{Event: newEvent("acme/a", 1)})
	retryable(t, proto(err), "Unavailable")
	if err != nil && strings.Contains(err.Error(), "REPLICAS") {
		t.Errorf("the cause is in the answer: %v", err)
	}
	if got := e.metric(t, "in_flight_bytes", ""); got != 0 {
		t.Errorf("%v bytes in flight", got)
	}
}
