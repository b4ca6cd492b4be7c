package client

import (
	"math/rand/v2"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// retryable says whether what got this status may be sent again, and how long the emitter asks to wait. RESOURCE_EXHAUSTED counts only
// with RetryInfo: without, it is gRPC's refusal of a message that is too large and will always be.
func retryable(s *status.Status) (after time.Duration, ok bool) {
	var info *errdetails.RetryInfo
	for _, d := range s.Details() {
		if i, is := d.(*errdetails.RetryInfo); is {
			info = i
			after = i.GetRetryDelay().AsDuration()
		}
	}
	switch s.Code() {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Aborted, codes.Canceled:
		return after, true
	case codes.ResourceExhausted:
		return after, info != nil
	default:
		return 0, false
	}
}

// backoff is the wait before try n+1 (n from 1): doubled with each, half of it random so that clients do not come back together, and not
// shorter than the emitter asks for.
func (o *Options) backoff(n int, asked time.Duration) time.Duration {
	wait := o.MaxBackoff
	if n < 30 {
		wait = min(wait, o.MinBackoff<<(n-1))
	}
	wait = wait/2 + rand.N(wait/2+1)
	if asked > wait {
		wait = asked + rand.N(asked/4+1)
	}
	return wait
}
