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
	auto     bool // resolve at once, with err
	err      error
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
	h.messages = append(h.messages, m)
	auto, err := h.auto, h.err
	h.mu.Unlock()
	if auto {
		done(err)
	}
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

// resolveAll resolves each message, from now on at once.
func (h *held) resolveAll(err error) { h.resolve(0, err) }

// resolveAfter is resolveAll for a test that has resolved the first n with its own hands.
func (h *held) resolveAfter(n int) { h.resolve(n, nil) }

func (h *held) resolve(from int, err error) {
	h.mu.Lock()
	h.auto, h.err = true, err
	waiting := h.messages[from:]
	h.mu.Unlock()
	for _, m := range waiting {
		m.done(err)
	}
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
	h.resolveAll(nil)
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
	h.resolveAfter(1)
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
	h.resolveAll(nil)
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
	h.resolveAll(nil)
}

// TestMessagesOfASourceKeepTheirOrder: a producer that waits for each answer finds its events in order, whatever they were packed with.
func TestMessagesOfASourceKeepTheirOrder(t *testing.T) {
	b := newBroker(t)
	e := newEmitter(t, options{broker: b, cfg: emitters.Config{Linger: 2 * time.Millisecond}}).ready(t)
	const producers, rounds = 16, 30
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
	all := b.messages(t, producers*rounds)
	for _, m := range all {
		for _, ev := range m.events {
			producer, _, _ := strings.Cut(ev.IdempotencyKey, "/")
			if ev.IdempotencyKey <= last[producer] {
				t.Fatalf("%s after %s", ev.IdempotencyKey, last[producer])
			}
			last[producer] = ev.IdempotencyKey
		}
	}
	if len(all) > producers*rounds/2 {
		t.Errorf("%d events in %d messages", producers*rounds, len(all))
	}
	if got := e.metric(t, "in_flight_bytes", ""); got != 0 {
		t.Errorf("%v bytes in flight at the end", got)
	}
}

func TestRefusedMessageIsUnavailable(t *testing.T) {
	h := new(held)
	e := newEmitter(t, options{publisher: h})
	h.resolveAll(errors.New("NOT_ENOUGH_REPLICAS"))
	_, err := e.EmitEvent(t.Context(), &audittrailv1.EmitEventRequest{Event: newEvent("acme/a", 1)})
	retryable(t, proto(err), "Unavailable")
	if err != nil && strings.Contains(err.Error(), "REPLICAS") {
		t.Errorf("the cause is in the answer: %v", err)
	}
	if got := e.metric(t, "in_flight_bytes", ""); got != 0 {
		t.Errorf("%v bytes in flight", got)
	}
}
