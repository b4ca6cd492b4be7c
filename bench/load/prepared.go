package load

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// Prepared is traffic encoded before anything is measured, with the answers expected: sending it costs what gRPC costs, and every
// acknowledgement is still compared with the id that the event must have. It takes about 350 bytes an event in memory.
type Prepared struct {
	config   Config
	requests []request
}

// request is one call, or one message of a stream.
type request struct {
	method      string
	body        []byte
	want        []byte // the response, when every event is accepted
	first, upTo int    // events, numbered from Config.First
}

// Prepare encodes the traffic of c for Run. With single, each event is an EmitEvent of its own, and Batch does not count. The ledger,
// duplicates and the rate of c do not count.
func Prepare(c Config, single bool) (*Prepared, error) {
	if single {
		c.Batch = 1
	}
	p := &Prepared{config: c.withDefaults(), requests: make([]request, (c.Events+c.Batch-1)/c.Batch)}
	return p, p.each(func(r *request) (err error) {
		events := p.events(r)
		if single {
			r.method = audittrailv1.EmitterService_EmitEvent_FullMethodName
			if r.body, err = (&audittrailv1.EmitEventRequest{Event: events[0]}).MarshalVT(); err == nil {
				r.want, err = (&audittrailv1.EmitEventResponse{Id: text(events[0])}).MarshalVT()
			}
			return err
		}
		r.method = audittrailv1.EmitterService_BatchEmitEvents_FullMethodName
		if r.body, err = (&audittrailv1.BatchEmitEventsRequest{Events: events}).MarshalVT(); err != nil {
			return err
		}
		answer := &audittrailv1.BatchEmitEventsResponse{}
		for _, e := range events {
			answer.Results = append(answer.Results, accepted(e))
		}
		r.want, err = answer.MarshalVT()
		return err
	})
}

func text(e *audittrailv1.Event) string { return uuid.UUID(ID(e)).String() }

func accepted(e *audittrailv1.Event) *audittrailv1.EmitResult {
	return &audittrailv1.EmitResult{Result: &audittrailv1.EmitResult_Id{Id: text(e)}}
}

// each numbers the requests and calls f for each of them, on all processors.
func (p *Prepared) each(f func(*request) error) error {
	var wg sync.WaitGroup
	var next atomic.Int64
	errs := make(chan error, runtime.NumCPU())
	for range cap(errs) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(p.requests) {
					return
				}
				r := &p.requests[i]
				r.first, r.upTo = i*p.config.Batch, min((i+1)*p.config.Batch, p.config.Events)
				if err := f(r); err != nil {
					errs <- fmt.Errorf("encode events from %d on: %w", r.first, err)
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	return <-errs
}

func (p *Prepared) events(r *request) []*audittrailv1.Event {
	events := make([]*audittrailv1.Event, 0, r.upTo-r.first)
	for i := r.first; i < r.upTo; i++ {
		events = append(events, p.config.Shape.Event(p.config.First+i))
	}
	return events
}

// Run sends everything and returns when all of it is acknowledged or ctx ends.
func (p *Prepared) Run(ctx context.Context) error {
	return p.share(ctx, func(ctx context.Context, conn grpc.ClientConnInterface, next func() *request) error {
		for r := next(); r != nil; r = next() {
			if err := p.send(ctx, conn, r); err != nil {
				return err
			}
		}
		return nil
	})
}

// share runs work in as many goroutines as there are workers; they share the requests out by next, which returns nil at the end.
func (p *Prepared) share(ctx context.Context, work func(context.Context, grpc.ClientConnInterface, func() *request) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var taken atomic.Int64
	next := func() *request {
		i := int(taken.Add(1)) - 1
		if i >= len(p.requests) || ctx.Err() != nil {
			return nil
		}
		return &p.requests[i]
	}
	var wg sync.WaitGroup
	for w := range p.config.Workers {
		wg.Go(func() {
			if err := work(ctx, p.config.Conns[w%len(p.config.Conns)], next); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

func (p *Prepared) send(ctx context.Context, conn grpc.ClientConnInterface, r *request) error {
	var got reply
	callCtx, cancel := context.WithTimeout(ctx, p.config.Timeout)
	err := conn.Invoke(callCtx, r.method, r, &got, grpc.ForceCodecV2(preparedCodec{}))
	cancel()
	switch {
	case err == nil && bytes.Equal(got.data, r.want):
		return nil
	case err != nil && !retryable(status.Code(err)):
		return fmt.Errorf("emit %d events: %w", r.upTo-r.first, err)
	}
	open := p.events(r)
	if err == nil && r.method == audittrailv1.EmitterService_EmitEvent_FullMethodName {
		answer := &audittrailv1.EmitEventResponse{}
		if err := answer.UnmarshalVT(got.data); err != nil {
			return fmt.Errorf("answer for event %d: %w", r.first, err)
		}
		return fmt.Errorf("event %d was acknowledged as %s, want %s", r.first, answer.GetId(), text(open[0]))
	}
	if err == nil {
		answer := &audittrailv1.BatchEmitEventsResponse{}
		if err := answer.UnmarshalVT(got.data); err != nil {
			return fmt.Errorf("answer for %d events: %w", len(open), err)
		}
		if open, err = unacked(open, answer); err != nil {
			return err
		}
	}
	return p.again(ctx, conn, open)
}

// again sends what was not acknowledged at first, in the plain way, until it is.
func (p *Prepared) again(ctx context.Context, conn grpc.ClientConnInterface, open []*audittrailv1.Event) error {
	if !sleep(ctx, 20*time.Millisecond) {
		return context.Cause(ctx)
	}
	return batches{[]grpc.ClientConnInterface{conn}, p.config.Timeout, new(atomic.Int64)}.deliver(ctx, open)
}

// reply is a response as it came.
type reply struct{ data []byte }

// preparedCodec passes on what is encoded already.
type preparedCodec struct{}

var _ encoding.CodecV2 = preparedCodec{}

// Name implements encoding.CodecV2.
func (preparedCodec) Name() string { return "proto" }

// Marshal implements encoding.CodecV2.
func (preparedCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.(*request).body)}, nil
}

// Unmarshal implements encoding.CodecV2.
func (preparedCodec) Unmarshal(data mem.BufferSlice, v any) error {
	v.(*reply).data = data.Materialize()
	return nil
}
