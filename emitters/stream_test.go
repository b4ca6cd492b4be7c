package emitters_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/maxviazov/audittrail/emitters"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
)

type eventStream = grpc.BidiStreamingClient[audittrailv1.StreamEventsRequest, audittrailv1.StreamEventsResponse]

// open opens a stream that is cut off when the test ends.
func open(tb testing.TB, e *emitter) eventStream {
	tb.Helper()
	str, err := e.StreamEvents(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return str
}

func send(tb testing.TB, str eventStream, sequence int64, e *audittrailv1.Event) {
	tb.Helper()
	if err := str.Send(&audittrailv1.StreamEventsRequest{Sequence: sequence, Event: e}); err != nil {
		tb.Fatal(err)
	}
}

// acks reads until the stream ends, and how many responses that took.
func acks(str eventStream) (all map[int64]*audittrailv1.EmitResult, responses int, err error) {
	all = map[int64]*audittrailv1.EmitResult{}
	for {
		resp, err := str.Recv()
		if err != nil {
			return all, responses, err
		}
		responses++
		for _, a := range resp.Acks {
			if all[a.Sequence] != nil {
				return all, responses, errors.New("acknowledged twice")
			}
			all[a.Sequence] = a.Result
		}
	}
}

func TestStreamAcknowledgesEachEventAndEndsCleanly(t *testing.T) {
	b := newBroker(t)
	e := newEmitter(t, options{broker: b}).ready(t)
	str := open(t, e)
	const n = 3000
	sent := map[int64]*audittrailv1.Event{}
	go func() {
		for i := range int64(n) {
			ev := newEvent("acme/a", int(i))
			if i%100 == 7 {
				ev.Actor = nil
				ev.Action = ""
			}
			if str.Send(&audittrailv1.StreamEventsRequest{Sequence: i * 3, Event: ev}) != nil {
				return
			}
		}
		str.CloseSend()
	}()
	for i := range int64(n) {
		sent[i*3] = newEvent("acme/a", int(i))
	}
	got, responses, err := acks(str)
	if !errors.Is(err, io.EOF) || len(got) != n {
		t.Fatalf("%d acks, end %v", len(got), err)
	}
	for sequence, r := range got {
		if sequence/3%100 == 7 {
			if f := fields(t, r.GetStatus()); codes.Code(r.GetStatus().GetCode()) != codes.InvalidArgument || !slices.Equal(f, []string{"event.action"}) {
				t.Errorf("%d: %v", sequence, r)
			}
			continue
		}
		if want := event.IDOf(sent[sequence]).String(); r.GetId() != want {
			t.Errorf("%d: %v, want %s", sequence, r, want)
		}
	}
	messages := b.messages(t, n-n/100)
	t.Logf("%d events in %d messages, acknowledged in %d responses", n, len(messages), responses)
	if len(messages) > n/4 || responses > n/2 {
		t.Errorf("%d messages, %d responses", len(messages), responses)
	}
}

func TestStreamStopsReadingWhenItsWindowIsFull(t *testing.T) {
	h := new(held)
	e := newEmitter(t, options{publisher: h, cfg: emitters.Config{StreamWindow: 100, Linger: time.Millisecond}})
	str := open(t, e)
	big := newEvent("acme/a", 0)
	big.Reason = string(make([]byte, event.MaxReason))
	for i := range 200 {
		ev := newEvent("acme/a", i)
		ev.Reason = big.Reason
		send(t, str, int64(i), ev) // gRPC's own window takes what the emitter does not read
	}
	taken := func() (n int) {
		for _, m := range h.sent(t, 0) {
			n += len(m.keys)
		}
		return n
	}
	eventually(t, "full window", func() bool { return taken() == 100 })
	<-time.After(100 * time.Millisecond) // the time in which it would go on reading
	if n := taken(); n != 100 {
		t.Errorf("%d events taken, the window is 100", n)
	}
	h.resolveAll(nil)
	str.CloseSend()
	if got, _, err := acks(str); len(got) != 200 || !errors.Is(err, io.EOF) {
		t.Errorf("%d acks, end %v", len(got), err)
	}
}

func TestStreamWhoseClientDoesNotReadIsBounded(t *testing.T) {
	h := new(held)
	e := newEmitter(t, options{publisher: h, cfg: emitters.Config{StreamWindow: 1000}})
	ctx, cancel := context.WithCancel(t.Context())
	str, err := e.StreamEvents(ctx)
	if err != nil {
		t.Fatal(err)
	}
	blocked := make(chan int, 1)
	go func() {
		n := 0
		for str.Send(&audittrailv1.StreamEventsRequest{Sequence: int64(n), Event: &audittrailv1.Event{Source: "/", Reason: string(make([]byte, 900))}}) == nil {
			n++
		}
		blocked <- n
	}()
	rejected := func() float64 { return e.metric(t, "events_rejected_total", "invalid") }
	eventually(t, "events refused", func() bool { return rejected() >= 1000 })
	// It stands still at last: refusals that nobody reads fill the window, too.
	eventually(t, "standstill", func() bool {
		before := rejected()
		time.Sleep(100 * time.Millisecond)
		return rejected() == before
	})
	cancel()
	if n := <-blocked; n > 20_000 {
		t.Errorf("%d events were taken from a client that reads nothing", n)
	}
}

func TestStreamSaysWhatIsLateRefusedOrOverTheBudget(t *testing.T) {
	h := new(held)
	e := newEmitter(t, options{publisher: h, cfg: emitters.Config{AckTimeout: 50 * time.Millisecond, MaxInFlightBytes: 1 << 20}})
	str := open(t, e)
	recv := func() *audittrailv1.EventAck {
		t.Helper()
		resp, err := str.Recv()
		if err != nil || len(resp.Acks) != 1 {
			t.Fatalf("%v, %v", resp, err)
		}
		return resp.Acks[0]
	}
	send(t, str, 1, newEvent("acme/a", 1))
	if a := recv(); a.Sequence != 1 {
		t.Errorf("sequence %d", a.Sequence)
	} else {
		retryable(t, a.Result.GetStatus(), "Unavailable") // late
	}
	h.sent(t, 1)[0].done(nil) // and that is not answered again
	eventually(t, "empty budget", func() bool { return e.metric(t, "in_flight_bytes", "") == 0 })
	send(t, str, 2, newEvent("acme/a", 2))
	h.sent(t, 2)[1].done(errors.New("broken"))
	if a := recv(); a.Sequence != 2 {
		t.Errorf("sequence %d", a.Sequence)
	} else {
		retryable(t, a.Result.GetStatus(), "Unavailable")
	}
	full := make([]*audittrailv1.Event, 0, 1000)
	for i := range 1000 {
		full = append(full, newEvent("acme/b", i))
		full[i].Reason = string(make([]byte, 600))
	}
	var c calls
	defer c.Wait()
	c.Go(func() {
		e.BatchEmitEvents(context.Background(), &audittrailv1.BatchEmitEventsRequest{Events: full})
	})
	h.sent(t, 4)
	large := newEvent("acme/a", 3)
	large.Details = `{"k":"` + string(slices.Repeat([]byte("x"), event.MaxDetails-8)) + `"}`
	send(t, str, 3, large)
	if a := recv(); a.Sequence != 3 {
		t.Errorf("sequence %d", a.Sequence)
	} else {
		retryable(t, a.Result.GetStatus(), "ResourceExhausted")
	}
	str.CloseSend()
	if got, _, err := acks(str); len(got) != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("%d more acks, end %v", len(got), err)
	}
	h.resolveAfter(2)
}

func TestDrainEndsStreamsWhenTheirEventsAreAcknowledged(t *testing.T) {
	b := newBroker(t)
	e := newEmitter(t, options{broker: b}).ready(t)
	resume := b.stall(t)
	busy, idle := open(t, e), open(t, e)
	send(t, busy, 1, newEvent("acme/a", 1))
	e.queued(t, 1, newEvent("acme/a", 1))
	eventually(t, "both open", func() bool { return e.metric(t, "streams", "") == 2 })
	drained := make(chan error, 1)
	go func() { drained <- e.server.Drain(t.Context()) }()
	_, _, err := acks(idle)
	retryable(t, proto(err), "Unavailable")
	resume()
	got, _, err := acks(busy)
	retryable(t, proto(err), "Unavailable")
	if got[1].GetId() == "" {
		t.Errorf("acks %v", got)
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
	late := open(t, e)
	_, _, err = acks(late)
	retryable(t, proto(err), "Unavailable")
}

func TestCutOffStreamLeavesNothingBehind(t *testing.T) {
	h := new(held)
	e := newEmitter(t, options{publisher: h})
	ctx, cancel := context.WithCancel(t.Context())
	str, err := e.StreamEvents(ctx)
	if err != nil {
		t.Fatal(err)
	}
	send(t, str, 1, newEvent("acme/a", 1))
	h.sent(t, 1)
	cancel()
	if _, _, err := acks(str); status.Code(err) != codes.Canceled {
		t.Errorf("end %v", err)
	}
	eventually(t, "stream gone", func() bool { return e.metric(t, "streams", "") == 0 })
	h.resolveAll(nil)
	eventually(t, "empty budget", func() bool { return e.metric(t, "in_flight_bytes", "") == 0 })
}
