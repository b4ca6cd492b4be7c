package views

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
)

// limits hold back principals that call too often. Each principal has a token bucket in the memory of this gateway and, with Redis, another one
// that all gateways share. A call needs a token of both. The local one alone decides while Redis is away, slow or refuses, so that n gateways
// then grant n times as much; and it bounds what a wiped or hostile Redis, whose buckets are always full, can grant.
type limits struct {
	rate, burst float64
	local       *buckets
	redis       *guardedRedis // nil: none
	key         [32]byte      // of the names in Redis: they tell nothing of the principals
	metrics     *metrics
	now         func() time.Time
}

// newLimits returns nil when there is no limit.
func newLimits(cfg Config, r *guardedRedis, key [32]byte, m *metrics) *limits {
	if cfg.RateLimit == 0 {
		return nil
	}
	rate, burst := float64(cfg.RateLimit), float64(cfg.RateBurst)
	return &limits{rate: rate, burst: burst, local: newBuckets(rate, burst), redis: r, key: key, metrics: m, now: time.Now}
}

// takeScript is the shared bucket: tokens and the time, by Redis's clock, at which there were so many. It grants one token, or says in how many
// microseconds there will be one. It goes when it would be full again anyway.
var takeScript = redis.NewScript(`
local rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local b = redis.call('HMGET', KEYS[1], 'n', 'at')
local n, at = tonumber(b[1]), tonumber(b[2])
if not n or not at or at > now then n, at = burst, now end
n = math.min(burst, n + (now - at) * rate / 1000000)
local wait = 0
if n >= 1 then n = n - 1 else wait = math.ceil((1 - n) * 1000000 / rate) end
redis.call('HSET', KEYS[1], 'n', string.format('%.6f', n), 'at', string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil((burst - n) * 1000 / rate) + 1000)
return wait`)

// take takes a token of a principal. It returns how long to wait for one, 0 when there was one. It never fails: see limits.
func (l *limits) take(ctx context.Context, principal string) time.Duration {
	if wait := l.local.take(principal, l.now()); wait > 0 {
		l.metrics.limited.WithLabelValues("local").Inc()
		return wait
	}
	if l.redis == nil {
		return 0
	}
	answer := make(chan int64, 1)
	if !l.redis.call(ctx, "limits", func(ctx context.Context, client *redis.Client) error {
		wait, err := takeScript.Run(ctx, client, []string{l.name(principal)}, l.rate, l.burst).Int64()
		if err == nil {
			answer <- wait
		}
		return err
	}) {
		return 0
	}
	wait := <-answer
	if wait <= 0 {
		return 0
	}
	l.metrics.limited.WithLabelValues("shared").Inc()
	// Whatever Redis says, nobody waits longer than an empty bucket takes for one token.
	return min(time.Duration(min(wait, int64(time.Hour/time.Microsecond)))*time.Microsecond, time.Duration(float64(time.Second)/l.rate)+time.Millisecond)
}

func (l *limits) name(principal string) string {
	h := hmac.New(sha256.New, l.key[:])
	h.Write([]byte(principal))
	return "audittrail:limit:" + hex.EncodeToString(h.Sum(nil)[:16])
}

// Limit returns interceptors that refuse a call of the services of this package with RESOURCE_EXHAUSTED and RetryInfo when its principal makes more
// than RateLimit. They pass other services by and stand behind whatever sets the principal.
func (s *Server) Limit() (grpc.UnaryServerInterceptor, grpc.StreamServerInterceptor) {
	unary := func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		if err := s.limit(ctx, info.FullMethod); err != nil {
			return nil, err
		}
		return next(ctx, req)
	}
	stream := func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
		if err := s.limit(stream.Context(), info.FullMethod); err != nil {
			return err
		}
		return next(srv, stream)
	}
	return unary, stream
}

func (s *Server) limit(ctx context.Context, method string) error {
	if s.limits == nil || !strings.HasPrefix(method, "/audittrail.v1.QueryService/") && !strings.HasPrefix(method, "/audittrail.v1.AdminService/") {
		return nil
	}
	wait := s.limits.take(ctx, principal(ctx))
	if wait == 0 {
		return nil
	}
	return withDetails(codes.ResourceExhausted, fmt.Sprintf("more than %d calls a second; try again in %v", s.cfg.RateLimit, wait.Round(time.Millisecond)),
		&errdetails.RetryInfo{RetryDelay: durationpb.New(wait)})
}
