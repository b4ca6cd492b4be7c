package client_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/maxviazov/audittrail/emitters/client"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
)

func TestMain(m *testing.M) {
	// sarama's metrics library starts one ticker for the life of the process.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

// scripted is an emitter over gRPC that answers as the test says: one can only wait for a real one to answer strangely.
type scripted struct {
	audittrailv1.UnimplementedEmitterServiceServer
	// answer gives the result of each event, or the error of the call. n counts the calls from 0.
	answer func(ctx context.Context, n int, events []*audittrailv1.Event) ([]*audittrailv1.EmitResult, error)

	mu    sync.Mutex
	calls [][]*audittrailv1.Event
	times []time.Time
}

func (s *scripted) BatchEmitEvents(ctx context.Context, req *audittrailv1.BatchEmitEventsRequest) (*audittrailv1.BatchEmitEventsResponse, error) {
	s.mu.Lock()
	n := len(s.calls)
	s.calls = append(s.calls, req.Events)
	s.times = append(s.times, time.Now())
	s.mu.Unlock()
	results, err := s.answer(ctx, n, req.Events)
	return &audittrailv1.BatchEmitEventsResponse{Results: results}, err
}

// received returns the events of each call so far.
func (s *scripted) received() [][]*audittrailv1.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([][]*audittrailv1.Event(nil), s.calls...)
}

func accepted(events []*audittrailv1.Event) []*audittrailv1.EmitResult {
	results := make([]*audittrailv1.EmitResult, len(events))
	for i, e := range events {
		results[i] = &audittrailv1.EmitResult{Result: &audittrailv1.EmitResult_Id{Id: event.IDOf(e).String()}}
	}
	return results
}

func refused(s *spb.Status) *audittrailv1.EmitResult {
	return &audittrailv1.EmitResult{Result: &audittrailv1.EmitResult_Status{Status: s}}
}

// withRetry is a status with RetryInfo.
func withRetry(code codes.Code, after time.Duration) *status.Status {
	s, err := status.New(code, "try again").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(after)})
	if err != nil {
		panic(err)
	}
	return s
}

// serve returns a connection to the service, until the test ends.
func serve(tb testing.TB, service audittrailv1.EmitterServiceServer, options ...grpc.ServerOption) *grpc.ClientConn {
	tb.Helper()
	listener := bufconn.Listen(1 << 20)
	g := grpc.NewServer(options...)
	audittrailv1.RegisterEmitterServiceServer(g, service)
	go g.Serve(listener)
	conn, err := grpc.NewClient("passthrough:///emitter", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		conn.Close()
		g.Stop()
	})
	return conn
}

// given collects what the client gave up.
type given struct {
	mu   sync.Mutex
	list []client.Undelivered
}

func (g *given) add(u client.Undelivered) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.list = append(g.list, u)
}

func (g *given) all() []client.Undelivered {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]client.Undelivered(nil), g.list...)
}

// newClient returns a client with quick back-off, closed when the test ends.
func newClient(tb testing.TB, service audittrailv1.EmitterServiceServer, o client.Options) *client.Client {
	tb.Helper()
	if o.MinBackoff == 0 {
		o.MinBackoff = time.Millisecond
	}
	if o.MaxBackoff == 0 {
		o.MaxBackoff = 20 * time.Millisecond
	}
	c, err := client.NewWithConn(serve(tb, service), o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		c.Close(ctx)
	})
	return c
}

func login() *audittrailv1.Event {
	return client.NewEvent("acme/payments/api", "user.login").Actor("user", "u-1").Success().Build()
}

func emit(tb testing.TB, c *client.Client, e *audittrailv1.Event) *client.Delivery {
	tb.Helper()
	d, err := c.Emit(tb.Context(), e)
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

func eventually(tb testing.TB, what string, condition func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(10 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("not in time: %s", what)
		}
	}
}
