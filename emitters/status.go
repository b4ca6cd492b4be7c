package emitters

import (
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/maxviazov/audittrail/proto/event"
)

// How long a producer is asked to wait, in RetryInfo. Clients add their own back-off and jitter.
const (
	retryOverloaded  = 250 * time.Millisecond // a busy emitter gets rid of its budget within a few round trips
	retryUnavailable = time.Second            // an election, a restart
)

// maxViolationBytes bounds the violations of an answer. The error of a whole call travels in HTTP/2 trailers, which clients accept up
// to 8 KiB (Java, C); base64 makes 3 bytes 4.
const maxViolationBytes = 4 << 10

// refusal is why events are not accepted, in all the forms in which it is answered.
type refusal struct {
	reason string // label of the metric
	status *spb.Status
}

var (
	refusedOverloaded = newRefusal(reasonOverloaded, codes.ResourceExhausted, "too many bytes in flight, try again", retryOverloaded)
	refusedFailed     = newRefusal(reasonUnavailable, codes.Unavailable, "the broker is not available, try again with the same key and time", retryUnavailable)
	refusedLate       = newRefusal(reasonLate, codes.Unavailable, "no acknowledgement in time, try again with the same key and time", retryUnavailable)
	refusedDraining   = newRefusal(reasonDraining, codes.Unavailable, "the emitter is shutting down, try again", retryOverloaded)
)

func newRefusal(reason string, code codes.Code, message string, retry time.Duration) *refusal {
	s, err := status.New(code, message).WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(retry)})
	if err != nil {
		panic(err) // a constant of this file
	}
	return &refusal{reason: reason, status: s.Proto()}
}

func (r *refusal) err() error { return status.ErrorProto(r.status) }

// violations collects what is wrong with the events of a call.
type violations struct {
	list  []*errdetails.BadRequest_FieldViolation
	bytes int
	more  int // left out for want of room
}

func (v *violations) add(field, description string) {
	n := len(field) + len(description) + 8
	if v.more > 0 || (v.bytes+n > maxViolationBytes && len(v.list) > 0) {
		v.more++
		return
	}
	v.bytes += n
	v.list = append(v.list, &errdetails.BadRequest_FieldViolation{Field: field, Description: description})
}

// addEvent adds what is wrong with the event that the request knows as path, e.g. events[3].
func (v *violations) addEvent(path string, found []event.Violation) {
	for _, f := range found {
		field := path
		if f.Field != "" {
			field += "." + f.Field
		}
		v.add(field, f.Description)
	}
}

func (v *violations) status() *spb.Status {
	message := v.list[0].Field + " " + v.list[0].Description
	if n := len(v.list) - 1 + v.more; n > 0 {
		message += fmt.Sprintf(" (and %d more)", n)
	}
	s, err := status.New(codes.InvalidArgument, message).WithDetails(&errdetails.BadRequest{FieldViolations: v.list})
	if err != nil {
		panic(err) // only a text that is not valid UTF-8, and package event makes none
	}
	return s.Proto()
}
