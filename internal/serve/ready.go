package serve

import (
	"context"
	"errors"
	"net/http"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

const (
	readyEvery   = 500 * time.Millisecond
	readyTimeout = 2 * time.Second
)

// watchReady asks for readiness and tells gRPC health; /readyz answers from the last result, so that it costs nothing to ask.
func (s *Server) watchReady(ctx context.Context) {
	tick := time.NewTicker(readyEvery)
	defer tick.Stop()
	for {
		check, cancel := context.WithTimeout(ctx, readyTimeout)
		err := s.deps.Ready(check)
		cancel()
		if ctx.Err() != nil {
			return
		}
		s.setReady(err)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// setReady keeps what was found, unless the process is shutting down: then it stays unready, and for that reason.
func (s *Server) setReady(err error) {
	s.readyMu.Lock()
	defer s.readyMu.Unlock()
	if s.unready {
		return
	}
	if err == nil {
		if s.notReady.Swap(nil) != nil {
			s.deps.Log.Info().Msg("ready")
		}
		s.health.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
		return
	}
	why := err.Error()
	if before := s.notReady.Swap(&why); before == nil || *before != why {
		s.deps.Log.Info().Str("why", why).Msg("not ready")
	}
	s.health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
}

// Unready makes the process unready for good: the first step of a shutdown.
func (s *Server) Unready() {
	s.setReady(errShuttingDown)
	s.readyMu.Lock()
	defer s.readyMu.Unlock()
	s.unready = true
}

var errShuttingDown = errors.New("shutting down")

func (s *Server) serveReady(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if why := s.notReady.Load(); why != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(*why + "\n"))
		return
	}
	_, _ = w.Write([]byte("ready\n"))
}

func serveHealth(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("alive\n"))
}
