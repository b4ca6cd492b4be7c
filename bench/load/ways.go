package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/maxviazov/audittrail/emitters/client"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/stream"
)

// way is one way of events into audit-events. deliver repeats, with the same keys and times, what is not acknowledged, and returns when
// everything is, when ctx ends, or when an event is refused for good. It may be called from several goroutines.
type way interface {
	deliver(ctx context.Context, events []*audittrailv1.Event) error
}

// allWays are EmitEvent, BatchEmitEvents, StreamEvents, the client library, and a producer of Kafka's that does without the emitter. end
// closes what was opened.
func (c Config) allWays(retries *atomic.Int64) (ways []way, end func(), err error) {
	raw, err := kgo.NewClient(kgo.SeedBrokers(c.Brokers...), kgo.DefaultProduceTopic(stream.Events), // idempotent, acks=all, murmur2
		kgo.ProducerLinger(2*time.Millisecond), kgo.ProducerBatchMaxBytes(int32(stream.MaxProducerMessageBytes(stream.Events))))
	if err != nil {
		return nil, nil, fmt.Errorf("make a producer: %w", err)
	}
	library, err := client.NewWithConn(c.Conns[0], client.Options{DeliveryTimeout: 20 * time.Second, MaxBlock: 5 * time.Second, CallTimeout: c.Timeout})
	if err != nil {
		raw.Close()
		return nil, nil, fmt.Errorf("make a client: %w", err)
	}
	s := &streams{conns: c.Conns, timeout: c.Timeout, retries: retries}
	end = func() {
		s.close()
		raw.Close()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = library.Close(ctx) // every delivery has been waited for, or the load has failed
	}
	return []way{singles{c.Conns, c.Timeout, retries}, batches{c.Conns, c.Timeout, retries}, s, libraries{library, retries}, raws{raw, retries}}, end, nil
}

// again calls try, which returns what is not acknowledged yet, until nothing is left.
func again(ctx context.Context, retries *atomic.Int64, events []*audittrailv1.Event, try func([]*audittrailv1.Event) ([]*audittrailv1.Event, error)) error {
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		open, err := try(events)
		if err != nil || len(open) == 0 {
			return err
		}
		events = open
		retries.Add(1)
		if !sleep(ctx, wait) {
			return context.Cause(ctx)
		}
	}
}

func anyOf(conns []grpc.ClientConnInterface) grpc.ClientConnInterface {
	return conns[rand.IntN(len(conns))]
}

// batches calls BatchEmitEvents.
type batches struct {
	conns   []grpc.ClientConnInterface
	timeout time.Duration
	retries *atomic.Int64
}

func (w batches) deliver(ctx context.Context, events []*audittrailv1.Event) error {
	return again(ctx, w.retries, events, func(open []*audittrailv1.Event) ([]*audittrailv1.Event, error) {
		callCtx, cancel := context.WithTimeout(ctx, w.timeout)
		defer cancel()
		response, err := audittrailv1.NewEmitterServiceClient(anyOf(w.conns)).BatchEmitEvents(callCtx, &audittrailv1.BatchEmitEventsRequest{Events: open})
		switch {
		case err == nil:
			return unacked(open, response)
		case retryable(status.Code(err)):
			return open, nil
		}
		return nil, fmt.Errorf("emit %d events: %w", len(open), err)
	})
}

// singles calls EmitEvent for each event, several at a time.
type singles struct {
	conns   []grpc.ClientConnInterface
	timeout time.Duration
	retries *atomic.Int64
}

func (w singles) deliver(ctx context.Context, events []*audittrailv1.Event) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for _, e := range events {
		g.Go(func() error {
			return again(ctx, w.retries, []*audittrailv1.Event{e}, func(open []*audittrailv1.Event) ([]*audittrailv1.Event, error) {
				callCtx, cancel := context.WithTimeout(ctx, w.timeout)
				defer cancel()
				response, err := audittrailv1.NewEmitterServiceClient(anyOf(w.conns)).EmitEvent(callCtx, &audittrailv1.EmitEventRequest{Event: e})
				switch {
				case err == nil:
					return nil, sameID(e, response.GetId())
				case retryable(status.Code(err)):
					return open, nil
				}
				return nil, fmt.Errorf("emit an event: %w", err)
			})
		})
	}
	return g.Wait()
}

func sameID(e *audittrailv1.Event, id string) error {
	if want := uuid.UUID(ID(e)).String(); id != want {
		return fmt.Errorf("an event was acknowledged as %q, want %s", id, want)
	}
	return nil
}

// libraries emits through the client library, which repeats by itself; what it gives up is emitted again.
type libraries struct {
	client  *client.Client
	retries *atomic.Int64
}

func (w libraries) deliver(ctx context.Context, events []*audittrailv1.Event) error {
	return again(ctx, w.retries, events, func(open []*audittrailv1.Event) (left []*audittrailv1.Event, err error) {
		deliveries := make([]*client.Delivery, len(open))
		for i, e := range open {
			// The client owns what it took. Of an event that it did not take for want of room there is no delivery.
			deliveries[i], err = w.client.Emit(ctx, e.CloneVT())
			if err != nil && !errors.Is(err, client.ErrBufferFull) {
				return nil, fmt.Errorf("emit by the library: %w", err)
			}
		}
		for i, d := range deliveries {
			if d == nil {
				left = append(left, open[i])
				continue
			}
			switch err := d.Wait(ctx); {
			case err == nil:
				if err := sameID(open[i], uuid.UUID(d.ID).String()); err != nil {
					return nil, err
				}
			case errors.Is(err, client.ErrGivenUp):
				left = append(left, open[i])
			default:
				return nil, fmt.Errorf("delivery by the library: %w", err)
			}
		}
		return left, nil
	})
}

// raws produces straight into audit-events, an encoded event a message, its source the key.
type raws struct {
	kafka   *kgo.Client
	retries *atomic.Int64
}

func (w raws) deliver(ctx context.Context, events []*audittrailv1.Event) error {
	return again(ctx, w.retries, events, func(open []*audittrailv1.Event) (left []*audittrailv1.Event, err error) {
		records := make([]*kgo.Record, len(open))
		for i, e := range open {
			records[i] = &kgo.Record{Key: []byte(e.GetSource())}
			if records[i].Value, err = e.MarshalVT(); err != nil {
				return nil, fmt.Errorf("encode an event: %w", err)
			}
		}
		var mu sync.Mutex
		var done sync.WaitGroup
		done.Add(len(open))
		for i, r := range records {
			w.kafka.Produce(ctx, r, func(_ *kgo.Record, err error) {
				defer done.Done()
				if err != nil {
					mu.Lock()
					left = append(left, open[i])
					mu.Unlock()
				}
			})
		}
		done.Wait()
		return left, context.Cause(ctx)
	})
}

// streams sends by StreamEvents. A stream serves one delivery at a time, and the next one when all its acknowledgements came.
type streams struct {
	conns   []grpc.ClientConnInterface
	timeout time.Duration
	retries *atomic.Int64

	mu   sync.Mutex
	idle []*openStream
}

type openStream struct {
	audittrailv1.EmitterService_StreamEventsClient
	cancel   context.CancelFunc
	sequence int64
}

func (w *streams) deliver(ctx context.Context, events []*audittrailv1.Event) error {
	return again(ctx, w.retries, events, func(open []*audittrailv1.Event) ([]*audittrailv1.Event, error) {
		s, err := w.take()
		if err != nil {
			return open, nil // the connection is down for now
		}
		late := time.AfterFunc(w.timeout, s.cancel)
		over := context.AfterFunc(ctx, s.cancel)
		left, whole, err := s.send(open)
		if late.Stop() && over() && whole && err == nil {
			w.put(s)
		} else {
			s.cancel()
		}
		return left, err
	})
}

// send sends the events and reads their acknowledgements. whole: the stream goes on after it. left are the events without one.
func (s *openStream) send(events []*audittrailv1.Event) (left []*audittrailv1.Event, whole bool, err error) {
	first := s.sequence + 1
	for _, e := range events {
		s.sequence++
		if s.Send(&audittrailv1.StreamEventsRequest{Sequence: s.sequence, Event: e}) != nil {
			break // Recv has the reason
		}
	}
	open := map[int64]*audittrailv1.Event{}
	for i, e := range events {
		open[first+int64(i)] = e
	}
	for len(open) > 0 {
		response, err := s.Recv()
		if err != nil {
			for _, e := range open {
				left = append(left, e)
			}
			if !retryable(status.Code(err)) && status.Code(err) != codes.Unknown { // Unknown: an end of the stream in good order
				return nil, false, fmt.Errorf("stream of events: %w", err)
			}
			return left, false, nil
		}
		for _, ack := range response.GetAcks() {
			e := open[ack.GetSequence()]
			if e == nil {
				return nil, false, fmt.Errorf("acknowledgement %d is of no event that is open", ack.GetSequence())
			}
			delete(open, ack.GetSequence())
			some, err := unacked([]*audittrailv1.Event{e}, &audittrailv1.BatchEmitEventsResponse{Results: []*audittrailv1.EmitResult{ack.GetResult()}})
			if err != nil {
				return nil, false, err
			}
			left = append(left, some...)
		}
	}
	return left, true, nil
}

func (w *streams) take() (*openStream, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.idle); n > 0 {
		s := w.idle[n-1]
		w.idle = w.idle[:n-1]
		return s, nil
	}
	ctx, cancel := context.WithCancel(context.Background()) // a stream outlives the delivery; close ends it
	s, err := audittrailv1.NewEmitterServiceClient(anyOf(w.conns)).StreamEvents(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	return &openStream{EmitterService_StreamEventsClient: s, cancel: cancel}, nil
}

func (w *streams) put(s *openStream) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.idle = append(w.idle, s)
}

func (w *streams) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.idle {
		s.cancel()
	}
}
