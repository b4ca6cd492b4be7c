package emitters

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"
	"unicode/utf8"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/maxviazov/audittrail/internal/identity"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
	"github.com/maxviazov/audittrail/proto/stream"
)

// EmitEvent implements audittrailv1.EmitterServiceServer.
func (s *Server) EmitEvent(ctx context.Context, req *audittrailv1.EmitEventRequest) (*audittrailv1.EmitEventResponse, error) {
	events := []*audittrailv1.Event{req.GetEvent()}
	b, err := s.emit(ctx, events, "", func(int) string { return "event" })
	if err != nil {
		return nil, err
	}
	return &audittrailv1.EmitEventResponse{Id: event.IDOf(b.events[0]).String()}, nil
}

// BatchEmitEvents implements audittrailv1.EmitterServiceServer.
func (s *Server) BatchEmitEvents(ctx context.Context, req *audittrailv1.BatchEmitEventsRequest) (*audittrailv1.BatchEmitEventsResponse, error) {
	var v violations
	if n := len(req.GetEvents()); n == 0 || n > MaxRequestEvents {
		v.add("events", fmt.Sprintf("has %d entries; 1 to %d are wanted", n, MaxRequestEvents))
	}
	if id := req.GetRequestId(); len(id) > MaxRequestID {
		v.add("request_id", fmt.Sprintf("takes %d bytes; at most %d", len(id), MaxRequestID))
	} else if !utf8.ValidString(id) {
		v.add("request_id", "is not valid UTF-8")
	}
	if len(v.list) > 0 {
		s.metrics.reject(reasonInvalid, len(req.GetEvents()))
		return nil, grpcstatus.ErrorProto(v.status())
	}
	b, err := s.emit(ctx, req.GetEvents(), req.GetRequestId(), func(i int) string { return "events[" + strconv.Itoa(i) + "]" })
	if err != nil {
		return nil, err
	}
	return b.response(), nil
}

// batch is the events of one call and what became of them.
type batch struct {
	events  []*audittrailv1.Event
	entries []entry
	plans   []plan
	path    func(int) string
}

// entry is the state of one event of a batch.
type entry struct {
	size    int               // encoded, without stamps
	plan    int               // index in plans; noPlan: it was not sent
	invalid []event.Violation // not empty: refused for good
	refused *refusal          // not nil: refused for now
}

const noPlan = -1

// accepted says that the event is in Kafka: it was acknowledged now, or before, under the same request_id.
func (e *entry) accepted() bool { return len(e.invalid) == 0 && e.refused == nil }

// plan is a piece in the making: events of one source.
type plan struct {
	source string
	events int
	bytes  int
	cost   int64
	piece  *piece
}

// call is the waiter of a batch.
type call struct {
	pending atomic.Int32 // pieces
	done    chan struct{}
}

func (c *call) resolved(*piece) {
	if c.pending.Add(-1) == 0 {
		close(c.done)
	}
}

// emit takes the events through all of it. It returns an error when none of them was accepted: INVALID_ARGUMENT when the producer must
// correct all of them; otherwise a retryable code (UNAVAILABLE rather than RESOURCE_EXHAUSTED), since a retry can succeed for some. Or
// when the caller is gone.
func (s *Server) emit(ctx context.Context, events []*audittrailv1.Event, requestID string, path func(int) string) (*batch, error) {
	if !s.calls.enter() {
		s.metrics.reject(reasonDraining, len(events))
		return nil, refusedDraining.err()
	}
	defer s.calls.leave()
	s.metrics.requestEvents.Observe(float64(len(events)))

	b := &batch{events: events, entries: make([]entry, len(events)), path: path}
	principal := identity.From(ctx)
	var remembered *remembered
	if requestID != "" {
		remembered = s.recall(ctx, b, principal, requestID)
	}
	st := newStamps(principal)
	s.plan(b, &st, remembered)
	if len(b.plans) > 0 {
		c := s.hand(b, &st)
		if err := s.await(ctx, c); err != nil {
			s.count(b, &refusal{reason: reasonGone})
			return nil, err
		}
	}
	accepted := s.count(b, refusedLate)
	if remembered != nil && accepted > 0 {
		s.memory.remember(ctx, remembered, b)
	}
	if accepted == 0 {
		return nil, b.err()
	}
	return b, nil
}

// plan admits the events and assigns them to pieces, each of one source and within the limits of a message.
func (s *Server) plan(b *batch, st *stamps, remembered *remembered) {
	current := make(map[string]int, 1) // source → index of its last plan
	for i, e := range b.events {
		entry := &b.entries[i]
		entry.plan = noPlan
		missing := entry.invalid // found by recall
		entry.size, entry.invalid = s.admit(e, st)
		entry.invalid = append(entry.invalid, missing...)
		if len(entry.invalid) > 0 || remembered.has(i) {
			continue
		}
		cost := st.cost(entry.size)
		if !s.budget.take(cost) {
			entry.refused = refusedOverloaded
			continue
		}
		n := st.frameSize(entry.size)
		at, ok := current[e.Source]
		if !ok || b.plans[at].events == stream.MaxBatchEvents || len(batchHeader)+b.plans[at].bytes+n > stream.MaxBatchBytes {
			at = len(b.plans)
			current[e.Source] = at
			b.plans = append(b.plans, plan{source: e.Source})
		}
		p := &b.plans[at]
		p.events++
		p.bytes += n
		p.cost += cost
		entry.plan = at
	}
}

// hand encodes the planned pieces and gives them to the packer.
func (s *Server) hand(b *batch, st *stamps) *call {
	c := &call{done: make(chan struct{})}
	c.pending.Store(int32(len(b.plans)))
	for i := range b.plans {
		p := &b.plans[i]
		p.piece = newPiece(c, p.bytes)
		p.piece.events, p.piece.cost = p.events, p.cost
	}
	for i := range b.entries {
		entry := &b.entries[i]
		if entry.plan == noPlan {
			continue
		}
		buf := b.plans[entry.plan].piece.buf
		*buf = st.appendFrame(*buf, b.events[i], entry.size)
	}
	for i := range b.plans {
		s.packer.add(b.plans[i].source, b.plans[i].piece)
	}
	return c
}

// await waits until the call is resolved or late. Its error is that of a caller that is gone. Events of a call that is not resolved
// stay in the budget until they are.
func (s *Server) await(ctx context.Context, c *call) error {
	timeout := time.NewTimer(s.cfg.AckTimeout)
	defer timeout.Stop()
	select {
	case <-c.done:
	case <-timeout.C:
	case <-ctx.Done():
		return grpcstatus.FromContextError(ctx.Err()).Err()
	}
	return nil
}

// count settles the entries, by the state of their pieces, and the metrics. pending is why those are refused that have no answer yet.
func (s *Server) count(b *batch, pending *refusal) (accepted int) {
	rejected := make(map[string]int)
	for i := range b.entries {
		entry := &b.entries[i]
		if entry.plan != noPlan {
			switch b.plans[entry.plan].piece.state.Load() {
			case statePending:
				entry.refused = pending
			case stateFailed:
				entry.refused = refusedFailed
			}
		}
		switch {
		case entry.accepted():
			accepted++
			if entry.plan == noPlan {
				s.metrics.remembered.Inc()
			} else {
				s.metrics.accepted.Inc()
			}
		case entry.refused != nil:
			rejected[entry.refused.reason]++
		default:
			rejected[reasonInvalid]++
		}
	}
	for reason, n := range rejected {
		s.metrics.reject(reason, n)
	}
	return accepted
}

// err is the error of a call of which nothing was accepted.
func (b *batch) err() error {
	var v violations
	var refused *refusal
	for i := range b.entries {
		entry := &b.entries[i]
		if refused == nil || entry.refused != nil && entry.refused.status.Code == int32(codes.Unavailable) {
			refused = entry.refused
		}
		v.addEvent(b.path(i), entry.invalid)
	}
	if refused != nil {
		return refused.err()
	}
	return grpcstatus.ErrorProto(v.status())
}

// response answers each event. Its parts are allocated together, not one by one.
func (b *batch) response() *audittrailv1.BatchEmitEventsResponse {
	n := len(b.events)
	results, list, ids := make([]audittrailv1.EmitResult, n), make([]*audittrailv1.EmitResult, n), make([]audittrailv1.EmitResult_Id, n)
	buf := make([]byte, 0, n*idLen)
	for i, e := range b.events {
		if b.entries[i].accepted() {
			buf = appendID(buf, event.IDOf(e))
		}
	}
	text := string(buf)
	for i := range b.events {
		r, entry := &results[i], &b.entries[i]
		list[i] = r
		if entry.accepted() {
			ids[i].Id, text = text[:idLen], text[idLen:]
			r.Result = &ids[i]
			continue
		}
		r.Result = &audittrailv1.EmitResult_Status{Status: entry.status(b.path, i)}
	}
	return &audittrailv1.BatchEmitEventsResponse{Results: list}
}

const idLen = 36

// appendID appends the canonical text form of an id, as event.ID.String, without a string of its own.
func appendID(dst []byte, id event.ID) []byte {
	for i, part := range [...][]byte{id[:4], id[4:6], id[6:8], id[8:10], id[10:]} {
		if i > 0 {
			dst = append(dst, '-')
		}
		dst = hex.AppendEncode(dst, part)
	}
	return dst
}

func (e *entry) status(path func(int) string, i int) *spb.Status {
	if e.refused != nil {
		return e.refused.status
	}
	var v violations
	v.addEvent(path(i), e.invalid)
	return v.status()
}
