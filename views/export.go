package views

import (
	"context"
	"encoding/binary"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/maxviazov/audittrail/internal/clock"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

const (
	// exportEvents is how many events one response has at most.
	exportEvents = 500
	// exportIdle is how often a search that finds nothing tells where it is.
	exportIdle = time.Second
)

// ExportEvents implements QueryService. It holds the events of one response and what the walk has decoded, however long the
// result is and however slowly it is read.
func (s *Server) ExportEvents(req *audittrailv1.ExportEventsRequest, stream grpc.ServerStreamingServer[audittrailv1.ExportEventsResponse]) error {
	ctx := stream.Context()
	select {
	case s.exports <- struct{}{}:
		defer func() { <-s.exports }()
	default:
		return withDetails(codes.ResourceExhausted, "too many exports at once; try again",
			&errdetails.RetryInfo{RetryDelay: durationpb.New(exportRetry)})
	}
	x := export{server: s, stream: stream, bound: []string{req.GetFilter(), principal(ctx)}, sent: time.Now()}
	x.at.now = clock.Now()
	if req.GetResumeToken() != "" {
		payload, err := s.tokens.open(walkExport, req.GetResumeToken(), x.bound...)
		if err == nil {
			err = x.decode(payload)
		}
		if err != nil {
			return invalid("resume_token", "%v", err)
		}
	}
	filter, err := s.compile(ctx, req.GetFilter(), x.at.now)
	if err != nil {
		return s.fail(ctx, "export events", err)
	}
	if req.GetResumeToken() == "" {
		if x.at, err = s.beginWalk(ctx, x.at.now); err != nil {
			return s.fail(ctx, "export events", err)
		}
	}
	return s.fail(ctx, "export events", x.run(ctx, filter))
}

// exportRetry is what a client is told when too many exports run: they take long.
const exportRetry = 10 * time.Second

// export is one stream.
type export struct {
	server *Server
	stream grpc.ServerStreamingServer[audittrailv1.ExportEventsResponse]
	bound  []string

	at     cursor // everything before was sent, or gathered in events, or refused by the filter
	count  int64  // events sent since the first stream of this export began
	events []*audittrailv1.Event
	bytes  int
	sent   time.Time
}

func (x *export) encode() []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(x.count)), x.at.encode()...)
}

func (x *export) decode(b []byte) (err error) {
	if len(b) < 8 {
		return errToken
	}
	x.count = int64(binary.BigEndian.Uint64(b))
	x.at, err = decodeCursor(b[8:])
	return err
}

// run walks, in calls of a second, until nothing follows. It returns nil when the last response was sent.
func (x *export) run(ctx context.Context, filter *compiled) error {
	for {
		next, err := x.server.walk(ctx, query{filter: filter, until: time.Now().Add(exportIdle)}, x.at, func(r found) (step, error) {
			return goOn, x.take(ctx, r)
		})
		if err != nil {
			return err
		}
		if next == nil {
			return x.send(ctx, true)
		}
		x.at = *next
		if len(x.events) > 0 || time.Since(x.sent) >= exportIdle {
			if err := x.send(ctx, false); err != nil {
				return err
			}
		}
	}
}

// take gathers an event. A response that is full is sent first; its token still says that this event follows.
func (x *export) take(ctx context.Context, r found) error {
	e, err := r.event()
	if err != nil {
		return err
	}
	size := e.SizeVT() + 8
	if len(x.events) == exportEvents || len(x.events) > 0 && x.bytes+size > maxPageBytes {
		if err := x.send(ctx, false); err != nil {
			return err
		}
	}
	x.events = append(x.events, e)
	x.bytes += size
	x.at.at, x.at.begun = r.id, true
	return nil
}

// send sends what was gathered. A reader that takes nothing for ExportStall is cut off: it holds a place that others wait for.
func (x *export) send(ctx context.Context, done bool) error {
	x.count += int64(len(x.events))
	resp := &audittrailv1.ExportEventsResponse{Events: x.events, ExportedCount: x.count, Done: done}
	if !done {
		resp.ResumeToken = x.server.tokens.seal(walkExport, x.encode(), x.bound...)
		resp.CompleteAfter = completeAfter(&x.at)
	}
	x.events, x.bytes, x.sent = nil, 0, time.Now()
	sent := make(chan error, 1)
	go func() { sent <- x.stream.Send(resp) }() // it ends with the stream, when the call returns
	stalled := time.NewTimer(x.server.cfg.ExportStall)
	defer stalled.Stop()
	select {
	case err := <-sent:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-stalled.C:
		return status.Errorf(codes.Aborted, "nothing was read for %v; go on with the last resume_token", x.server.cfg.ExportStall)
	}
}
