package views

import (
	"context"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/maxviazov/audittrail/internal/clock"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/segment"
)

const (
	// tailBundles is how many bundles one round of a tail reads at most: it bounds memory while a stream catches up.
	tailBundles = 16
	// tailEvents is how many events one response has at most.
	tailEvents = 500
	// tailIdle is how often a stream that finds nothing sends the token alone.
	tailIdle = time.Second
)

// TailEvents implements QueryService. The first response comes at once and tells where the stream begins. While PostgreSQL is away
// the stream ends with UNAVAILABLE; the last token resumes it.
func (s *Server) TailEvents(req *audittrailv1.TailEventsRequest, stream grpc.ServerStreamingServer[audittrailv1.TailEventsResponse]) error {
	ctx := stream.Context()
	filter, err := s.compile(ctx, req.GetFilter(), clock.Now())
	if err != nil {
		return s.fail(ctx, "tail events", err)
	}
	t := tail{server: s, filter: filter, stream: stream, bound: []string{req.GetFilter(), principal(ctx)}}
	stop, ok := s.follower.watch(s.cfg.MaxTails)
	if !ok {
		return withDetails(codes.ResourceExhausted, "too many streams follow the logs; try again",
			&errdetails.RetryInfo{RetryDelay: durationpb.New(retryAfter)})
	}
	defer stop()
	s.metrics.tails.Inc()
	defer s.metrics.tails.Dec()
	if req.GetResumeToken() != "" {
		payload, err := s.tokens.open(walkTail, req.GetResumeToken(), t.bound...)
		if err == nil {
			t.at, err = decodeSizes(payload)
		}
		if err != nil {
			return invalid("resume_token", "%v", err)
		}
	} else if t.at, err = s.readSizes(ctx); err != nil {
		return s.fail(ctx, "tail events", err)
	}
	if err := t.send(); err != nil {
		return err
	}
	return s.fail(ctx, "tail events", t.follow(ctx))
}

// tail is one stream.
type tail struct {
	server *Server
	filter *compiled
	stream grpc.ServerStreamingServer[audittrailv1.TailEventsResponse]
	bound  []string

	at     sizes // entries below were sent, or refused by the filter
	events []*audittrailv1.Event
	bytes  int
	sent   time.Time
}

// follow sends what the logs have beyond at, for ever. It never returns nil.
func (t *tail) follow(ctx context.Context) error {
	for {
		heads, changed := t.server.follower.current()
		if heads.err != nil {
			return heads.err
		}
		for {
			ranges := t.ranges(heads.sizes)
			if len(ranges) == 0 {
				break
			}
			if err := t.round(ctx, ranges); err != nil {
				return err
			}
			if len(t.events) > 0 || time.Since(t.sent) >= tailIdle {
				if err := t.send(); err != nil {
					return err
				}
			}
			t.server.metrics.tailLag.Observe(time.Since(heads.at).Seconds())
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// entryRange is some entries of one bundle: [from, to).
type entryRange struct {
	log      int16
	from, to int64
}

func (r entryRange) key() bundleKey { return bundleKey{r.log, r.from / segment.BundleSize} }

// ranges lists what comes next, of each log in turn. A log that is shorter than what was sent is being rebuilt from Kafka: it will
// hold the same entries again, so nothing is sent until it is longer.
func (t *tail) ranges(now sizes) []entryRange {
	for len(t.at) < len(now) {
		t.at = append(t.at, 0)
	}
	var out []entryRange
	next := append(sizes(nil), t.at...)
	for more := true; more && len(out) < tailBundles; {
		more = false
		for log, size := range now {
			if next[log] >= size || len(out) == tailBundles {
				continue
			}
			r := entryRange{log: int16(log), from: next[log]}
			r.to = min(size, (r.from/segment.BundleSize+1)*segment.BundleSize)
			out = append(out, r)
			next[log] = r.to
			more = true
		}
	}
	return out
}

// round reads ranges and sends full responses; what is left stays in events.
func (t *tail) round(ctx context.Context, ranges []entryRange) error {
	entries, err := t.server.readRanges(ctx, ranges)
	if err != nil {
		return err
	}
	for i, r := range ranges {
		for j, entry := range entries[i] {
			index := r.from + int64(j)
			if entry.Kind == segment.KindRecord {
				if err := t.take(entry.Payload, r.log, index); err != nil {
					return err
				}
			}
			t.at[r.log] = index + 1
		}
	}
	return nil
}

// take adds a record to the response if the filter accepts it. A response that is full is sent first; its token still says that this
// record follows.
func (t *tail) take(record []byte, log int16, index int64) error {
	if ok, err := t.filter.match(place{log, index}, record); err != nil || !ok {
		return err
	}
	e, _, err := decode(record, log, index)
	if err != nil {
		return err
	}
	size := e.SizeVT() + 8
	if len(t.events) == tailEvents || len(t.events) > 0 && t.bytes+size > maxPageBytes {
		if err := t.send(); err != nil {
			return err
		}
	}
	t.events = append(t.events, e)
	t.bytes += size
	return nil
}

// send sends the events gathered and the token of what comes after them.
func (t *tail) send() error {
	err := t.stream.Send(&audittrailv1.TailEventsResponse{
		Events:      t.events,
		ResumeToken: t.server.tokens.seal(walkTail, t.at.encode(nil), t.bound...),
	})
	t.events, t.bytes, t.sent = nil, 0, time.Now()
	return err
}
