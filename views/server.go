package views

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/maxviazov/audittrail/internal/identity"
	"github.com/maxviazov/audittrail/internal/termindex"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// Deps are the parts the gateway talks to. Redis may be nil, everything else is needed.
type Deps struct {
	// Pool reaches PostgreSQL as a member of audittrail_reader; made from a configuration that ConfigurePool has seen.
	Pool *pgxpool.Pool
	// Redis keeps single records for all gateways; nil: each keeps some in its memory.
	Redis *redis.Client
	// Sources is the state of sources, see SourceViews.
	Sources Sources
	// Positions says where topics and groups stand, see KafkaPositions.
	Positions Positions
	// Publisher writes to Kafka, see KafkaPublisher.
	Publisher Publisher
	// Scope says what the caller of a call may see at all: a filter that is added (AND) to each filter of the call, nil for
	// everything. Nil: everybody sees everything.
	Scope func(ctx context.Context) (*Filter, error)

	Log        zerolog.Logger
	Registerer prometheus.Registerer
}

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// Server answers calls. It is safe for concurrent use and holds no state that a restart would lose.
type Server struct {
	audittrailv1.UnimplementedQueryServiceServer
	audittrailv1.UnimplementedAdminServiceServer

	cfg       Config
	db        *pgxpool.Pool
	sources   Sources
	positions Positions
	publisher Publisher
	scope     func(context.Context) (*Filter, error)
	log       zerolog.Logger
	metrics   *metrics

	tokens    tokens
	records   recordCache
	limits    *limits       // nil: none
	exports   chan struct{} // holds a value for each export that runs
	bundles   *bundleCache
	leaves    leaves
	directory *directory
	runs      termindex.Index
	// manyBundles is the constant, but in tests.
	manyBundles int
	follower    *follower
}

// NewServer checks the configuration and puts the parts together. It connects to nothing: while PostgreSQL or Kafka are away, calls
// answer UNAVAILABLE. Run must run beside it.
func NewServer(cfg Config, deps Deps) (*Server, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure gateway: %w", err)
	}
	if deps.Pool == nil || deps.Sources == nil || deps.Positions == nil || deps.Publisher == nil || deps.Registerer == nil {
		return nil, errors.New("configure gateway: a part is missing")
	}
	key := cfg.Key
	if len(key) == 0 {
		key = make([]byte, 32)
		rand.Read(key) // never fails
	}
	m := newMetrics(deps.Registerer)
	s := &Server{
		cfg: cfg, db: deps.Pool, sources: deps.Sources, positions: deps.Positions, publisher: deps.Publisher, scope: deps.Scope,
		log: deps.Log, metrics: m,
		tokens:  tokens{key: derive(key, "tokens")},
		bundles: newBundleCache(cfg.BundleCacheBytes, m),
	}
	var shared *guardedRedis
	s.manyBundles = manyBundles
	s.directory = &directory{db: deps.Pool, bound: int(cfg.BundleCacheBytes / 8 / bundleInfoBytes)}
	if deps.Redis != nil {
		shared = newGuardedRedis(deps.Redis, cfg.RedisTime, m, deps.Log)
		s.records = newRedisCache(shared, derive(key, "records"), cfg.RedisKeep, m, deps.Log)
	} else {
		s.records = newMemoryCache(cfg.RecordCacheBytes, m)
	}
	s.exports = make(chan struct{}, cfg.MaxExports)
	s.limits = newLimits(cfg, shared, derive(key, "limits"), m)
	s.follower = newFollower(cfg.TailPoll, s.readSizes, deps.Log)
	return s, nil
}

// derive makes a key of its own for each use.
func derive(key []byte, use string) [32]byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte("audittrail gateway " + use))
	return [32]byte(h.Sum(nil))
}

// Run follows the heads for those who tail, until ctx ends. It returns nil.
func (s *Server) Run(ctx context.Context) error { return s.follower.run(ctx) }

// Ready says why the gateway should get no calls: PostgreSQL does not answer, or the views of sources have not caught up. Nil
// when it should.
func (s *Server) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, min(s.cfg.StatementTime, 2*time.Second))
	defer cancel()
	if err := s.db.Ping(ctx); err != nil {
		return fmt.Errorf("postgresql: %w", err)
	}
	if err := s.sources.Ready(); err != nil {
		return fmt.Errorf("sources: %w", err)
	}
	return nil
}

// principal of the call, as tokens are bound to it.
func principal(ctx context.Context) string { return identity.From(ctx) }

// ConfigurePool sets what the statements of the gateway rely on: each is ended after StatementTime, planned with its values (so that only
// the leaves it needs are opened), and runs in one process. Everything but what the schema lets readers mark is read-only by grants.
func ConfigurePool(pool *pgxpool.Config, cfg Config) {
	params := pool.ConnConfig.RuntimeParams
	params["application_name"] = "audittrail-gateway"
	params["statement_timeout"] = fmt.Sprint(cfg.WithDefaults().StatementTime.Milliseconds())
	params["plan_cache_mode"] = "force_custom_plan"
	params["max_parallel_workers_per_gather"] = "0"
	params["jit"] = "off"
}
