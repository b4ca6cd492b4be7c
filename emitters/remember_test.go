package emitters_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	gproto "google.golang.org/protobuf/proto"

	"github.com/maxviazov/audittrail/emitters"
	"github.com/maxviazov/audittrail/internal/embedded/embeddedtest"
	"github.com/maxviazov/audittrail/internal/identity"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
)

// principalOf takes the principal from the metadata, as an authenticating interceptor would from a certificate.
var principalOf = grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if md, ok := metadata.FromIncomingContext(ctx); ok && len(md.Get("principal")) == 1 {
		var err error
		if ctx, err = identity.With(ctx, md.Get("principal")[0]); err != nil {
			return nil, err
		}
	}
	return handler(ctx, req)
})

func batchOf(requestID string, n int) *audittrailv1.BatchEmitEventsRequest {
	events := newEvents("acme/a", n)
	for _, e := range events {
		e.Attributes = map[string]string{"a": "1", "b": "2", "c": "3", "d": "4"} // encoded in random order
	}
	return &audittrailv1.BatchEmitEventsRequest{Events: events, RequestId: requestID}
}

func TestBatchSentAgainIsAnsweredFromMemory(t *testing.T) {
	h := new(held)
	h.resolveAll(nil)
	e := newEmitter(t, options{publisher: h, redis: embeddedtest.Redis(t), options: []grpc.ServerOption{principalOf},
		cfg: emitters.Config{RedisTimeout: time.Second}})
	published := func() (n int) {
		for _, m := range h.sent(t, 0) {
			n += len(m.keys)
		}
		return n
	}
	send := func(principal string, req *audittrailv1.BatchEmitEventsRequest) {
		t.Helper()
		resp, err := e.BatchEmitEvents(metadata.AppendToOutgoingContext(t.Context(), "principal", principal), req)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range resp.Results {
			if want := event.IDOf(req.Events[i]).String(); r.GetId() != want {
				t.Errorf("result %d: %v, want %s", i, r, want)
			}
		}
	}
	step := func(name string, more int, do func()) {
		t.Helper()
		before := published()
		do()
		if got := published() - before; got != more {
			t.Errorf("%s: %d events published, want %d", name, got, more)
		}
	}
	step("first", 10, func() { send("p", batchOf("r1", 10)) })
	for range 5 {
		step("again", 0, func() { send("p", batchOf("r1", 10)) })
	}
	step("another principal", 10, func() { send("q", batchOf("r1", 10)) })
	step("another request_id", 10, func() { send("p", batchOf("r2", 10)) })
	step("without one", 10, func() { send("p", batchOf("", 10)) })
	step("other content", 10, func() {
		changed := batchOf("r1", 10)
		changed.Events[9].Reason = "changed"
		send("p", changed)
	})
	step("other order", 10, func() {
		turned := batchOf("r1", 10)
		slices.Reverse(turned.Events)
		send("p", turned)
	})
	step("fewer", 9, func() { send("p", batchOf("r1", 9)) })
	if got := e.metric(t, "events_remembered_total", ""); got != 50 {
		t.Errorf("remembered %v", got)
	}
}

func TestOnlyAcknowledgedEventsAreRemembered(t *testing.T) {
	h := new(held)
	e := newEmitter(t, options{publisher: h, redis: embeddedtest.Redis(t), cfg: emitters.Config{RedisTimeout: time.Second}})
	req := &audittrailv1.BatchEmitEventsRequest{RequestId: "r", Events: append(newEvents("acme/a", 3), newEvents("acme/b", 2)...)}
	req.Events = append(req.Events, newEvent("", 9))
	emit := func(resolve func(heldMessage)) []*audittrailv1.EmitResult {
		t.Helper()
		before := len(h.sent(t, 0))
		answer := make(chan []*audittrailv1.EmitResult, 1)
		go func() {
			resp, err := e.BatchEmitEvents(context.Background(), gproto.CloneOf(req))
			if err != nil {
				t.Error(err)
			}
			answer <- resp.GetResults()
		}()
		for done := before; ; {
			select {
			case results := <-answer:
				return results
			case <-time.After(time.Millisecond):
				all := h.sent(t, 0)
				for ; done < len(all); done++ {
					resolve(all[done])
				}
			}
		}
	}
	results := emit(func(m heldMessage) {
		if m.source == "acme/b" {
			m.done(errors.New("broken"))
			return
		}
		m.done(nil)
	})
	if results[0].GetId() == "" || results[3].GetStatus() == nil || results[5].GetStatus() == nil {
		t.Fatalf("first: %v", results)
	}
	retryable(t, results[3].GetStatus(), "Unavailable")
	var again []string
	results = emit(func(m heldMessage) { again = append(again, m.source); m.done(nil) })
	if !slices.Equal(again, []string{"acme/b"}) {
		t.Errorf("published again: %v", again)
	}
	for i := range 5 {
		if results[i].GetId() == "" {
			t.Errorf("second, %d: %v", i, results[i])
		}
	}
	if results[5].GetStatus() == nil {
		t.Errorf("the wrong one: %v", results[5])
	}
}

func TestRequestIDNeedsKeyAndTime(t *testing.T) {
	h := new(held)
	h.resolveAll(nil)
	e := newEmitter(t, options{publisher: h})
	req := batchOf("r", 4)
	req.Events[1].IdempotencyKey = ""
	req.Events[2].OccurredAt = nil
	req.Events[3].IdempotencyKey, req.Events[3].OccurredAt = "", nil
	resp, err := e.BatchEmitEvents(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	want := [][]string{nil, {"events[1].idempotency_key"}, {"events[2].occurred_at"}, {"events[3].idempotency_key", "events[3].occurred_at"}}
	for i, r := range resp.Results {
		if got := fields(t, r.GetStatus()); !slices.Equal(got, want[i]) {
			t.Errorf("%d: %q, want %q", i, got, want[i])
		}
	}
}

func TestEventsGoThroughWithoutRedis(t *testing.T) {
	h := new(held)
	h.resolveAll(nil)
	// Takes connections and never answers.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	e := newEmitter(t, options{publisher: h, redis: listener.Addr().String()})
	start := time.Now()
	for range 20 {
		if _, err := e.BatchEmitEvents(t.Context(), batchOf("r", 3)); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("20 calls took %s: each waits for Redis", took)
	}
	if got := e.metric(t, "redis_errors_total", ""); got == 0 || got > 5 {
		t.Errorf("%v errors", got)
	}
}
