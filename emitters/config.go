package emitters

import (
	"errors"
	"fmt"
	"time"

	"github.com/maxviazov/audittrail/proto/event"
)

// Limits of the service that are part of its contract.
const (
	// MaxRequestEvents is the greatest number of events in one BatchEmitEvents.
	MaxRequestEvents = 1000
	// MaxRequestBytes is the greatest encoded request; a larger one is refused by gRPC itself, with RESOURCE_EXHAUSTED and without
	// RetryInfo.
	MaxRequestBytes = 4 << 20
	// MaxRequestID is the greatest length of a request_id in bytes.
	MaxRequestID = 128
)

// Config holds the tunables of the emitter. A zero field takes its default.
type Config struct {
	// MaxInFlightBytes bounds the events that are accepted but not yet resolved by the producer, with EventOverhead each. Beyond it
	// events are refused with RESOURCE_EXHAUSTED. The process needs about three times as much memory, and 24 MiB. Default 64 MiB, at least 1 MiB.
	MaxInFlightBytes int64
	// MaxFuture is how far occurred_at may lie after the time of receipt. Default 5 min, 1 s to 24 h.
	MaxFuture time.Duration
	// Linger is how long events of a source wait for others while a message of that source is in flight. An idle source never
	// waits. Default 5 ms, at most 1 s; negative: none.
	Linger time.Duration
	// AckTimeout is how long a call waits for the broker; then it is UNAVAILABLE. Default 10 s, 10 ms to 10 min.
	AckTimeout time.Duration
	// StreamWindow is the number of events of one stream that may be unacknowledged; then the emitter stops reading it.
	// Default 10,000, 1 to 1,000,000.
	StreamWindow int
	// RequestTTL is how long the answer to a request_id is remembered in Redis. Default 10 min, 1 s to 24 h.
	RequestTTL time.Duration
	// RedisTimeout bounds each of the two look-ups of a request_id; without an answer the request goes through. Default 50 ms, 1 ms
	// to 1 s.
	RedisTimeout time.Duration
	// DrainTimeout bounds the drain at the end of Run. Default 15 s, 10 ms to 10 min.
	DrainTimeout time.Duration
}

// WithDefaults returns the configuration with defaults in the place of zero fields.
func (c Config) WithDefaults() Config {
	setDefault(&c.MaxInFlightBytes, 64<<20)
	setDefault(&c.MaxFuture, event.DefaultMaxFuture)
	setDefault(&c.Linger, 5*time.Millisecond)
	setDefault(&c.AckTimeout, 10*time.Second)
	setDefault(&c.StreamWindow, 10_000)
	setDefault(&c.RequestTTL, 10*time.Minute)
	setDefault(&c.RedisTimeout, 50*time.Millisecond)
	setDefault(&c.DrainTimeout, 15*time.Second)
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate reports all problems at once, after defaults.
func (c Config) Validate() error {
	c = c.WithDefaults()
	var problems []error
	within := func(key string, d, low, high time.Duration) {
		if d < low || d > high {
			problems = append(problems, fmt.Errorf("emitter.%s is %s, must be %s to %s", key, d, low, high))
		}
	}
	if c.MaxInFlightBytes < 1<<20 {
		problems = append(problems, fmt.Errorf("emitter.max_in_flight_bytes is %d, must be at least %d", c.MaxInFlightBytes, 1<<20))
	}
	if c.StreamWindow < 1 || c.StreamWindow > 1_000_000 {
		problems = append(problems, fmt.Errorf("emitter.stream_window is %d, must be 1 to 1000000", c.StreamWindow))
	}
	if c.Linger > time.Second {
		problems = append(problems, fmt.Errorf("emitter.linger is %s, must be at most 1s", c.Linger))
	}
	within("max_future", c.MaxFuture, time.Second, 24*time.Hour)
	within("ack_timeout", c.AckTimeout, 10*time.Millisecond, 10*time.Minute)
	within("request_ttl", c.RequestTTL, time.Second, 24*time.Hour)
	within("redis_timeout", c.RedisTimeout, time.Millisecond, time.Second)
	within("drain_timeout", c.DrainTimeout, 10*time.Millisecond, 10*time.Minute)
	return errors.Join(problems...)
}
