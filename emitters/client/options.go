package client

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
)

// Options are the tunables of a Client. A zero field takes its default.
type Options struct {
	// MaxBatchEvents and MaxBatchBytes bound one call. Defaults 500 and 1 MiB; at most 1,000 and 3 MiB.
	MaxBatchEvents int
	MaxBatchBytes  int
	// Linger is how long an event waits for others to go with it. Default 5 ms; negative: not at all; at most 10 s.
	Linger time.Duration
	// MaxBufferEvents and MaxBufferBytes bound the events that Emit took and that have no result. Defaults 10,000 and 16 MiB.
	MaxBufferEvents int
	MaxBufferBytes  int
	// MaxBlock is how long Emit waits for room in the buffer before it returns ErrBufferFull. Default 100 ms; negative: not at all.
	MaxBlock time.Duration
	// Concurrency is the number of calls under way at a time. Default 4; at most 64.
	Concurrency int
	// CallTimeout is the deadline of one try. Above the emitter's own time-out (10 s by default), so that it can answer. Default 15 s.
	CallTimeout time.Duration
	// DeliveryTimeout is how long an event is tried, from Emit on. A try under way at that time is still awaited. Default 2 min.
	DeliveryTimeout time.Duration
	// MinBackoff and MaxBackoff bound the wait between tries, which doubles and is jittered, and is never shorter than the emitter
	// asks for. Defaults 100 ms and 10 s.
	MinBackoff time.Duration
	MaxBackoff time.Duration
	// OnUndelivered is called once for each event that is given up, on a goroutine of the client: it must be quick and must not call
	// Flush or Close. Nil: the event's Delivery alone says so.
	OnUndelivered func(Undelivered)
	// DialOptions are for New: at least the transport credentials.
	DialOptions []grpc.DialOption
}

// Undelivered is an event that was given up. Unless Err is INVALID_ARGUMENT it may have been recorded nevertheless (an answer that
// got lost); sending Event again, as it is, is always safe.
type Undelivered struct {
	Event *audittrailv1.Event
	ID    event.ID
	// Err is a gRPC status of the last try, or wraps ErrGivenUp or ErrClosed.
	Err error
}

// withDefaults returns the options with defaults in the place of zero fields.
func (o Options) withDefaults() Options {
	setDefault(&o.MaxBatchEvents, 500)
	setDefault(&o.MaxBatchBytes, 1<<20)
	setDefault(&o.Linger, 5*time.Millisecond)
	setDefault(&o.MaxBufferEvents, 10_000)
	setDefault(&o.MaxBufferBytes, 16<<20)
	setDefault(&o.MaxBlock, 100*time.Millisecond)
	setDefault(&o.Concurrency, 4)
	setDefault(&o.CallTimeout, 15*time.Second)
	setDefault(&o.DeliveryTimeout, 2*time.Minute)
	setDefault(&o.MinBackoff, 100*time.Millisecond)
	setDefault(&o.MaxBackoff, 10*time.Second)
	return o
}

func setDefault[T int | time.Duration](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}

// validate reports all problems at once.
func (o Options) validate() error {
	var problems []error
	require := func(ok bool, format string, args ...any) {
		if !ok {
			problems = append(problems, fmt.Errorf(format, args...))
		}
	}
	require(o.MaxBatchEvents >= 1 && o.MaxBatchEvents <= 1000, "MaxBatchEvents is %d, must be 1 to 1000", o.MaxBatchEvents)
	require(o.MaxBatchBytes >= event.MaxEncoded+16 && o.MaxBatchBytes <= 3<<20,
		"MaxBatchBytes is %d, must be %d to %d", o.MaxBatchBytes, event.MaxEncoded+16, 3<<20)
	require(o.Linger <= 10*time.Second, "Linger is %s, must be at most 10s", o.Linger)
	require(o.MaxBufferEvents >= 1, "MaxBufferEvents is %d, must be at least 1", o.MaxBufferEvents)
	require(o.MaxBufferBytes >= event.MaxEncoded, "MaxBufferBytes is %d, must be at least %d", o.MaxBufferBytes, event.MaxEncoded)
	require(o.Concurrency >= 1 && o.Concurrency <= 64, "Concurrency is %d, must be 1 to 64", o.Concurrency)
	require(o.CallTimeout > 0, "CallTimeout is %s, must be above 0", o.CallTimeout)
	require(o.DeliveryTimeout > 0, "DeliveryTimeout is %s, must be above 0", o.DeliveryTimeout)
	require(o.MinBackoff > 0 && o.MinBackoff <= o.MaxBackoff, "MinBackoff is %s, must be above 0 and at most MaxBackoff (%s)", o.MinBackoff, o.MaxBackoff)
	return errors.Join(problems...)
}
