package faults

import (
	"context"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/maxviazov/audittrail/bench/judge"
	"github.com/maxviazov/audittrail/bench/ledger"
	"github.com/maxviazov/audittrail/bench/load"
	"github.com/maxviazov/audittrail/bench/stage"
	"github.com/maxviazov/audittrail/internal/embedded/embeddedtest"
)

// system is a whole installation in processes of its own.
type system struct {
	stage.Pipeline
	t        *T
	cluster  *cluster // nil when the scenario runs its broker itself
	postgres *embeddedtest.Server
	redis    *embeddedtest.RedisServer

	emitters, enrichers, sinks, gateways []*stage.Process
	emitterAddrs, gatewayAddrs           []string
	// where each process serves HTTP: metrics and health, and REST where it has services
	emitterHTTP, enricherHTTP, sinkHTTP, gatewayHTTP []string
	ledger                                           string
}

type systemConfig struct {
	cluster                              *cluster // nil: see brokers
	brokers                              []string // nil: those of cluster
	partitions, replicas, minInsync      int
	emitters, enrichers, sinks, gateways int
	binary                               string // empty: as the settings say
	env                                  []string
	postgres                             *embeddedtest.Server // nil: a new one with the usual settings
	// wire changes what the roles connect to, before any of them is made: a proxy in between. nil: nothing is changed.
	wire func(*system)
}

// startSystem prepares topics and tables and starts all roles.
func startSystem(t *T, c systemConfig) *system {
	t.Helper()
	s := &system{t: t, cluster: c.cluster, postgres: c.postgres, redis: embeddedtest.NewRedis(t)}
	if s.postgres == nil {
		s.postgres = embeddedtest.PostgresServer(t, embeddedtest.ServerOptions{})
	}
	dir := t.TempDir()
	if c.brokers == nil {
		c.brokers = c.cluster.brokers()
	}
	if c.binary == "" {
		c.binary = t.program()
	}
	if t.Mutation != "" {
		c.env = append(slices.Clone(c.env), "AUDITTRAIL_MUTATION="+t.Mutation)
	}
	s.ledger = filepath.Join(dir, "ledger")
	s.Pipeline = stage.Pipeline{Dir: dir, Binary: c.binary, Brokers: c.brokers, DSN: s.postgres.DSN(), Redis: s.redis.Addr(),
		Partitions: c.partitions, Replicas: c.replicas, MinInsync: c.minInsync, Env: c.env}
	if err := s.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c.wire != nil {
		c.wire(s)
	}
	addrs, err := stage.FreeAddrs(2*(c.emitters+c.gateways) + c.enrichers + c.sinks)
	if err != nil {
		t.Fatal(err)
	}
	next := func() string { a := addrs[0]; addrs = addrs[1:]; return a }
	for i := range c.emitters {
		s.emitterAddrs, s.emitterHTTP = append(s.emitterAddrs, next()), append(s.emitterHTTP, next())
		s.emitters = append(s.emitters, s.Emitter(i, s.emitterAddrs[i], s.emitterHTTP[i]))
	}
	for i := range c.enrichers {
		s.enricherHTTP = append(s.enricherHTTP, next())
		s.enrichers = append(s.enrichers, s.Enricher(i, s.enricherHTTP[i]))
	}
	for i := range c.sinks {
		s.sinkHTTP = append(s.sinkHTTP, next())
		s.sinks = append(s.sinks, s.Sink(i, s.sinkHTTP[i]))
	}
	for i := range c.gateways {
		s.gatewayAddrs, s.gatewayHTTP = append(s.gatewayAddrs, next()), append(s.gatewayHTTP, next())
		s.gateways = append(s.gateways, s.Gateway(i, s.gatewayAddrs[i], s.gatewayHTTP[i]))
	}
	for _, p := range s.processes() {
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for _, p := range s.processes() {
			if t.Failed() {
				t.Logf("end of the output of %s:\n%s", p.Name(), p.Tail(3000))
			}
			p.Kill9()
		}
	})
	s.track()
	if c.cluster != nil && c.cluster.fake != nil {
		t.reapMembers(c.brokers)
	}
	return s
}

// track keeps the most memory of each process for the report, until the scenario ends.
func (s *system) track() {
	m := s.watchMemory()
	s.t.Cleanup(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		s.t.remembers(m.high)
	})
}

func (s *system) processes() []*stage.Process {
	var all []*stage.Process
	for _, list := range [][]*stage.Process{s.emitters, s.enrichers, s.sinks, s.gateways} {
		all = append(all, list...)
	}
	return all
}

func (s *system) conns() []grpc.ClientConnInterface {
	s.t.Helper()
	var conns []grpc.ClientConnInterface
	for _, addr := range s.emitterAddrs {
		conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(func() { conn.Close() })
		conns = append(conns, conn)
	}
	return conns
}

// postgresVictim kills and starts PostgreSQL itself.
func (s *system) postgresVictim() stage.Victim {
	return stage.Victim{Name: "postgres", Kill: func() { s.postgres.Kill9(s.t) }, Start: func() error { s.postgres.Start(s.t); return nil }}
}

// run sends traffic while the nemesis works, and then waits until everything acknowledged is stored.
func (s *system) run(ctx context.Context, traffic load.Config, nemesis *stage.Nemesis) load.Report {
	s.t.Helper()
	l, err := ledger.Create(s.ledger)
	if err != nil {
		s.t.Fatal(err)
	}
	defer l.Close()
	traffic.Conns, traffic.Brokers, traffic.Ledger = s.conns(), s.Brokers, l
	var progress load.Progress
	var report load.Report
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) { report, err = load.Run(gctx, traffic, &progress); return err })
	if nemesis != nil {
		nemesis.Log = func(format string, args ...any) {
			s.t.Logf("%d acked; "+format, append([]any{progress.Acked.Load()}, args...)...)
		}
		g.Go(func() error { return nemesis.Run(gctx) })
	}
	if err := g.Wait(); err != nil {
		s.t.Fatal(err)
	}
	return report
}

// settle waits until everything acknowledged is stored.
func (s *system) settle(within time.Duration) error {
	s.t.Helper()
	if s.t.Mutation != "" {
		within = min(within, 25*time.Second) // it may never settle, which is what shows the mutation
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), within)
	defer cancel()
	began := time.Now()
	out, err := s.Run(ctx, "status", "--wait", "--timeout", within.String(), "--addr", s.gatewayAddrs[0])
	if err == nil {
		s.t.Logf("settled after %s:\n%s", time.Since(began).Round(time.Millisecond), out)
	}
	return err
}

func (s *system) judge() *judge.Verdict {
	s.t.Helper()
	sent, err := ledger.Read(s.ledger)
	if err != nil {
		s.t.Fatal(err)
	}
	v, err := judge.Judge(s.t.Context(), s.postgres.DSN(), sent)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.judged(v)
	return v
}

// judgeAll is judge, and reads everything through the first gateway as well.
func (s *system) judgeAll(counts bool) *judge.Verdict {
	s.t.Helper()
	v := s.judge()
	sent, err := ledger.Read(s.ledger)
	if err != nil {
		s.t.Fatal(err)
	}
	conn, err := grpc.NewClient(s.gatewayAddrs[0], grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(8<<20)))
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	if err := v.Gateway(s.t.Context(), conn, sent, counts); err != nil {
		s.t.Errorf("read everything through the gateway: %v", err)
	}
	return v
}
