package emitters

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"google.golang.org/grpc"

	"github.com/maxviazov/audittrail/internal/grpccodec"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// Publisher writes messages to audit-events.
type Publisher interface {
	// Publish sends the value under the key and calls done once, from any goroutine, when the broker has acknowledged it or it will
	// not be sent any more. It may wait while the producer is full. The value is the publisher's until done is called.
	Publish(key string, value []byte, done func(error))
	// Ready says whether messages can be sent at all.
	Ready() bool
	// Run connects, and disconnects when ctx ends.
	Run(ctx context.Context) error
}

// Deps are what the server works with.
type Deps struct {
	// Publisher is required.
	Publisher Publisher
	// Redis says how to reach the Redis that remembers the answers to requests with a request_id; nil: they are not remembered.
	// Time-outs and retries are replaced by the server's own: Redis must never hold up events.
	Redis *redis.Options
	// Registerer takes the metrics; required.
	Registerer prometheus.Registerer
	// Log takes the log; the zero Logger writes nothing.
	Log zerolog.Logger
}

// Server implements audittrailv1.EmitterServiceServer. Run must be running.
type Server struct {
	audittrailv1.UnimplementedEmitterServiceServer

	cfg       Config
	publisher Publisher
	memory    *memory // nil: none
	log       zerolog.Logger
	metrics   *metrics
	budget    budget
	packer    *packer
	calls     gate
	draining  chan struct{} // closed by Drain
	sender    chan struct{} // closed when the sender has ended
}

// NewServer returns a server that answers once Run runs. Its only errors are those of the configuration.
func NewServer(cfg Config, deps Deps) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.WithDefaults()
	s := &Server{
		cfg:       cfg,
		publisher: deps.Publisher,
		log:       deps.Log,
		budget:    budget{limit: cfg.MaxInFlightBytes},
		packer:    newPacker(cfg.Linger),
		draining:  make(chan struct{}),
		sender:    make(chan struct{}),
	}
	s.metrics = newMetrics(deps.Registerer, func() float64 { return float64(s.budget.used.Load()) })
	if deps.Redis != nil {
		s.memory = newMemory(*deps.Redis, cfg, s.metrics.redisErrors, deps.Log)
	}
	return s, nil
}

// maxCalls is the number of calls of one connection in progress. A request is in memory before it is admitted: this times
// MaxRequestBytes is what a connection can make the process hold besides Config.MaxInFlightBytes.
const maxCalls = 250

// GRPCOptions are the options that a gRPC server with this service needs: the size of a request, the codec, and how many calls of
// one connection may be in progress, which bounds the memory of requests that are not admitted yet.
func GRPCOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(MaxRequestBytes),
		grpc.MaxConcurrentStreams(maxCalls),
		grpc.ForceServerCodecV2(grpccodec.New()),
		grpc.ChainUnaryInterceptor(grpccodec.Recycle),
	}
}

// Ready says whether events can be accepted: the producer is built and the server does not drain.
func (s *Server) Ready() bool { return !s.isDraining() && s.publisher.Ready() }

// Run sends what the calls hand over until ctx ends, then drains for at most Config.DrainTimeout and closes the publisher. It is
// called once. When it returns an error, messages were not resolved in time: their producers have no OK for them.
func (s *Server) Run(ctx context.Context) error {
	if s.memory != nil {
		defer s.memory.redis.Close()
	}
	publishing, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	published := make(chan error, 1)
	go func() { published <- s.publisher.Run(publishing) }()
	go s.send(publishing)

	var failed error
	select {
	case <-ctx.Done():
	case failed = <-published: // it does not end by itself; if it does, nothing can be sent any more
		published <- nil
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.DrainTimeout)
	defer cancel()
	err := s.Drain(drain)
	stop()
	if err != nil {
		return err // what blocks sender or publisher ends with the process
	}
	<-s.sender
	if err := <-published; failed == nil {
		failed = err
	}
	return failed
}

// Drain refuses new events with UNAVAILABLE, ends streams when their events are acknowledged, and returns when all is resolved and
// answered, or with an error when ctx ends. Call it before grpc.Server.GracefulStop, which waits for the streams.
func (s *Server) Drain(ctx context.Context) error {
	answered := s.calls.shut()
	s.startDraining()
	s.packer.flush()
	select {
	case <-answered:
	case <-ctx.Done():
		return fmt.Errorf("drain emitter: %d messages are not acknowledged: %w", s.packer.left(), ctx.Err())
	}
	select {
	case <-s.packer.idle():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("drain emitter: %d messages are not acknowledged: %w", s.packer.left(), ctx.Err())
	}
}

func (s *Server) startDraining() {
	s.calls.mu.Lock()
	defer s.calls.mu.Unlock()
	if !s.isDraining() {
		close(s.draining)
	}
}

func (s *Server) isDraining() bool {
	select {
	case <-s.draining:
		return true
	default:
		return false
	}
}

// send is the one goroutine that waits when the producer is full. Calls do not: they have deadlines.
func (s *Server) send(ctx context.Context) {
	defer close(s.sender)
	var queue []*message
	for {
		select {
		case <-s.packer.ready:
		case <-ctx.Done():
			return
		}
		queue = s.packer.take(queue)
		for i, m := range queue {
			queue[i] = nil
			s.publish(m)
		}
	}
}

// publish joins the pieces of a message and sends it.
func (s *Server) publish(m *message) {
	value := m.pieces[0].buf
	reserve(value, m.bytes)
	for _, p := range m.pieces[1:] {
		*value = append(*value, (*p.buf)[len(batchHeader):]...)
		buffers.Put(p.buf)
		p.buf = nil
	}
	s.metrics.messageEvents.Observe(float64(m.events))
	s.metrics.messageBytes.Observe(float64(len(*value)))
	s.publisher.Publish(m.lane.source, *value, func(err error) { s.resolve(m, value, err) })
}

// resolve runs on the producer's goroutine. The packer comes first, so that the next message of the source is on its way while the
// callers wake up.
func (s *Server) resolve(m *message, value *[]byte, err error) {
	s.packer.resolved(m)
	state := stateAcked
	if err != nil {
		state = stateFailed
	} else {
		s.metrics.ackSeconds.Observe(time.Since(m.sealedAt).Seconds())
	}
	buffers.Put(value)
	for _, p := range m.pieces {
		s.budget.give(p.cost)
		p.state.Store(state)
		p.waiter.resolved(p)
	}
}
