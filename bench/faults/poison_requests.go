package faults

import (
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// What is wrong with a request as a whole.
func (b *badInput) requests(t *T) {
	many := func(n int) (events []*audittrailv1.Event) {
		for range n {
			events = append(events, b.event("bad/request/prod"))
		}
		return events
	}
	for _, c := range []struct {
		field string
		req   *audittrailv1.BatchEmitEventsRequest
	}{
		{"events", &audittrailv1.BatchEmitEventsRequest{}},
		{"events", &audittrailv1.BatchEmitEventsRequest{Events: many(1001)}},
		{"request_id", &audittrailv1.BatchEmitEventsRequest{Events: many(1), RequestId: chars(129)}},
		{"request_id", &audittrailv1.BatchEmitEventsRequest{Events: many(1), RequestId: "\xff"}},
		{"events[0].idempotency_key", &audittrailv1.BatchEmitEventsRequest{RequestId: "r", Events: []*audittrailv1.Event{{Source: "bad/request/prod", Action: "a.b"}}}},
	} {
		_, err := b.emitter.BatchEmitEvents(t.Context(), c.req)
		refused(t, status.Convert(err), c.field)
	}
	_, err := b.emitter.EmitEvent(t.Context(), &audittrailv1.EmitEventRequest{})
	refused(t, status.Convert(err), "event")

	// Over 4 MiB gRPC itself refuses: clients see that a retry is of no use by the missing RetryInfo.
	large := many(100)
	for _, e := range large {
		e.Details, e.Reason = jsonOf(32<<10), chars(1<<10)
		changes(e, 3).New = proto.String(chars(4 << 10))
		e.Changes[0].New, e.Changes[1].New = e.Changes[2].New, e.Changes[2].New
	}
	_, err = b.emitter.BatchEmitEvents(t.Context(), &audittrailv1.BatchEmitEventsRequest{Events: large})
	st := status.Convert(err)
	if st.Code() != codes.ResourceExhausted || retryDelay(st.Proto()) != 0 {
		t.Errorf("a request over 4 MiB is answered with %v", st)
	}
	// What a request may be at most goes through.
	most := many(1000)
	response, err := b.emitter.BatchEmitEvents(t.Context(), &audittrailv1.BatchEmitEventsRequest{Events: most, RequestId: chars(128)})
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range response.GetResults() {
		b.acked(t, most[i], r.GetId())
	}
}

// retryDelay is the delay of RetryInfo; 0: there is none.
func retryDelay(st *spb.Status) time.Duration {
	for _, d := range status.FromProto(st).Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok {
			return info.GetRetryDelay().AsDuration()
		}
	}
	return 0
}
