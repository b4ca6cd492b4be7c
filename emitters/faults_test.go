package emitters_test

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/maxviazov/audittrail/emitters"
	"github.com/maxviazov/audittrail/internal/embedded/embeddedtest"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
)

// retryable checks code and RetryInfo.
func retryable(tb testing.TB, s *spb.Status, code string) {
	tb.Helper()
	info := detail[errdetails.RetryInfo](tb, s)
	if got := codes.Code(s.GetCode()).String(); got != code || info == nil || info.RetryDelay.AsDuration() <= 0 {
		tb.Errorf("%s with %v, want %s with RetryInfo", got, info, code)
	}
}

func TestComesUpWithoutABrokerAndFindsItLater(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	listener.Close()
	e := newEmitter(t, options{broker: &broker{addrs: []string{net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}}})
	start := time.Now()
	_, err = e.EmitEvent(t.Context(), &audittrailv1.EmitEventRequest{Event: newEvent("acme/a", 1)})
	retryable(t, proto(err), "Unavailable")
	if e.server.Ready() || time.Since(start) > 2*time.Second {
		t.Errorf("ready %v, answered after %s", e.server.Ready(), time.Since(start))
	}
	b := newBroker(t, embeddedtest.KafkaOpts(kfake.Ports(port)))
	e.ready(t)
	if _, err := e.EmitEvent(t.Context(), &audittrailv1.EmitEventRequest{Event: newEvent("acme/a", 1)}); err != nil {
		t.Fatal(err)
	}
	if n := len(b.events(t, 1)); n != 1 {
		t.Errorf("%d events", n)
	}
	if err := e.stop(); err != nil { // before the broker
		t.Error(err)
	}
}

// TestBrokerRestart: the broker goes away with its connections and comes back with its data. What was acknowledged before, and what is
// acknowledged afterwards, is there once; in between calls are retryable.
func TestBrokerRestart(t *testing.T) {
	dir := t.TempDir()
	persistent := func(port int) embeddedtest.KafkaOption {
		return embeddedtest.KafkaOpts(kfake.Ports(port), kfake.DataDir(dir), kfake.SyncWrites())
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	listener.Close()
	b := newBroker(t, persistent(port))
	e := newEmitter(t, options{broker: b, cfg: emitters.Config{AckTimeout: 500 * time.Millisecond}, mayFail: true}).ready(t)
	acked := map[string]bool{}
	n := 0
	try := func() error {
		ev := newEvent("acme/a", n)
		n++
		_, err := e.EmitEvent(t.Context(), &audittrailv1.EmitEventRequest{Event: ev})
		if err == nil {
			acked[ev.IdempotencyKey] = true
		}
		return err
	}
	for range 20 {
		if err := try(); err != nil {
			t.Fatal(err)
		}
	}
	b.Close()
	for range 3 {
		retryable(t, proto(try()), "Unavailable")
	}
	again := embeddedtest.KafkaCluster(t, persistent(port))
	eventually(t, "recovery", func() bool { return try() == nil })
	for range 20 {
		if err := try(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "empty budget", func() bool { return e.metric(t, "in_flight_bytes", "") == 0 })
	seen := map[string]int{}
	for _, ev := range (&broker{Cluster: again, addrs: b.addrs}).events(t, len(acked)) {
		seen[ev.IdempotencyKey]++
	}
	for key := range acked {
		if seen[key] != 1 {
			t.Errorf("%s is there %d times", key, seen[key])
		}
	}
	if err := e.stop(); err != nil {
		t.Error(err)
	}
}

func TestLateAcknowledgementIsUnavailableAndStaysInTheBudget(t *testing.T) {
	b := newBroker(t)
	e := newEmitter(t, options{broker: b, cfg: emitters.Config{AckTimeout: 200 * time.Millisecond}}).ready(t)
	resume := b.stall(t)
	start := time.Now()
	_, err := e.EmitEvent(t.Context(), &audittrailv1.EmitEventRequest{Event: newEvent("acme/a", 1)})
	retryable(t, proto(err), "Unavailable")
	if waited := time.Since(start); waited < 200*time.Millisecond || waited > 2*time.Second {
		t.Errorf("answered after %s", waited)
	}
	if got := e.metric(t, "in_flight_bytes", ""); got == 0 {
		t.Error("a message that the producer holds is not in the budget")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = e.EmitEvent(ctx, &audittrailv1.EmitEventRequest{Event: newEvent("acme/b", 1)})
	if status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("own deadline: %v", err)
	}
	resume()
	eventually(t, "empty budget", func() bool { return e.metric(t, "in_flight_bytes", "") == 0 })
	if n := len(b.events(t, 2)); n != 2 {
		t.Errorf("%d events", n)
	}
	if got := e.metric(t, "events_rejected_total", "late"); got != 1 {
		t.Errorf("late: %v", got)
	}
	eventually(t, "the other one counted", func() bool { return e.metric(t, "events_rejected_total", "gone") == 1 })
}

func TestOverloadIsAnsweredPerEvent(t *testing.T) {
	h := new(held)
	e := newEmitter(t, options{publisher: h, cfg: emitters.Config{MaxInFlightBytes: 1 << 20}})
	var c calls
	defer c.Wait()
	big := newEvents("acme/a", 40) // 40 × 32.6 KiB
	for _, b := range big {
		b.Details = `{"k":"` + strings.Repeat("x", event.MaxDetails-8) + `"}`
	}
	c.Go(func() {
		resp, err := e.BatchEmitEvents(context.Background(), &audittrailv1.BatchEmitEventsRequest{Events: append(big, newEvent("", 1))})
		if err != nil {
			t.Error(err)
			return
		}
		accepted, refused := 0, 0
		for _, r := range resp.Results[:40] {
			if r.GetId() != "" {
				accepted++
				continue
			}
			refused++
			retryable(t, r.GetStatus(), "ResourceExhausted")
		}
		if accepted < 28 || accepted > 32 || accepted+refused != 40 {
			t.Errorf("%d accepted, %d refused", accepted, refused)
		}
		if got := fields(t, resp.Results[40].GetStatus()); !slices.Equal(got, []string{"events[40].source"}) {
			t.Errorf("the wrong one: %v", resp.Results[40])
		}
	})
	h.sent(t, 4)
	// Nothing of a call was accepted: the retryable code wins over the wrong event.
	full := newEvent("acme/b", 1)
	full.Details = big[0].Details
	_, err := e.BatchEmitEvents(t.Context(), &audittrailv1.BatchEmitEventsRequest{Events: []*audittrailv1.Event{newEvent("", 1), full}})
	retryable(t, proto(err), "ResourceExhausted")
	h.resolveAll(nil)
	eventually(t, "empty budget", func() bool { return e.metric(t, "in_flight_bytes", "") == 0 })
	if _, err := e.EmitEvent(t.Context(), &audittrailv1.EmitEventRequest{Event: full}); err != nil {
		t.Errorf("after the overload: %v", err)
	}
}

// TestMemoryIsBoundedWhileTheBrokerIsStopped: producers that go on for seconds do not make the emitter grow beyond its budget.
func TestMemoryIsBoundedWhileTheBrokerIsStopped(t *testing.T) {
	b := newBroker(t)
	e := newEmitter(t, options{broker: b, cfg: emitters.Config{MaxInFlightBytes: 16 << 20, AckTimeout: 100 * time.Millisecond}}).ready(t)
	resume := b.stall(t)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	var late, overloaded, sent atomic.Int64
	var producers sync.WaitGroup
	stop := make(chan struct{})
	for p := range 8 {
		producers.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				events := newEvents(fmt.Sprintf("acme/%d/%d", p, i), 20)
				for _, ev := range events {
					ev.Details = `{"k":"` + strings.Repeat("x", 4000) + `"}`
				}
				sent.Add(20)
				_, err := e.BatchEmitEvents(context.Background(), &audittrailv1.BatchEmitEventsRequest{Events: events})
				switch status.Code(err) {
				case codes.Unavailable:
					late.Add(1)
				case codes.ResourceExhausted:
					overloaded.Add(1)
				default:
					t.Errorf("while stopped: %v", err)
				}
			}
		})
	}
	eventually(t, "overload", func() bool { return overloaded.Load() > 200 })
	grown := int64(heap()) - int64(before)
	inFlight := e.metric(t, "in_flight_bytes", "")
	close(stop)
	producers.Wait()
	t.Logf("%d events offered, %v bytes in flight, heap grown by %d", sent.Load(), inFlight, grown)
	if inFlight > 16<<20 || inFlight < 15<<20 {
		t.Errorf("%v bytes in flight, limit %d", inFlight, 16<<20)
	}
	if grown > 3*16<<20 {
		t.Errorf("heap grew by %d bytes", grown)
	}
	if late.Load() == 0 {
		t.Error("no call was late")
	}
	resume()
	eventually(t, "empty budget", func() bool { return e.metric(t, "in_flight_bytes", "") == 0 })
	if _, err := e.EmitEvent(t.Context(), &audittrailv1.EmitEventRequest{Event: newEvent("acme/a", 1)}); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestDrainAnswersWhatIsInFlightAndRefusesTheRest(t *testing.T) {
	b := newBroker(t)
	e := newEmitter(t, options{broker: b, cfg: emitters.Config{Linger: time.Second}}).ready(t)
	resume := b.stall(t)
	var c calls
	defer c.Wait()
	for i := range 10 { // the first goes out, the others wait for it
		c.emit(t, e, newEvent("acme/a", i))
	}
	e.queued(t, 10, newEvent("acme/a", 1))
	drained := make(chan error, 1)
	go func() { drained <- e.server.Drain(t.Context()) }()
	eventually(t, "not ready", func() bool { return !e.server.Ready() })
	_, err := e.EmitEvent(t.Context(), &audittrailv1.EmitEventRequest{Event: newEvent("acme/a", 11)})
	retryable(t, proto(err), "Unavailable")
	select {
	case err := <-drained:
		t.Fatalf("drained with events in flight: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	resume()
	if err := <-drained; err != nil {
		t.Fatal(err)
	}
	c.Wait()
	if n := len(b.events(t, 10)); n != 10 {
		t.Errorf("%d events", n)
	}
}

func TestDrainSaysWhatItCouldNotFinish(t *testing.T) {
	h := new(held)
	e := newEmitter(t, options{publisher: h, cfg: emitters.Config{DrainTimeout: 50 * time.Millisecond}, mayFail: true})
	var c calls
	c.emit(t, e, newEvent("acme/a", 1))
	h.sent(t, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := e.server.Drain(ctx); err == nil || !strings.Contains(err.Error(), "1 messages") {
		t.Errorf("drain: %v", err)
	}
	h.resolveAll(nil)
	c.Wait()
	if err := e.stop(); err != nil {
		t.Errorf("run: %v", err)
	}
}
