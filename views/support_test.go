package views_test

import (
	"context"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/maxviazov/audittrail/internal/embedded/embeddedtest"
	"github.com/maxviazov/audittrail/internal/identity"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/stream"
	"github.com/maxviazov/audittrail/views"
	"github.com/maxviazov/audittrail/views/viewstest"
)

func TestMain(m *testing.M) {
	code := embeddedtest.Main(m)
	if code == 0 {
		// sarama's metrics have one ticker for the process.
		if err := goleak.Find(goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick")); err != nil {
			println(err.Error())
			code = 1
		}
	}
	os.Exit(code)
}

// gateway is a server under test, called as clients call it.
type gateway struct {
	audittrailv1.QueryServiceClient
	audittrailv1.AdminServiceClient
	server   *views.Server
	registry *prometheus.Registry
}

// options of a gateway; what is not set is a stand-in that holds nothing.
type options struct {
	cfg       views.Config
	redis     *redis.Client
	sources   views.Sources
	positions views.Positions
	publisher views.Publisher
	principal string
	conns     int32 // connections to PostgreSQL; 0: the default
}

// newGateway serves a database as a member of audittrail_reader, until the test ends.
func newGateway(t testing.TB, dsn string, o options) *gateway {
	t.Helper()
	pool, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	pool.ConnConfig.RuntimeParams["role"] = "audittrail_reader"
	views.ConfigurePool(pool, o.cfg)
	if o.conns > 0 {
		pool.MaxConns = o.conns
	}
	ctx, cancel := context.WithCancel(context.Background())
	db, err := pgxpool.NewWithConfig(ctx, pool)
	if err != nil {
		t.Fatal(err)
	}
	if o.sources == nil {
		o.sources = &memorySources{}
	}
	if o.positions == nil {
		o.positions = fixedPositions{}
	}
	if o.publisher == nil {
		o.publisher = &memoryPublisher{}
	}
	registry := prometheus.NewRegistry()
	server, err := views.NewServer(o.cfg, views.Deps{
		Pool: db, Redis: o.redis, Sources: o.sources, Positions: o.positions, Publisher: o.publisher,
		Log: zerolog.New(zerolog.NewTestWriter(t)), Registerer: registry,
	})
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		if err := server.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	with := func(ctx context.Context) context.Context {
		if o.principal == "" {
			return ctx
		}
		ctx, err := identity.With(ctx, o.principal)
		if err != nil {
			t.Error(err)
		}
		return ctx
	}
	limitUnary, limitStream := server.Limit()
	grpcServer := grpc.NewServer(grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		return next(with(ctx), req)
	}, limitUnary), grpc.ChainStreamInterceptor(limitStream))
	audittrailv1.RegisterQueryServiceServer(grpcServer, server)
	audittrailv1.RegisterAdminServiceServer(grpcServer, server)
	listener := bufconn.Listen(1 << 20)
	running.Go(func() {
		if err := grpcServer.Serve(listener); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	conn, err := grpc.NewClient("passthrough:bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		grpcServer.Stop()
		cancel()
		running.Wait()
		db.Close()
	})
	return &gateway{audittrailv1.NewQueryServiceClient(conn), audittrailv1.NewAdminServiceClient(conn), server, registry}
}

// memorySources is a Sources with fixed content.
type memorySources struct {
	mu    sync.Mutex
	all   map[string]*audittrailv1.Source
	paths []string // sorted
	err   error
}

func (m *memorySources) Ready() error { return m.err }

func (m *memorySources) Get(path string) (*audittrailv1.Source, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.all[path], m.err
}

func (m *memorySources) Paths(prefix, after string, n int) ([]string, error) {
	var out []string
	for _, p := range m.paths {
		if len(out) < n && len(p) >= len(prefix) && p[:len(prefix)] == prefix && p > after {
			out = append(out, p)
		}
	}
	return out, m.err
}

// fixedPositions is a Positions that says what it was made of; the zero value knows no partition.
type fixedPositions struct {
	events, records []stream.Range
	commits         []stream.Commit
	first           map[int32]*views.Readable
	open            map[int32]views.OpenTransaction
	err             error
}

func (f fixedPositions) OpenTransactions(_ context.Context, topic string) (map[int32]views.OpenTransaction, error) {
	if topic == stream.Events {
		return f.open, f.err
	}
	return nil, f.err
}

func (f fixedPositions) LogRanges(_ context.Context, topic string) ([]stream.Range, error) {
	if topic == stream.Events {
		return f.events, f.err
	}
	return f.records, f.err
}

func (f fixedPositions) GroupNotes(context.Context, string, string) ([]stream.Commit, error) {
	return f.commits, f.err
}

func (f fixedPositions) FirstReadable(_ context.Context, _ string, p int32, from, end int64) (*views.Readable, error) {
	return f.first[p], f.err
}

// published is one message.
type published struct {
	topic      string
	key, value string
}

// memoryPublisher keeps what is published.
type memoryPublisher struct {
	mu       sync.Mutex
	messages []published
	err      error // of the next calls
	onSend   func(published)
}

func (m *memoryPublisher) Publish(_ context.Context, topic string, key, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	p := published{topic, string(key), string(value)}
	m.messages = append(m.messages, p)
	if m.onSend != nil {
		m.onSend(p)
	}
	return nil
}

// wantCode fails the test unless err is a status of that code.
func wantCode(t testing.TB, err error, want codes.Code) *status.Status {
	t.Helper()
	s := status.Convert(err)
	if s.Code() != want {
		t.Fatalf("got %v, want %v", err, want)
	}
	return s
}

// eventually waits for a condition, for half a minute at most.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s", what)
		}
	}
}

// counter reads a counter or gauge, summed up over the label values that are given.
func (g *gateway) counter(t testing.TB, name string, labels ...string) float64 {
	t.Helper()
	families, err := g.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			fits := len(labels) == 0
			for _, l := range m.GetLabel() {
				for _, want := range labels {
					fits = fits || l.GetValue() == want
				}
			}
			if fits {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// storeOf makes a store of n events in log 0 and returns how to reach it.
func storeOf(t testing.TB, n int) (dsn string, events []*audittrailv1.Event) {
	t.Helper()
	store := viewstest.NewStore(t)
	events = viewstest.NewGenerator(uint64(n), time.Now(), time.Hour).Events(n)
	store.Append(t, 0, events...)
	return store.DSN, events
}
