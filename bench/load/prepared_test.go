package load

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/maxviazov/audittrail/bench/traffic"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// emitter acknowledges by the rules of the service, but refuses every third event, and every fourth call, for now the first time.
type emitter struct {
	audittrailv1.UnimplementedEmitterServiceServer
	wrong bool // acknowledges with another id

	mu    sync.Mutex
	calls int
	seen  map[string]int // times acknowledged, by key
	tried map[string]bool
}

func (s *emitter) take(e *audittrailv1.Event) *audittrailv1.EmitResult {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := e.GetIdempotencyKey()
	if !s.tried[key] && len(s.tried)%3 == 0 {
		s.tried[key] = true
		return &audittrailv1.EmitResult{Result: &audittrailv1.EmitResult_Status{Status: &status.Status{Code: int32(codes.Unavailable)}}}
	}
	s.tried[key] = true
	s.seen[key]++
	id := ID(e)
	if s.wrong {
		id[15] ^= 1
	}
	return &audittrailv1.EmitResult{Result: &audittrailv1.EmitResult_Id{Id: uuid.UUID(id).String()}}
}

func (s *emitter) refusesCall() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls++; s.calls%4 == 0 {
		return grpcstatus.Error(codes.ResourceExhausted, "try again")
	}
	return nil
}

func (s *emitter) EmitEvent(_ context.Context, req *audittrailv1.EmitEventRequest) (*audittrailv1.EmitEventResponse, error) {
	r := s.take(req.GetEvent())
	if r.GetStatus() != nil {
		return nil, grpcstatus.ErrorProto(r.GetStatus())
	}
	return &audittrailv1.EmitEventResponse{Id: r.GetId()}, s.refusesCall()
}

func (s *emitter) BatchEmitEvents(_ context.Context, req *audittrailv1.BatchEmitEventsRequest) (*audittrailv1.BatchEmitEventsResponse, error) {
	if err := s.refusesCall(); err != nil {
		return nil, err
	}
	answer := &audittrailv1.BatchEmitEventsResponse{}
	for _, e := range req.GetEvents() {
		answer.Results = append(answer.Results, s.take(e))
	}
	return answer, nil
}

// StreamEvents acknowledges out of order, several at a time.
func (s *emitter) StreamEvents(rpc grpc.BidiStreamingServer[audittrailv1.StreamEventsRequest, audittrailv1.StreamEventsResponse]) error {
	var acks []*audittrailv1.EventAck
	flush := func() error {
		for i, j := 0, len(acks)-1; i < j; i, j = i+1, j-1 {
			acks[i], acks[j] = acks[j], acks[i]
		}
		err := rpc.Send(&audittrailv1.StreamEventsResponse{Acks: acks})
		acks = nil
		return err
	}
	for {
		req, err := rpc.Recv()
		if err != nil {
			break // the client's side is closed
		}
		acks = append(acks, &audittrailv1.EventAck{Sequence: req.GetSequence(), Result: s.take(req.GetEvent())})
		if len(acks) == 3 {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if len(acks) > 0 {
		return flush()
	}
	return nil
}

func serve(t *testing.T, s *emitter) grpc.ClientConnInterface {
	t.Helper()
	s.seen, s.tried = map[string]int{}, map[string]bool{}
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer()
	audittrailv1.RegisterEmitterServiceServer(server, s)
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(); server.Stop(); <-done })
	return conn
}

func config(conn grpc.ClientConnInterface) Config {
	return Config{Conns: []grpc.ClientConnInterface{conn}, Shape: traffic.Shape{Seed: 1, Sources: 3, Run: 5, Start: time.Now().Add(-time.Hour)},
		First: 7, Events: 103, Batch: 10, Workers: 3, Timeout: 10 * time.Second}
}

func TestPreparedTrafficIsAcknowledgedCompletely(t *testing.T) {
	prepare := map[string]func(Config) (func(context.Context) error, error){
		"batch": func(c Config) (func(context.Context) error, error) { p, err := Prepare(c, false); return p.Run, err },
		"unary": func(c Config) (func(context.Context) error, error) { p, err := Prepare(c, true); return p.Run, err },
		"stream": func(c Config) (func(context.Context) error, error) {
			p, err := PrepareStream(c, 20)
			return p.Run, err
		},
	}
	for name, prepare := range prepare {
		t.Run(name, func(t *testing.T) {
			s := &emitter{}
			c := config(serve(t, s))
			run, err := prepare(c)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			if err := run(ctx); err != nil {
				t.Fatal(err)
			}
			for i := range c.Events {
				if key := c.Shape.Event(c.First + i).GetIdempotencyKey(); s.seen[key] == 0 {
					t.Errorf("event %d was not acknowledged", i)
				}
			}
			if len(s.seen) != c.Events {
				t.Errorf("%d different events were sent, want %d", len(s.seen), c.Events)
			}
		})
		t.Run(name+" with wrong ids", func(t *testing.T) {
			run, err := prepare(config(serve(t, &emitter{wrong: true})))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			if err := run(ctx); err == nil || !strings.Contains(err.Error(), "acknowledged as") {
				t.Errorf("a wrong id was taken: %v", err)
			}
		})
	}
}
