package views

import (
	"context"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
	"github.com/maxviazov/audittrail/proto/stream"
)

// SetSource implements AdminService. Once the broker has acknowledged the registration it stands; the call then waits, for a
// bounded time, until the gateway's own view shows it, so that a reading that follows finds it.
func (s *Server) SetSource(ctx context.Context, req *audittrailv1.SetSourceRequest) (*audittrailv1.SetSourceResponse, error) {
	if req.GetRegistration() == nil {
		return nil, invalid("registration", "is required")
	}
	found := append(event.ValidateSource(req.GetSource()), event.ValidateRegistration(req.GetRegistration())...)
	if len(found) > 0 {
		bad := new(errdetails.BadRequest)
		for _, v := range found {
			bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{Field: v.Field, Description: v.Description})
		}
		return nil, withDetails(codes.InvalidArgument, found[0].Field+": "+found[0].Description, bad)
	}
	value, err := req.GetRegistration().MarshalVT()
	if err != nil {
		return nil, s.fail(ctx, "set source", err)
	}
	publish, cancel := context.WithTimeout(ctx, s.cfg.KafkaTime)
	defer cancel()
	if err := s.publisher.Publish(publish, stream.Sources, []byte(req.GetSource()), value); err != nil {
		return nil, s.failKafka(ctx, "set source", err)
	}
	return &audittrailv1.SetSourceResponse{Source: s.awaitRegistration(ctx, req)}, nil
}

// awaitRegistration returns the source as the view shows it. When that takes too long (the view is behind, or another call
// replaced the registration) it returns what was written.
func (s *Server) awaitRegistration(ctx context.Context, req *audittrailv1.SetSourceRequest) *audittrailv1.Source {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.SourceWait)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		source, err := s.sources.Get(req.GetSource())
		if err == nil && source.GetRegistration().EqualVT(req.GetRegistration()) {
			return source
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return &audittrailv1.Source{Source: req.GetSource(), Registration: req.GetRegistration(), Activity: source.GetActivity()}
		}
	}
}

// failKafka is fail for what Kafka said: any error of it is one of reachability.
func (s *Server) failKafka(ctx context.Context, operation string, err error) error {
	if ctx.Err() != nil {
		return s.fail(ctx, operation, err)
	}
	s.log.Warn().Err(err).Str("operation", operation).Msg("call failed")
	return unavailable("kafka is not reachable or too slow; try again")
}
