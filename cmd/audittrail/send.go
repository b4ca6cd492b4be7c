package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

const (
	sendEvents  = 500         // events of one request; the server takes 1,000
	sendBytes   = 2 << 20     // bytes of one request; the server takes 4 MiB
	sendTimeout = time.Minute // how long one event is tried
)

// stamp gives an event key and time before the first try, so that every retry is the same event (R20).
func stamp(e *audittrailv1.Event) {
	if e.OccurredAt != nil {
		if e.IdempotencyKey == "" {
			e.IdempotencyKey = rand.Text()
		}
		return
	}
	if e.IdempotencyKey == "" { // a key without a time is the producer's mistake, and refused
		e.OccurredAt, e.IdempotencyKey = timestamppb.Now(), rand.Text()
	}
}

// outcome is what became of one event: an id or why not.
type outcome struct {
	id     string
	status *status.Status // nil: acknowledged
}

// send records events of one request and tries again what may be tried again, for sendTimeout. It returns one outcome an event, and an error
// only when some could not be tried to the end: those have a retryable status. It says to notes, once, that it tries again and why; nil: it does not.
func send(ctx context.Context, client audittrailv1.EmitterServiceClient, events []*audittrailv1.Event, notes io.Writer) ([]outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	outcomes := make([]outcome, len(events))
	open := make([]int, len(events))
	for i := range open {
		open[i] = i
	}
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		request := &audittrailv1.BatchEmitEventsRequest{Events: make([]*audittrailv1.Event, len(open))}
		for i, at := range open {
			request.Events[i] = events[at]
		}
		resp, err := client.BatchEmitEvents(ctx, request)
		if err == nil && len(resp.Results) != len(open) {
			return outcomes, fmt.Errorf("send events: %d results for %d events", len(resp.Results), len(open))
		}
		var whole []*status.Status
		if err != nil {
			whole = perEvent(status.Convert(err), len(open))
		}
		var again []int
		for i, at := range open {
			switch {
			case err != nil && whole[i] == nil: // refused, and the answer had no room for why
				outcomes[at].status = status.Convert(err)
				again = append(again, at)
				continue
			case err != nil:
				outcomes[at].status = whole[i]
			case resp.Results[i].GetStatus() != nil:
				st := status.FromProto(resp.Results[i].GetStatus())
				if outcomes[at].status = perEvent(st, len(open))[i]; outcomes[at].status == nil {
					outcomes[at].status = st
				}
			default:
				outcomes[at] = outcome{id: resp.Results[i].GetId()}
				continue
			}
			if mayRetry(outcomes[at].status) {
				again = append(again, at)
			}
		}
		if open = again; len(open) == 0 {
			return outcomes, nil
		}
		if notes != nil && ctx.Err() == nil {
			fmt.Fprintf(notes, "trying again for %s: %s\n", sendTimeout, describeStatus(outcomes[open[0]].status))
			notes = nil
		}
		select {
		case <-ctx.Done():
			return outcomes, unavailableError{fmt.Errorf("%s not acknowledged: %s", number(len(open), "event"), describeStatus(outcomes[open[0]].status))}
		case <-time.After(wait):
		}
	}
}

// perEvent splits an error of a whole call of n events: what the server says about events[i].… is event i's alone. Nil where it says nothing of
// an event that is refused; what is about no event in particular is everybody's.
func perEvent(st *status.Status, n int) []*status.Status {
	each := make([]*status.Status, n)
	violations := make(map[int][]*errdetails.BadRequest_FieldViolation)
	for _, d := range st.Details() {
		bad, ok := d.(*errdetails.BadRequest)
		if !ok {
			continue
		}
		for _, v := range bad.FieldViolations {
			head, field, _ := strings.Cut(strings.TrimPrefix(v.Field, "events["), "]")
			if i, err := strconv.Atoi(head); err == nil && i >= 0 && i < n && strings.HasPrefix(v.Field, "events[") {
				violations[i] = append(violations[i], &errdetails.BadRequest_FieldViolation{Field: strings.TrimPrefix(field, "."), Description: v.Description})
			}
		}
	}
	for i := range each {
		switch own := violations[i]; {
		case len(violations) == 0:
			each[i] = st
		case len(own) > 0:
			each[i] = withViolations(st.Code(), own)
		}
	}
	return each
}

func withViolations(code codes.Code, list []*errdetails.BadRequest_FieldViolation) *status.Status {
	st, err := status.New(code, "invalid event").WithDetails(&errdetails.BadRequest{FieldViolations: list})
	if err != nil {
		return status.New(code, "invalid event") // only for text that is not UTF-8, which the wire does not carry
	}
	return st
}

func mayRetry(st *status.Status) bool {
	switch st.Code() {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		return true
	case codes.ResourceExhausted:
		return retryable(st)
	default:
		return false
	}
}
