package views

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
)

// ErrNotReady says that the views of sources have not caught up since the process started.
var ErrNotReady = errors.New("views of sources have not caught up yet")

// Sources is what is known of sources. SourceViews is the real one.
type Sources interface {
	// Ready says why what is known may be old; nil when it is not.
	Ready() error
	// Get returns a source; nil when it is neither registered nor ever seen. Errors: ErrNotReady.
	Get(path string) (*audittrailv1.Source, error)
	// Paths returns up to n paths that begin with prefix and are greater than after, in their order. Errors: ErrNotReady.
	Paths(prefix, after string, n int) ([]string, error)
}

// GetSource implements QueryService.
func (s *Server) GetSource(ctx context.Context, req *audittrailv1.GetSourceRequest) (*audittrailv1.GetSourceResponse, error) {
	for _, v := range event.ValidateSource(req.GetSource()) {
		return nil, invalid("source", "%s", v.Description)
	}
	source, err := s.source(ctx, req.GetSource())
	if err != nil {
		return nil, err
	}
	if source == nil {
		return nil, status.Errorf(codes.NotFound, "source %q is neither registered nor was it ever seen", req.GetSource())
	}
	return &audittrailv1.GetSourceResponse{Source: source}, nil
}

func (s *Server) source(ctx context.Context, path string) (*audittrailv1.Source, error) {
	source, err := s.sources.Get(path)
	if err != nil {
		return nil, s.failSources(ctx, err)
	}
	return source, nil
}

func (s *Server) failSources(ctx context.Context, err error) error {
	if errors.Is(err, ErrNotReady) {
		return unavailable("%v; try again", ErrNotReady)
	}
	return s.fail(ctx, "read sources", err)
}

// ListSources implements QueryService. A prefix is a path: what it admits is the path itself and everything below it.
func (s *Server) ListSources(ctx context.Context, req *audittrailv1.ListSourcesRequest) (*audittrailv1.ListSourcesResponse, error) {
	size, ok := pageSize(req.GetPageSize())
	if !ok {
		return nil, invalid("page_size", "is %d; expected 0 to %d", req.GetPageSize(), maxPage)
	}
	prefix := strings.TrimSuffix(req.GetPrefix(), "/")
	if req.GetPrefix() != "" {
		for _, v := range event.ValidateSource(prefix) {
			return nil, invalid("prefix", "%s", v.Description)
		}
	}
	bound := []string{req.GetPrefix(), principal(ctx)}
	after := ""
	if req.GetPageToken() != "" {
		payload, err := s.tokens.open(walkSources, req.GetPageToken(), bound...)
		if err != nil {
			return nil, invalid("page_token", "%v", err)
		}
		after = string(payload)
	}
	resp := new(audittrailv1.ListSourcesResponse)
	last, bytes := "", 0
	for {
		paths, err := s.sources.Paths(prefix, after, size)
		if err != nil {
			return nil, s.failSources(ctx, err)
		}
		for _, path := range paths {
			after = path
			if prefix != "" && path != prefix && path[len(prefix)] != '/' {
				continue // acme-test is not below acme
			}
			source, err := s.source(ctx, path)
			if err != nil {
				return nil, err
			}
			if source == nil {
				continue // its registration was removed meanwhile
			}
			bytes += source.SizeVT() + 8
			if len(resp.Sources) == size || len(resp.Sources) > 0 && bytes > maxPageBytes {
				resp.NextPageToken = s.tokens.seal(walkSources, []byte(last), bound...)
				return resp, nil
			}
			resp.Sources = append(resp.Sources, source)
			last = path
		}
		if len(paths) < size {
			return resp, nil
		}
	}
}
