package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/test/bufconn"

	"github.com/maxviazov/audittrail/internal/access"
)

// MaxRequestBytes is the greatest request in bytes, encoded in gRPC or as JSON in HTTP.
const MaxRequestBytes = 4 << 20

// Config says where and how to serve.
type Config struct {
	// GRPCListen is the address of the gRPC side, host:port; empty: none.
	GRPCListen string
	// HTTPListen is the address of the HTTP side, host:port.
	HTTPListen string
	// GRPCFlag and HTTPFlag name what the user changes the addresses with, for error messages.
	GRPCFlag, HTTPFlag string
	// AllowedHosts are names besides localhost and the listening address that a request's Host may carry.
	AllowedHosts []string
	// CORSOrigins are the origins, scheme://host or scheme://host:port as browsers write them, whose web pages may read by GET. Default none.
	CORSOrigins []string
	// Reflection describes the services to whoever asks by gRPC server reflection (v1 and v1alpha).
	Reflection bool
	// TLS encrypts both sides; nil: they are plaintext.
	TLS *tls.Config
	// Pprof serves Go's profiles below /debug/pprof/.
	Pprof bool
	// StopTimeout bounds how long calls in progress may take to end. Default 5 s.
	StopTimeout time.Duration
}

// Deps are what the server works with.
type Deps struct {
	// Registry takes the server's metrics and is served at /metrics.
	Registry *prometheus.Registry
	// Ready says why the process should get no calls; nil when it should. It is asked twice a second, with two seconds to answer.
	Ready func(context.Context) error
	// Gate asks callers who they are; nil: all are anonymous.
	Gate *access.Gate
	Log  zerolog.Logger
}

// ErrListen says that an address could not be listened on.
var ErrListen = errors.New("address cannot be listened on")

// Server serves one process.
type Server struct {
	cfg    Config
	deps   Deps
	grpc   *grpc.Server
	health *health.Server
	http   *http.Server
	mux    *runtime.ServeMux

	grpcListener net.Listener // nil: gRPC in the process only
	httpListener net.Listener
	inProcess    *bufconn.Listener
	conn         *grpc.ClientConn // from the HTTP side to the gRPC side

	readyMu  sync.Mutex             // guards unready, and orders changes of notReady
	unready  bool                   // for good
	notReady atomic.Pointer[string] // why; nil: ready
	stopping context.Context        // streams end with it
	stop     context.CancelFunc
}

// New returns a server without services that already listens, so that a taken address is known before anything else starts. Whoever connects
// meanwhile waits for Run. Close it when Run is not reached.
func New(cfg Config, deps Deps, options ...grpc.ServerOption) (*Server, error) {
	if cfg.StopTimeout == 0 {
		cfg.StopTimeout = 5 * time.Second
	}
	s := &Server{cfg: cfg, deps: deps, health: health.NewServer(), inProcess: bufconn.Listen(1 << 20)}
	s.stopping, s.stop = context.WithCancel(context.Background())
	starting := "starting"
	s.notReady.Store(&starting)
	s.health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	var err error
	if cfg.GRPCListen != "" {
		if s.grpcListener, err = listen("gRPC", cfg.GRPCListen, cfg.GRPCFlag); err != nil {
			return nil, err
		}
	}
	if s.httpListener, err = listen("HTTP", cfg.HTTPListen, cfg.HTTPFlag); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.grpc = grpc.NewServer(append(s.serverOptions(), options...)...)
	healthpb.RegisterHealthServer(s.grpc, s.health)
	if cfg.Reflection {
		reflection.Register(s.grpc)
	}
	if s.conn, err = s.dialSelf(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.mux = newGatewayMux()
	s.http = s.newHTTPServer()
	return s, nil
}

func listen(what, addr, flag string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%w: %s on %s (%w); stop what listens there, or choose another with %s", ErrListen, what, addr, err, flag)
	}
	return l, nil
}

// Close gives back the addresses of a server that never ran.
func (s *Server) Close() error {
	s.stop()
	var errs []error
	for _, l := range []net.Listener{s.grpcListener, s.httpListener} {
		if l != nil {
			errs = append(errs, l.Close())
		}
	}
	if s.conn != nil {
		errs = append(errs, s.conn.Close())
	}
	if s.grpc != nil {
		s.grpc.Stop()
	}
	return errors.Join(append(errs, s.inProcess.Close())...)
}

// Registrar takes the services, before Run.
func (s *Server) Registrar() grpc.ServiceRegistrar { return s.grpc }

// Handle adds the HTTP/JSON side of a service, a RegisterXHandler of grpc-gateway, before Run.
func (s *Server) Handle(register func(context.Context, *runtime.ServeMux, *grpc.ClientConn) error) error {
	if err := register(s.stopping, s.mux, s.conn); err != nil {
		return fmt.Errorf("register http handlers: %w", err)
	}
	return nil
}

// GRPCAddr is the address of the gRPC side; empty: none.
func (s *Server) GRPCAddr() string {
	if s.grpcListener == nil {
		return ""
	}
	return s.grpcListener.Addr().String()
}

// HTTPAddr is the address of the HTTP side.
func (s *Server) HTTPAddr() string { return s.httpListener.Addr().String() }

// IsReady says whether the process was ready when last asked.
func (s *Server) IsReady() bool { return s.notReady.Load() == nil }

// Run serves until ctx ends, then stops taking calls and lets those in progress end, at most for StopTimeout each side.
func (s *Server) Run(ctx context.Context) error {
	failed := make(chan error, 3)
	serve := func(what string, f func() error) {
		go func() {
			if err := f(); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, grpc.ErrServerStopped) {
				failed <- fmt.Errorf("serve %s: %w", what, err)
				return
			}
			failed <- nil
		}()
	}
	sides := 2
	serve("in the process", func() error { return s.grpc.Serve(insideListener{s.inProcess}) })
	serve("http", s.serveHTTP)
	if s.grpcListener != nil {
		sides++
		serve("grpc", func() error { return s.grpc.Serve(s.grpcListener) })
	}
	watching := make(chan struct{})
	watchCtx, stopWatching := context.WithCancel(ctx)
	go func() {
		defer close(watching)
		s.watchReady(watchCtx)
	}()

	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		sides--
	}
	stopWatching()
	<-watching
	s.Unready()
	s.shutDown()
	for range sides {
		err = errors.Join(err, <-failed)
	}
	return err
}

func (s *Server) shutDown() {
	s.health.Shutdown()
	s.stop() // ends streams that would never end by themselves
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.StopTimeout)
	defer cancel()
	if err := s.http.Shutdown(ctx); err != nil {
		s.deps.Log.Warn().Err(err).Msg("http requests cut off")
		_ = s.http.Close() // it only closes what Shutdown could not
	}
	force := time.AfterFunc(s.cfg.StopTimeout, func() {
		s.deps.Log.Warn().Msg("grpc calls cut off")
		s.grpc.Stop()
	})
	s.grpc.GracefulStop()
	force.Stop()
	_ = s.conn.Close() // the connection's other end is gone already
}
