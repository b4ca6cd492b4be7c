package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/maxviazov/audittrail/internal/grpccodec"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
)

var (
	// ErrBufferFull is returned by Emit when the buffer had no room within Options.MaxBlock. The event was not taken.
	ErrBufferFull = errors.New("buffer of the audit client is full")
	// ErrClosed is returned by Emit after Close, and is the reason of events that Close had no time for.
	ErrClosed = errors.New("audit client is closed")
	// ErrGivenUp is the reason of events that were not delivered within Options.DeliveryTimeout; it wraps the last status.
	ErrGivenUp = errors.New("not delivered in time")
)

// InvalidError is returned by Emit for an event that breaks a limit. It was not taken.
type InvalidError struct{ Violations []event.Violation }

// Error names the first field that is wrong.
func (e *InvalidError) Error() string {
	v := e.Violations[0]
	if v.Field == "" {
		v.Field = "event"
	}
	return fmt.Sprintf("invalid event: %s %s (%d problems)", v.Field, v.Description, len(e.Violations))
}

// Client sends events to an emitter. Its methods may be called from any goroutine.
type Client struct {
	options Options
	rpc     audittrailv1.EmitterServiceClient
	conn    *grpc.ClientConn // nil: the caller's

	buffer  *buffer
	cancel  context.CancelFunc // ends calls and waits
	workers sync.WaitGroup
	close   sync.Once
	closed  error
}

// New returns a client of the emitter at the target (a gRPC target such as host:port). Options.DialOptions must say how to secure the
// connection. It connects in the background: its only errors are those of the options.
func New(target string, options Options) (*Client, error) {
	dial := append([]grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
		// gRPC's own default waits up to two minutes before it tries a restarted emitter again.
		Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second},
		MinConnectTimeout: 5 * time.Second,
	})}, options.DialOptions...)
	conn, err := grpc.NewClient(target, dial...)
	if err != nil {
		return nil, fmt.Errorf("audit client: %w", err)
	}
	c, err := NewWithConn(conn, options)
	if err != nil {
		conn.Close()
		return nil, err
	}
	c.conn = conn
	return c, nil
}

// NewWithConn is New for a connection that the caller has, and closes after the client.
func NewWithConn(conn grpc.ClientConnInterface, options Options) (*Client, error) {
	options = options.withDefaults()
	if err := options.validate(); err != nil {
		return nil, fmt.Errorf("audit client: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &Client{options: options, rpc: audittrailv1.NewEmitterServiceClient(conn), buffer: newBuffer(&options), cancel: cancel}
	for range options.Concurrency {
		c.workers.Go(func() { c.work(ctx) })
	}
	return c, nil
}

var callOptions = []grpc.CallOption{grpc.ForceCodecV2(grpccodec.New())}

// Delivery is what becomes of one event.
type Delivery struct {
	// ID is the event's identity.
	ID   event.ID
	done chan struct{}
	err  error // set before done is closed
}

// Done is closed when there is a result.
func (d *Delivery) Done() <-chan struct{} { return d.done }

// Wait waits for the result: nil when the event is recorded, else why it was given up, or the error of ctx, which says nothing about
// the event.
func (d *Delivery) Wait(ctx context.Context) error {
	select {
	case <-d.done:
		return d.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Emit takes the event into the buffer and returns at once, or waits for room for at most Options.MaxBlock. It sets the time and a
// random key where the event has none; after Emit the event belongs to the client. The Delivery may be ignored. Errors, with which the
// event was not taken: *InvalidError, ErrBufferFull, ErrClosed, that of ctx.
func (c *Client) Emit(ctx context.Context, e *audittrailv1.Event) (*Delivery, error) {
	if e == nil {
		return nil, &InvalidError{[]event.Violation{{Description: "is required"}}}
	}
	now := time.Now()
	// Once, before the first try: a retry with another key or time would be another event (rule R20).
	if e.IdempotencyKey == "" {
		e.IdempotencyKey = rand.Text()
		if e.OccurredAt == nil {
			e.OccurredAt = timestamppb.New(now)
		}
	}
	size := e.SizeVT()
	if found := event.Validate(e, size, event.Bounds{Now: now}); len(found) > 0 {
		return nil, &InvalidError{found}
	}
	i := &item{event: e, size: size, since: now, delivery: &Delivery{ID: event.IDOf(e), done: make(chan struct{})}}
	if err := c.buffer.put(ctx, i); err != nil {
		return nil, err
	}
	return i.delivery, nil
}

// Flush sends what is in the buffer without lingering and waits until each event that was taken before has a result. Its error says how
// many were not delivered, with the reason of one, or is that of ctx.
func (c *Client) Flush(ctx context.Context) error {
	failed := 0
	var reason error
	deliveries := c.buffer.flush()
	for n, d := range deliveries {
		select {
		case <-d.done:
		case <-ctx.Done():
			return fmt.Errorf("flush: up to %d events without a result: %w", len(deliveries)-n, ctx.Err())
		}
		if d.err != nil {
			failed++
			reason = d.err
		}
	}
	if failed > 0 {
		return fmt.Errorf("flush: %d of %d events not delivered: %w", failed, len(deliveries), reason)
	}
	return nil
}

// Close takes no more events, flushes, and ends the client. When ctx ends first, the events that are left get ErrClosed. After Close
// every event has a result. Its error is that of Flush. Calling it again returns the same.
func (c *Client) Close(ctx context.Context) error {
	c.close.Do(func() {
		c.buffer.shut()
		c.closed = c.Flush(ctx)
		c.cancel() // workers find that out with each event that is left, and end when there is none
		c.workers.Wait()
		if c.conn != nil {
			c.closed = errors.Join(c.closed, c.conn.Close())
		}
	})
	return c.closed
}
