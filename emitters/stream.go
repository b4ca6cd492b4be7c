package emitters

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/maxviazov/audittrail/internal/identity"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
)

// StreamEvents implements audittrailv1.EmitterServiceServer. One goroutine reads; this one answers, so that it can end the stream while
// the other waits for the client. Each event gets exactly one acknowledgement, of either kind. The stream ends with OK after the client
// has closed its side and all is acknowledged, and with UNAVAILABLE when the emitter drains: what it read by then is acknowledged.
func (s *Server) StreamEvents(rpc grpc.BidiStreamingServer[audittrailv1.StreamEventsRequest, audittrailv1.StreamEventsResponse]) error {
	if !s.calls.enter() {
		return refusedDraining.err()
	}
	defer s.calls.leave()
	s.metrics.streams.Inc()
	defer s.metrics.streams.Dec()

	str := &streaming{server: s, principal: identity.From(rpc.Context()), wake: make(chan struct{}, 1), room: make(chan struct{}, 1)}
	if !s.calls.enter() { // for the reader, which may outlive this method by a moment
		return refusedDraining.err()
	}
	go func() {
		defer s.calls.leave()
		str.read(rpc)
	}()
	return str.answer(rpc)
}

// streaming is the state of one stream.
type streaming struct {
	server    *Server
	principal string
	wake      chan struct{} // has a token when the answering goroutine has something to do
	room      chan struct{} // has a token when the window may have room again

	mu   sync.Mutex // guards all below
	acks []*audittrailv1.EventAck
	// sent holds events that were handed to the packer, in that order, so of ascending deadline; answered ones are dropped from its head.
	sent    []*streamed
	held    int // events that were read and whose acknowledgement is not sent; at most Config.StreamWindow
	ended   bool
	readErr error // why reading ended, nil after the client closed its side
}

// streamed is one event of a stream in the pipeline.
type streamed struct {
	str      *streaming
	sequence int64
	id       event.ID
	deadline time.Time
	answered bool // guarded by str.mu
}

// read reads until the client closes its side, the stream breaks, or the emitter drains.
func (str *streaming) read(rpc grpc.BidiStreamingServer[audittrailv1.StreamEventsRequest, audittrailv1.StreamEventsResponse]) {
	var err error
	for err == nil {
		if err = str.await(rpc.Context()); err != nil {
			break
		}
		var req *audittrailv1.StreamEventsRequest
		if req, err = rpc.Recv(); err == nil {
			str.take(req)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	str.mu.Lock()
	str.ended, str.readErr = true, err
	str.mu.Unlock()
	token(str.wake)
}

// await waits until the window has room.
func (str *streaming) await(ctx context.Context) error {
	for {
		str.mu.Lock()
		full := str.held >= str.server.cfg.StreamWindow
		str.mu.Unlock()
		if !full {
			return nil
		}
		select {
		case <-str.room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// take handles one event.
func (str *streaming) take(req *audittrailv1.StreamEventsRequest) {
	str.mu.Lock()
	str.held++
	str.mu.Unlock()
	s := str.server
	st := newStamps(str.principal)
	e := req.GetEvent()
	size, invalid := s.admit(e, &st)
	switch {
	case len(invalid) > 0:
		var v violations
		v.addEvent("event", invalid)
		s.metrics.reject(reasonInvalid, 1)
		str.acknowledge(&audittrailv1.EventAck{Sequence: req.Sequence,
			Result: &audittrailv1.EmitResult{Result: &audittrailv1.EmitResult_Status{Status: v.status()}}})
		return
	case s.isDraining():
		str.refuse(req.Sequence, refusedDraining)
		return
	}
	cost := st.cost(size)
	if !s.budget.take(cost) {
		str.refuse(req.Sequence, refusedOverloaded)
		return
	}
	one := &streamed{str: str, sequence: req.Sequence, id: event.IDOf(e), deadline: st.now.Add(s.cfg.AckTimeout)}
	p := newPiece(one, st.frameSize(size))
	p.events, p.cost = 1, cost
	*p.buf = st.appendFrame(*p.buf, e, size)

	str.mu.Lock()
	str.sent = append(str.sent, one)
	first := len(str.sent) == 1
	str.mu.Unlock()
	if first {
		token(str.wake) // the deadline to wait for is a new one
	}
	s.packer.add(e.Source, p)
}

// refuse answers an event that was not sent.
func (str *streaming) refuse(sequence int64, r *refusal) {
	str.server.metrics.reject(r.reason, 1)
	str.acknowledge(refusedAck(sequence, r))
}

func (str *streaming) acknowledge(ack *audittrailv1.EventAck) {
	str.mu.Lock()
	str.acks = append(str.acks, ack)
	str.mu.Unlock()
	token(str.wake)
}

// resolved implements waiter.
func (one *streamed) resolved(p *piece) {
	str := one.str
	str.mu.Lock()
	defer str.mu.Unlock()
	if one.answered {
		return // late; the client was told so
	}
	if p.state.Load() == stateAcked {
		str.server.metrics.accepted.Inc()
		str.settle(one, &audittrailv1.EventAck{Sequence: one.sequence,
			Result: &audittrailv1.EmitResult{Result: &audittrailv1.EmitResult_Id{Id: one.id.String()}}})
		return
	}
	str.server.metrics.reject(refusedFailed.reason, 1)
	str.settle(one, refusedAck(one.sequence, refusedFailed))
}

// settle answers one event. The caller holds the lock.
func (str *streaming) settle(one *streamed, ack *audittrailv1.EventAck) {
	one.answered = true
	str.acks = append(str.acks, ack)
	token(str.wake)
}

func refusedAck(sequence int64, r *refusal) *audittrailv1.EventAck {
	return &audittrailv1.EventAck{Sequence: sequence,
		Result: &audittrailv1.EmitResult{Result: &audittrailv1.EmitResult_Status{Status: r.status}}}
}

// maxAcks bounds the acknowledgements of one response: an id takes about 60 bytes, and clients accept 4 MiB.
const maxAcks = 1000

// answer sends acknowledgements, as many at a time as have gathered while it sent the last ones.
func (str *streaming) answer(rpc grpc.BidiStreamingServer[audittrailv1.StreamEventsRequest, audittrailv1.StreamEventsResponse]) error {
	late := time.NewTimer(time.Hour)
	defer late.Stop()
	draining := str.server.draining
	stopped := false // the emitter drains
	for {
		acks, next := str.collect()
		for len(acks) > 0 {
			n := min(len(acks), maxAcks)
			if err := rpc.Send(&audittrailv1.StreamEventsResponse{Acks: acks[:n]}); err != nil {
				return err
			}
			str.release(n)
			acks = acks[n:]
		}
		if done, err := str.finished(stopped); done {
			return err
		}
		late.Reset(next)
		select {
		case <-str.wake:
		case <-late.C:
		case <-draining:
			draining, stopped = nil, true
		case <-rpc.Context().Done():
			return status.FromContextError(rpc.Context().Err()).Err()
		}
	}
}

// collect returns what is to be sent, and how long until the next event is late.
func (str *streaming) collect() (acks []*audittrailv1.EventAck, next time.Duration) {
	str.mu.Lock()
	defer str.mu.Unlock()
	now := time.Now()
	for len(str.sent) > 0 {
		one := str.sent[0]
		if !one.answered && one.deadline.After(now) {
			break
		}
		if !one.answered {
			str.server.metrics.reject(refusedLate.reason, 1)
			str.settle(one, refusedAck(one.sequence, refusedLate))
		}
		str.sent[0] = nil
		str.sent = str.sent[1:]
	}
	next = time.Hour
	if len(str.sent) > 0 {
		next = str.sent[0].deadline.Sub(now)
	}
	acks, str.acks = str.acks, nil
	return acks, next
}

// release makes room in the window: n acknowledgements were sent.
func (str *streaming) release(n int) {
	str.mu.Lock()
	str.held -= n
	str.mu.Unlock()
	token(str.room)
}

// finished says whether the stream ends now, and how.
func (str *streaming) finished(stopped bool) (bool, error) {
	str.mu.Lock()
	defer str.mu.Unlock()
	switch {
	case str.held > 0:
		return false, nil
	case str.ended:
		return true, str.readErr
	case stopped:
		return true, refusedDraining.err()
	}
	return false, nil
}

// token puts a token into a channel of room for one.
func token(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
