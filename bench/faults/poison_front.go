package faults

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/google/uuid"

	"github.com/maxviazov/audittrail/bench/load"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// refused checks that a status refuses for good and names the field.
func refused(t *T, st *status.Status, field string) {
	t.Helper()
	if st.Code() != codes.InvalidArgument {
		t.Errorf("%s: answered %s %q, want INVALID_ARGUMENT", field, st.Code(), st.Message())
		return
	}
	var named []string
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.BadRequest:
			for _, v := range d.FieldViolations {
				named = append(named, v.Field)
				if v.Description == "" {
					t.Errorf("%s: violation without a description", field)
				}
			}
		case *errdetails.RetryInfo:
			t.Errorf("%s: a refusal for good has RetryInfo", field)
		}
	}
	if !slices.Contains(named, field) {
		t.Errorf("%s is not named; %q are", field, named)
	}
}

func path(event string, l limit) string {
	if l.field == "" {
		return event
	}
	return event + "." + l.field
}

// bad lists all that is wrong with a single event.
func bad() []limit { return append(append(limits(), wrongs()...), notUTF8()...) }

func (b *badInput) limitsSingly(t *T) {
	for _, l := range limits() {
		e := b.broken("bad/single/prod", l, 0)
		response, err := b.emitter.EmitEvent(t.Context(), &audittrailv1.EmitEventRequest{Event: e})
		if err != nil {
			t.Errorf("%s at its limit: %v", l.field, err)
			continue
		}
		b.acked(t, e, response.GetId())
	}
	for _, l := range bad() {
		_, err := b.emitter.EmitEvent(t.Context(), &audittrailv1.EmitEventRequest{Event: b.broken("bad/single/prod", l, 1)})
		refused(t, status.Convert(err), path("event", l))
	}
}

// acked enters an acknowledged event; the id is derived from what was sent.
func (b *badInput) acked(t *T, e *audittrailv1.Event, id string) {
	t.Helper()
	if want := uuid.UUID(load.ID(e)).String(); id != want {
		t.Errorf("acknowledged as %q, want %s", id, want)
	}
	b.store(t, e)
}

// A call with good and bad events answers OK, each event for itself; one with bad events only is refused as a whole.
func (b *badInput) limitsInBatch(t *T) {
	all := bad()
	req := &audittrailv1.BatchEmitEventsRequest{}
	for _, l := range all {
		req.Events = append(req.Events, b.event("bad/batch/prod"), b.broken("bad/batch/prod", l, 1))
	}
	req.Events = append(req.Events, b.event("bad/batch/prod"))
	response, err := b.emitter.BatchEmitEvents(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if len(response.Results) != len(req.Events) {
		t.Fatalf("%d results for %d events", len(response.Results), len(req.Events))
	}
	for i, r := range response.Results {
		if i%2 == 0 {
			b.acked(t, req.Events[i], r.GetId())
			continue
		}
		refused(t, status.FromProto(r.GetStatus()), path(fmt.Sprintf("events[%d]", i), all[i/2]))
	}

	onlyBad := &audittrailv1.BatchEmitEventsRequest{}
	for _, l := range all[:10] {
		onlyBad.Events = append(onlyBad.Events, b.broken("bad/batch/prod", l, 1))
	}
	_, err = b.emitter.BatchEmitEvents(t.Context(), onlyBad)
	for i, l := range all[:10] {
		refused(t, status.Convert(err), path(fmt.Sprintf("events[%d]", i), l))
	}
}

func (b *badInput) limitsInStream(t *T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	stream, err := b.emitter.StreamEvents(ctx)
	if err != nil {
		t.Fatal(err)
	}
	all := bad()
	var sent []*audittrailv1.Event
	for _, l := range all {
		sent = append(sent, b.event("bad/stream/prod"), b.broken("bad/stream/prod", l, 1))
	}
	sent = append(sent, b.event("bad/stream/prod"))
	for i, e := range sent {
		if err := stream.Send(&audittrailv1.StreamEventsRequest{Sequence: int64(1000 + i), Event: e}); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	answered := map[int64]bool{}
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range response.GetAcks() {
			i := int(a.GetSequence() - 1000)
			if answered[a.GetSequence()] || i < 0 || i >= len(sent) {
				t.Fatalf("acknowledgement of %d, which was not sent or answered before", a.GetSequence())
			}
			answered[a.GetSequence()] = true
			if i%2 == 0 {
				b.acked(t, sent[i], a.GetResult().GetId())
				continue
			}
			refused(t, status.FromProto(a.GetResult().GetStatus()), path("event", all[i/2]))
		}
	}
	if len(answered) != len(sent) {
		t.Errorf("%d of %d events of the stream were answered", len(answered), len(sent))
	}
}
