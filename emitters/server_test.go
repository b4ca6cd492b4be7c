package emitters_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	gproto "google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/maxviazov/audittrail/emitters"
	"github.com/maxviazov/audittrail/internal/identity"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
	"github.com/maxviazov/audittrail/proto/stream"
)

func TestAcknowledgedEventIsInKafkaAsSentWithStamps(t *testing.T) {
	b := newBroker(t)
	e := newEmitter(t, options{broker: b, options: []grpc.ServerOption{grpc.UnaryInterceptor(
		func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			ctx, err := identity.With(ctx, "spiffe://acme/payments")
			if err != nil {
				return nil, err
			}
			return handler(ctx, req)
		})}}).ready(t)
	sent := newEvent("acme/payments/api", 1)
	sent.Attributes = map[string]string{"a": "1", "b": "2"}
	sent.Details = `{"x": 1.0}`
	forged := gproto.CloneOf(sent)
	forged.Id, forged.Principal, forged.ReceivedAt = "forged", "forged", at
	forged.Enrichment, forged.Position = &audittrailv1.Enrichment{Owner: "forged"}, &audittrailv1.Position{Index: 1}

	before := time.Now()
	resp, err := e.EmitEvent(t.Context(), &audittrailv1.EmitEventRequest{Event: forged})
	if err != nil {
		t.Fatal(err)
	}
	if want := event.IDOf(sent).String(); resp.Id != want {
		t.Errorf("id %s, want %s", resp.Id, want)
	}
	got := b.messages(t, 1)[0]
	if want := stream.Murmur2([]byte(sent.Source)) % partitions; got.partition != want || got.source != sent.Source {
		t.Errorf("partition %d key %s, want %d", got.partition, got.source, want)
	}
	stored := got.events[0]
	if r := stored.ReceivedAt.AsTime(); r.Before(before) || r.After(time.Now()) {
		t.Errorf("received at %s", r)
	}
	stored.ReceivedAt = nil
	sent.Principal = "spiffe://acme/payments"
	if !gproto.Equal(stored, sent) {
		t.Errorf("stored %v\nwant %v", stored, sent)
	}
}

func TestEmitterFillsInWhatTheProducerLeftOut(t *testing.T) {
	b := newBroker(t)
	e := newEmitter(t, options{broker: b}).ready(t)
	resp, err := e.BatchEmitEvents(t.Context(), &audittrailv1.BatchEmitEventsRequest{Events: []*audittrailv1.Event{
		{Source: "acme/a", Action: "x"}, {Source: "acme/a", Action: "x"}, {Source: "acme/a", Action: "x", OccurredAt: at}}})
	if err != nil {
		t.Fatal(err)
	}
	got := b.events(t, 3)
	keys := map[string]bool{}
	for i, stored := range got {
		keys[stored.IdempotencyKey] = true
		if want := event.IDOf(stored).String(); resp.Results[i].GetId() != want {
			t.Errorf("%d: answered %v, stored %s", i, resp.Results[i], want)
		}
		if stored.Principal != identity.Anonymous {
			t.Errorf("%d: principal %q", i, stored.Principal)
		}
		wantAt := stored.ReceivedAt
		if i == 2 {
			wantAt = at
		}
		if !gproto.Equal(stored.OccurredAt, wantAt) {
			t.Errorf("%d: occurred at %s, want %s", i, stored.OccurredAt.AsTime(), wantAt.AsTime())
		}
	}
	if len(keys) != 3 || keys[""] {
		t.Errorf("keys %v", keys)
	}
}

// TestEveryLimitThroughGRPC breaks each limit of event.proto by one, alone and inside a batch whose other events are stored.
func TestEveryLimitThroughGRPC(t *testing.T) {
	b := newBroker(t)
	e := newEmitter(t, options{broker: b}).ready(t)
	for i, c := range limitCases() {
		t.Run(c.name, func(t *testing.T) {
			good := newEvent("acme/limits", 2*i)
			c.set(good, 0)
			if _, err := e.EmitEvent(t.Context(), &audittrailv1.EmitEventRequest{Event: good}); err != nil {
				t.Fatalf("at the limit: %v", err)
			}
			bad := newEvent("acme/limits", 2*i+1)
			c.set(bad, 1)
			_, err := e.EmitEvent(t.Context(), &audittrailv1.EmitEventRequest{Event: bad})
			if got, want := fields(t, proto(err)), c.path("event"); status.Code(err) != codes.InvalidArgument || !slices.Contains(got, want) {
				t.Errorf("alone: %v %q, want %q", err, got, want)
			}
			resp, err := e.BatchEmitEvents(t.Context(), &audittrailv1.BatchEmitEventsRequest{
				Events: []*audittrailv1.Event{newEvent("acme/around", i), bad}})
			if err != nil {
				t.Fatal(err)
			}
			s := resp.Results[1].GetStatus()
			if got, want := fields(t, s), c.path("events[1]"); codes.Code(s.GetCode()) != codes.InvalidArgument || !slices.Contains(got, want) {
				t.Errorf("in a batch: %v %q, want %q", s, got, want)
			}
			if resp.Results[0].GetId() == "" {
				t.Errorf("the good one: %v", resp.Results[0])
			}
		})
	}
	n := len(limitCases())
	stored := b.events(t, 2*n)
	if len(stored) != 2*n {
		t.Errorf("%d events stored, want %d", len(stored), 2*n)
	}
	if got := e.metric(t, "events_rejected_total", "invalid"); got != float64(2*n) {
		t.Errorf("%v rejected, want %d", got, 2*n)
	}
}

// limitCase sets a field to its limit (over = 0) or beyond it (over = 1).
type limitCase struct {
	name  string
	field string // path within the event
	set   func(e *audittrailv1.Event, over int)
}

func (c limitCase) path(event string) string {
	if c.field == "" {
		return event
	}
	return event + "." + c.field
}

func limitCases() []limitCase {
	text := func(field string, limit int, set func(*audittrailv1.Event, string)) limitCase {
		return limitCase{field, field, func(e *audittrailv1.Event, over int) { set(e, strings.Repeat("x", limit+over)) }}
	}
	actor := func(e *audittrailv1.Event) *audittrailv1.Actor { return e.Actor }
	origin := func(e *audittrailv1.Event) *audittrailv1.Context {
		if e.Context == nil {
			e.Context = new(audittrailv1.Context)
		}
		return e.Context
	}
	resource := func(e *audittrailv1.Event) *audittrailv1.Resource {
		e.Resources = []*audittrailv1.Resource{{}, {}}
		return e.Resources[1]
	}
	reference := func(e *audittrailv1.Event) *audittrailv1.ActorReference {
		e.Actor.OnBehalfOf = []*audittrailv1.ActorReference{{}}
		return e.Actor.OnBehalfOf[0]
	}
	change := func(e *audittrailv1.Event) *audittrailv1.Change {
		e.Changes = []*audittrailv1.Change{{Path: "p"}}
		return e.Changes[0]
	}
	return []limitCase{
		text("source", event.MaxSource, func(e *audittrailv1.Event, s string) { e.Source = s }),
		text("idempotency_key", event.MaxIdempotencyKey, func(e *audittrailv1.Event, s string) { e.IdempotencyKey = s }),
		text("action", event.MaxAction, func(e *audittrailv1.Event, s string) { e.Action = s }),
		text("reason_code", event.MaxReasonCode, func(e *audittrailv1.Event, s string) { e.ReasonCode = s }),
		text("reason", event.MaxReason, func(e *audittrailv1.Event, s string) { e.Reason = s }),
		text("actor.type", event.MaxActorType, func(e *audittrailv1.Event, s string) { actor(e).Type = s }),
		text("actor.id", event.MaxActorID, func(e *audittrailv1.Event, s string) { actor(e).Id = s }),
		text("actor.name", event.MaxActorName, func(e *audittrailv1.Event, s string) { actor(e).Name = s }),
		text("actor.session", event.MaxActorSession, func(e *audittrailv1.Event, s string) { actor(e).Session = s }),
		text("actor.auth_method", event.MaxActorAuthMethod, func(e *audittrailv1.Event, s string) { actor(e).AuthMethod = s }),
		text("actor.on_behalf_of[0].type", event.MaxActorType, func(e *audittrailv1.Event, s string) { reference(e).Type = s }),
		text("actor.on_behalf_of[0].id", event.MaxActorID, func(e *audittrailv1.Event, s string) { reference(e).Id = s }),
		text("actor.on_behalf_of[0].name", event.MaxActorName, func(e *audittrailv1.Event, s string) { reference(e).Name = s }),
		text("resources[1].type", event.MaxResourceType, func(e *audittrailv1.Event, s string) { resource(e).Type = s }),
		text("resources[1].id", event.MaxResourceID, func(e *audittrailv1.Event, s string) { resource(e).Id = s }),
		text("resources[1].name", event.MaxResourceName, func(e *audittrailv1.Event, s string) { resource(e).Name = s }),
		text("changes[0].path", event.MaxChangePath, func(e *audittrailv1.Event, s string) { change(e).Path = s }),
		text("changes[0].old", event.MaxChangeValue, func(e *audittrailv1.Event, s string) { change(e).Old = &s }),
		text("changes[0].new", event.MaxChangeValue, func(e *audittrailv1.Event, s string) { change(e).New = &s }),
		text("context.user_agent", event.MaxUserAgent, func(e *audittrailv1.Event, s string) { origin(e).UserAgent = s }),
		text("context.request_id", event.MaxRequestID, func(e *audittrailv1.Event, s string) { origin(e).RequestId = s }),
		text("context.trace_id", event.MaxTraceID, func(e *audittrailv1.Event, s string) { origin(e).TraceId = s }),
		text("context.span_id", event.MaxSpanID, func(e *audittrailv1.Event, s string) { origin(e).SpanId = s }),
		text("context.host", event.MaxHost, func(e *audittrailv1.Event, s string) { origin(e).Host = s }),
		text("context.region", event.MaxRegion, func(e *audittrailv1.Event, s string) { origin(e).Region = s }),
		text("context.service_version", event.MaxServiceVersion, func(e *audittrailv1.Event, s string) { origin(e).ServiceVersion = s }),
		text(`attributes["k"]`, event.MaxAttributeValue, func(e *audittrailv1.Event, s string) { e.Attributes = map[string]string{"k": s} }),
		{"details", "details", func(e *audittrailv1.Event, over int) {
			e.Details = `{"k":"` + strings.Repeat("x", event.MaxDetails-8+over) + `"}`
		}},
		{"number of resources", "resources", func(e *audittrailv1.Event, over int) {
			e.Resources = slices.Repeat([]*audittrailv1.Resource{{Id: "r"}}, event.MaxResources+over)
		}},
		{"number of changes", "changes", func(e *audittrailv1.Event, over int) {
			e.Changes = slices.Repeat([]*audittrailv1.Change{{Path: "p"}}, event.MaxChanges+over)
		}},
		{"number of attributes", "attributes", func(e *audittrailv1.Event, over int) {
			e.Attributes = map[string]string{}
			for i := range event.MaxAttributes + over {
				e.Attributes[strings.Repeat("k", i+1)] = ""
			}
			delete(e.Attributes, strings.Repeat("k", 65))
			if over > 0 {
				e.Attributes["one more"] = ""
			}
		}},
		{"number on behalf of", "actor.on_behalf_of", func(e *audittrailv1.Event, over int) {
			e.Actor.OnBehalfOf = slices.Repeat([]*audittrailv1.ActorReference{{Id: "r"}}, event.MaxOnBehalfOf+over)
		}},
		{"earliest time", "occurred_at", func(e *audittrailv1.Event, over int) {
			e.OccurredAt = timestamppb.New(event.MinOccurredAt.Add(-time.Duration(over)))
		}},
		{"latest time", "occurred_at", func(e *audittrailv1.Event, over int) { // the emitter's clock goes on between the two
			e.OccurredAt = timestamppb.New(time.Now().Add(event.DefaultMaxFuture + time.Duration(over)*time.Minute))
		}},
		{"no time with a key", "occurred_at", func(e *audittrailv1.Event, over int) {
			if over > 0 {
				e.OccurredAt = nil
			}
		}},
		{"no action", "action", func(e *audittrailv1.Event, over int) {
			if over > 0 {
				e.Action = ""
			}
		}},
		{"not UTF-8", "reason", func(e *audittrailv1.Event, over int) {
			if over > 0 {
				e.Reason = "\xff"
			}
		}},
		{"encoded size", "", func(e *audittrailv1.Event, over int) {
			noise := func(n int) string { // stays as large when compressed
				b := make([]byte, n)
				for i := range b {
					b[i] = 'a' + byte(rand.IntN(26))
				}
				return string(b)
			}
			e.Details = `{"k":"` + noise(event.MaxDetails-8) + `"}`
			for range 7 {
				v := noise(event.MaxChangeValue - 100)
				e.Changes = append(e.Changes, &audittrailv1.Change{Path: "p", New: &v})
			}
			e.ReasonCode = "x"
			missing := event.MaxEncoded + over - e.SizeVT()
			v := noise(min(missing-16, event.MaxChangeValue))
			e.Changes = append(e.Changes, &audittrailv1.Change{Path: "p", New: &v})
			for e.SizeVT() < event.MaxEncoded+over {
				e.Changes[len(e.Changes)-1].Path += "p"
			}
		}},
	}
}

func TestWrongRequests(t *testing.T) {
	b := newBroker(t)
	e := newEmitter(t, options{broker: b}).ready(t)
	check := func(name string, err error, want ...string) {
		t.Helper()
		if got := fields(t, proto(err)); status.Code(err) != codes.InvalidArgument || !slices.Equal(got, want) {
			t.Errorf("%s: %v %q, want %q", name, err, got, want)
		}
	}
	batch := func(r *audittrailv1.BatchEmitEventsRequest) error {
		_, err := e.BatchEmitEvents(t.Context(), r)
		return err
	}
	_, err := e.EmitEvent(t.Context(), &audittrailv1.EmitEventRequest{})
	check("no event", err, "event")
	check("empty batch", batch(&audittrailv1.BatchEmitEventsRequest{}), "events")
	check("1,001 events", batch(&audittrailv1.BatchEmitEventsRequest{Events: newEvents("acme/a", 1001)}), "events")
	check("long request_id", batch(&audittrailv1.BatchEmitEventsRequest{Events: newEvents("acme/a", 1), RequestId: strings.Repeat("r", 129)}), "request_id")
	bad := newEvents("acme/a", 3)
	bad[0].Source, bad[1].Action, bad[1].Actor.Id, bad[2].Context = "", "a..b", strings.Repeat("x", 129), &audittrailv1.Context{Ip: "AWS Internal"}
	check("all wrong", batch(&audittrailv1.BatchEmitEventsRequest{Events: bad}),
		"events[0].source", "events[1].actor.id", "events[1].action", "events[2].context.ip")

	// gRPC's own refusal must not look retryable.
	huge := newEvents("acme/a", 1000)
	for _, h := range huge {
		h.Details = `{"k":"` + strings.Repeat("x", 5000) + `"}`
	}
	err = batch(&audittrailv1.BatchEmitEventsRequest{Events: huge})
	if status.Code(err) != codes.ResourceExhausted || detail[errdetails.RetryInfo](t, proto(err)) != nil {
		t.Errorf("over 4 MiB: %v", err)
	}
	// A thousand wrong events do not make an answer that clients cannot receive.
	many := newEvents("acme/a", 1000)
	for _, m := range many {
		m.Source = strings.Repeat("/", 200)
	}
	err = batch(&audittrailv1.BatchEmitEventsRequest{Events: many})
	if got := fields(t, proto(err)); status.Code(err) != codes.InvalidArgument || len(got) < 20 || gproto.Size(proto(err)) > 6<<10 {
		t.Errorf("1,000 wrong: %d fields, %d bytes", len(got), gproto.Size(proto(err)))
	}
}

func TestBatchOfManySourcesKeepsTheirOrder(t *testing.T) {
	b := newBroker(t)
	e := newEmitter(t, options{broker: b}).ready(t)
	sources := []string{"acme/a", "acme/b", "acme/c"}
	var events []*audittrailv1.Event
	for i := range 1000 { // more than one message for acme/a
		source := sources[0]
		if i%5 == 4 {
			source = sources[1+i%2]
		}
		events = append(events, newEvent(source, i))
	}
	resp, err := e.BatchEmitEvents(t.Context(), &audittrailv1.BatchEmitEventsRequest{Events: events})
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range resp.Results {
		if want := event.IDOf(events[i]).String(); r.GetId() != want {
			t.Fatalf("result %d: %v, want %s", i, r, want)
		}
	}
	got := map[string][]string{}
	messages := b.messages(t, 1000)
	for _, m := range messages {
		for _, stored := range m.events {
			if stored.Source != m.source {
				t.Fatalf("event of %s in a message of %s", stored.Source, m.source)
			}
			got[m.source] = append(got[m.source], stored.IdempotencyKey)
		}
	}
	want := map[string][]string{}
	for _, sent := range events {
		want[sent.Source] = append(want[sent.Source], sent.IdempotencyKey)
	}
	for _, source := range sources {
		if !slices.Equal(got[source], want[source]) {
			t.Errorf("%s: other events or another order", source)
		}
	}
	if len(messages) != 4 {
		t.Errorf("%d messages, want 4: two of acme/a", len(messages))
	}
	if n := e.metric(t, "events_accepted_total", ""); n != 1000 {
		t.Errorf("accepted %v", n)
	}
}

func TestConfigReportsAllProblems(t *testing.T) {
	err := emitters.Config{MaxInFlightBytes: 1, Linger: time.Minute, AckTimeout: -1, StreamWindow: -1, RedisTimeout: time.Hour}.Validate()
	for _, key := range []string{"max_in_flight_bytes", "linger", "ack_timeout", "stream_window", "redis_timeout"} {
		if err == nil || !strings.Contains(err.Error(), "emitter."+key) {
			t.Errorf("%s is not in: %v", key, err)
		}
	}
	if err := (emitters.Config{}).Validate(); err != nil {
		t.Errorf("defaults: %v", err)
	}
}
