package client_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	gproto "google.golang.org/protobuf/proto"

	"github.com/maxviazov/audittrail/emitters/client"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
)

type (
	events  = []*audittrailv1.Event
	results = []*audittrailv1.EmitResult
)

func TestRetryKeepsKeyAndTime(t *testing.T) {
	for _, code := range []codes.Code{codes.Unavailable, codes.DeadlineExceeded, codes.Aborted, codes.Canceled} {
		t.Run(code.String(), func(t *testing.T) {
			s := &scripted{answer: func(_ context.Context, n int, e events) (results, error) {
				if n < 3 {
					return nil, status.Error(code, "not now")
				}
				return accepted(e), nil
			}}
			c := newClient(t, s, client.Options{})
			e := login()
			d := emit(t, c, e)
			if id, ok := client.ID(e); !ok || id != d.ID {
				t.Errorf("id %s, delivery %s", id, d.ID)
			}
			if err := d.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			calls := s.received()
			if len(calls) != 4 {
				t.Fatalf("%d calls", len(calls))
			}
			for n, call := range calls {
				if len(call) != 1 || !gproto.Equal(call[0], calls[0][0]) || event.IDOf(call[0]) != d.ID {
					t.Errorf("try %d: %v", n, call)
				}
			}
		})
	}
}

func TestOnlyWhatIsRetryableIsSentAgain(t *testing.T) {
	for _, code := range []codes.Code{codes.InvalidArgument, codes.PermissionDenied, codes.Unauthenticated, codes.Unimplemented,
		codes.Internal, codes.ResourceExhausted} { // the last one without RetryInfo: gRPC refused its size
		var lost given
		s := &scripted{answer: func(context.Context, int, events) (results, error) { return nil, status.Error(code, "no") }}
		c := newClient(t, s, client.Options{OnUndelivered: lost.add})
		e := login()
		d := emit(t, c, e)
		if err := d.Wait(t.Context()); status.Code(err) != code {
			t.Errorf("%s: %v", code, err)
		}
		all := lost.all()
		if len(s.received()) != 1 || len(all) != 1 || all[0].ID != d.ID || all[0].Event != e || status.Code(all[0].Err) != code {
			t.Errorf("%s: %d calls, undelivered %v", code, len(s.received()), all)
		}
	}
}

func TestRetryInfoIsHonoured(t *testing.T) {
	const asked = 150 * time.Millisecond
	s := &scripted{answer: func(_ context.Context, n int, e events) (results, error) {
		switch n {
		case 0:
			return nil, withRetry(codes.ResourceExhausted, asked).Err()
		case 1:
			return results{refused(withRetry(codes.ResourceExhausted, asked).Proto())}, nil
		}
		return accepted(e), nil
	}}
	c := newClient(t, s, client.Options{})
	if err := emit(t, c, login()).Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	for n := range 2 {
		if waited := s.times[n+1].Sub(s.times[n]); waited < asked || waited > 3*asked {
			t.Errorf("try %d after %s, asked for %s", n+2, waited, asked)
		}
	}
}

func TestEachEventOfABatchHasItsOwnResult(t *testing.T) {
	var lost given
	wrong, err := status.New(codes.InvalidArgument, "events[1].source …").WithDetails(&errdetails.BadRequest{})
	if err != nil {
		t.Fatal(err)
	}
	s := &scripted{answer: func(_ context.Context, n int, e events) (results, error) {
		r := accepted(e)
		if n == 0 {
			r[1], r[2] = refused(wrong.Proto()), refused(withRetry(codes.Unavailable, time.Millisecond).Proto())
		}
		return r, nil
	}}
	c := newClient(t, s, client.Options{Linger: time.Second, OnUndelivered: lost.add})
	var d []*client.Delivery
	for range 4 {
		d = append(d, emit(t, c, login()))
	}
	if err := c.Flush(t.Context()); err == nil || !strings.Contains(err.Error(), "1 of 4") || status.Code(errors.Unwrap(err)) != codes.InvalidArgument {
		t.Errorf("flush: %v", err)
	}
	for n, d := range d {
		if err := d.Wait(t.Context()); (err != nil) != (n == 1) {
			t.Errorf("event %d: %v", n, err)
		}
	}
	calls := s.received()
	if len(calls) != 2 || len(calls[0]) != 4 || len(calls[1]) != 1 || event.IDOf(calls[1][0]) != d[2].ID {
		t.Errorf("calls %v", calls)
	}
	if all := lost.all(); len(all) != 1 || all[0].ID != d[1].ID {
		t.Errorf("undelivered %v", all)
	}
}

func TestErrorOfAWholeBatchIsSplitByEvent(t *testing.T) {
	s := &scripted{answer: func(context.Context, int, events) (results, error) {
		st, err := status.New(codes.InvalidArgument, "two are wrong").WithDetails(&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			{Field: "events[0].source", Description: "is not yours"}, {Field: "events[1].occurred_at", Description: "is late"}}})
		if err != nil {
			return nil, err
		}
		return nil, st.Err()
	}}
	c := newClient(t, s, client.Options{Linger: time.Second})
	first, second := emit(t, c, login()), emit(t, c, login())
	c.Flush(t.Context())
	for d, want := range map[*client.Delivery]string{first: "event.source", second: "event.occurred_at"} {
		err := d.Wait(t.Context())
		bad, ok := status.Convert(err).Details()[0].(*errdetails.BadRequest)
		if !ok || len(bad.FieldViolations) != 1 || bad.FieldViolations[0].Field != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestInvalidEventIsRefusedAtOnce(t *testing.T) {
	c := newClient(t, &scripted{}, client.Options{})
	_, err := c.Emit(t.Context(), client.NewEvent("acme//api", "user.login").Build())
	var invalid *client.InvalidError
	if !errors.As(err, &invalid) || invalid.Violations[0].Field != "source" {
		t.Errorf("got %v", err)
	}
	if _, err := c.Emit(t.Context(), client.NewEvent("a", "b").Key("k").Build()); !errors.As(err, &invalid) { // a key needs a time
		t.Errorf("got %v", err)
	}
	if _, err := c.Emit(t.Context(), nil); !errors.As(err, &invalid) {
		t.Errorf("got %v", err)
	}
}

func TestEmitNeverBlocksLongerThanMaxBlock(t *testing.T) {
	release := make(chan struct{})
	s := &scripted{answer: func(ctx context.Context, _ int, e events) (results, error) {
		select {
		case <-release:
		case <-ctx.Done():
		}
		return accepted(e), nil
	}}
	const block = 100 * time.Millisecond
	for name, o := range map[string]client.Options{"events": {MaxBufferEvents: 10, MaxBlock: block}, "bytes": {MaxBufferBytes: 70_000, MaxBlock: block}} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t, s, o)
			taken := 0
			for {
				e := login()
				e.Details = `{"k":"` + strings.Repeat("x", 6000) + `"}`
				start := time.Now()
				_, err := c.Emit(t.Context(), e)
				if waited := time.Since(start); waited > 5*block {
					t.Fatalf("blocked for %s", waited)
				}
				if errors.Is(err, client.ErrBufferFull) {
					if waited := time.Since(start); waited < block {
						t.Errorf("gave up after %s", waited)
					}
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				taken++
			}
			if taken < 9 || taken > 11 {
				t.Errorf("%d events taken", taken)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			if _, err := c.Emit(ctx, login()); taken == 10 && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("with a deadline: %v", err)
			}
		})
	}
	c := newClient(t, s, client.Options{MaxBufferEvents: 1, MaxBlock: 5 * time.Second})
	emit(t, c, login())
	time.AfterFunc(20*time.Millisecond, func() { close(release) })
	start := time.Now()
	if _, err := c.Emit(t.Context(), login()); err != nil { // there is room when the first is acknowledged
		t.Error(err)
	}
	if waited := time.Since(start); waited > time.Second {
		t.Errorf("waited %s", waited)
	}
}

func TestEventsGoInBatches(t *testing.T) {
	s := &scripted{answer: func(_ context.Context, _ int, e events) (results, error) { return accepted(e), nil }}
	c := newClient(t, s, client.Options{MaxBatchEvents: 100, MaxBatchBytes: 100_000, Linger: time.Second})
	for range 1000 {
		emit(t, c, login())
	}
	eventually(t, "full batches without linger", func() bool { return len(s.received()) == 10 })
	for range 10 {
		e := login()
		e.Details = `{"k":"` + strings.Repeat("x", 30_000) + `"}`
		emit(t, c, e)
	}
	start := time.Now()
	if err := c.Flush(t.Context()); err != nil || time.Since(start) > 500*time.Millisecond {
		t.Errorf("flush: %v after %s", err, time.Since(start))
	}
	for n, call := range s.received() {
		size := gproto.Size(&audittrailv1.BatchEmitEventsRequest{Events: call})
		if want := 100; n < 10 && len(call) != want || size > 100_000 {
			t.Errorf("call %d: %d events, %d bytes", n, len(call), size)
		}
	}
	before := len(s.received())
	emit(t, c, login())
	start = time.Now()
	eventually(t, "lingered", func() bool { return len(s.received()) > before })
	if waited := time.Since(start); waited < 500*time.Millisecond {
		t.Errorf("a single event went after %s", waited)
	}
}

func TestEventIsGivenUpAfterItsTimeout(t *testing.T) {
	var lost given
	s := &scripted{answer: func(context.Context, int, events) (results, error) {
		return nil, status.Error(codes.Unavailable, "down")
	}}
	c := newClient(t, s, client.Options{DeliveryTimeout: 100 * time.Millisecond, OnUndelivered: lost.add})
	start := time.Now()
	err := emit(t, c, login()).Wait(t.Context())
	if !errors.Is(err, client.ErrGivenUp) || status.Code(err) != codes.Unavailable || time.Since(start) > time.Second {
		t.Errorf("%v after %s", err, time.Since(start))
	}
	if tries := len(s.received()); tries < 3 {
		t.Errorf("%d tries", tries)
	}
	if len(lost.all()) != 1 {
		t.Errorf("undelivered %v", lost.all())
	}
}

func TestCloseDrains(t *testing.T) {
	s := &scripted{answer: func(_ context.Context, n int, e events) (results, error) {
		if n == 0 {
			return nil, status.Error(codes.Unavailable, "not now")
		}
		return accepted(e), nil
	}}
	c := newClient(t, s, client.Options{Linger: 5 * time.Second, Concurrency: 1})
	var all []*client.Delivery
	for range 1200 {
		all = append(all, emit(t, c, login()))
	}
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, d := range all {
		select {
		case <-d.Done():
		default:
			t.Fatal("closed, and an event has no result")
		}
	}
	if _, err := c.Emit(t.Context(), login()); !errors.Is(err, client.ErrClosed) {
		t.Errorf("emit after close: %v", err)
	}
}

func TestCloseGivesUpWhenItsTimeIsOver(t *testing.T) {
	var lost given
	s := &scripted{answer: func(ctx context.Context, _ int, e events) (results, error) {
		<-ctx.Done()
		return nil, status.FromContextError(ctx.Err()).Err()
	}}
	c := newClient(t, s, client.Options{Concurrency: 1, MaxBatchEvents: 10, OnUndelivered: lost.add})
	var all []*client.Delivery
	for range 25 { // 10 under way, 15 in the buffer
		all = append(all, emit(t, c, login()))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	err := c.Close(ctx)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "25 events") || time.Since(start) > 2*time.Second {
		t.Errorf("%v after %s", err, time.Since(start))
	}
	for _, d := range all {
		if err := d.Wait(t.Context()); !errors.Is(err, client.ErrClosed) {
			t.Errorf("result %v", err)
		}
	}
	if n := len(lost.all()); n != 25 {
		t.Errorf("%d events handed back", n)
	}
}

// TestEveryEventHasOneResultUnderFaults: random failures, many producers; what the emitter accepted and what was given up is together
// what was emitted.
func TestEveryEventHasOneResultUnderFaults(t *testing.T) {
	var mu sync.Mutex
	recorded := map[event.ID]bool{}
	s := &scripted{answer: func(_ context.Context, _ int, e events) (results, error) {
		mu.Lock()
		defer mu.Unlock()
		lostAnswer := rand.IntN(4) == 0
		if !lostAnswer && rand.IntN(4) == 0 {
			return nil, status.Error(codes.Unavailable, "down")
		}
		r := accepted(e)
		for i := range e {
			switch rand.IntN(10) {
			case 0:
				r[i] = refused(withRetry(codes.Unavailable, time.Millisecond).Proto())
			case 1:
				if strings.HasPrefix(e[i].Reason, "refuse") {
					r[i] = refused(status.New(codes.InvalidArgument, "no").Proto())
					continue
				}
				fallthrough
			default:
				recorded[event.IDOf(e[i])] = true
			}
		}
		if lostAnswer {
			return nil, status.Error(codes.DeadlineExceeded, "answer lost")
		}
		return r, nil
	}}
	var lost given
	c := newClient(t, s, client.Options{MaxBatchEvents: 20, MaxBufferEvents: 200, MaxBlock: 20 * time.Second, OnUndelivered: lost.add})
	var wg sync.WaitGroup
	var dmu sync.Mutex
	delivered := map[event.ID]error{}
	for p := range 8 {
		wg.Go(func() {
			for i := range 200 {
				e := login()
				if (p+i)%5 == 0 {
					e.Reason = "refuse me at times"
				}
				d, err := c.Emit(t.Context(), e)
				if err != nil {
					t.Error(err)
					return
				}
				err = d.Wait(t.Context())
				dmu.Lock()
				delivered[d.ID] = err
				dmu.Unlock()
			}
		})
	}
	wg.Wait()
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	failed := map[event.ID]bool{}
	for _, u := range lost.all() {
		if failed[u.ID] {
			t.Errorf("%s given up twice", u.ID)
		}
		failed[u.ID] = true
	}
	if len(delivered) != 1600 || len(failed) == 0 {
		t.Errorf("%d results, %d failed", len(delivered), len(failed))
	}
	for id, err := range delivered {
		if (err != nil) != failed[id] {
			t.Errorf("%s: result %v, given up %v", id, err, failed[id])
		}
		if err == nil && !recorded[id] {
			t.Errorf("%s: delivered, not recorded", id)
		}
	}
}

func TestOptionsReportAllProblems(t *testing.T) {
	_, err := client.NewWithConn(nil, client.Options{MaxBatchEvents: 1001, MaxBatchBytes: 1, Linger: time.Minute, MaxBufferBytes: 1,
		Concurrency: 100, CallTimeout: -1, DeliveryTimeout: -1, MinBackoff: time.Hour})
	for _, field := range []string{"MaxBatchEvents", "MaxBatchBytes", "Linger", "MaxBufferBytes", "Concurrency", "CallTimeout", "DeliveryTimeout", "MinBackoff"} {
		if err == nil || !strings.Contains(err.Error(), field+" is") {
			t.Errorf("%s is not in: %v", field, err)
		}
	}
}
