package views

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
)

// guardedRedis is a Redis that is not needed: each call has RedisTime, and after one that went wrong Redis is left alone for a while, so that
// a hung or slow one does not slow down every call. All uses share the pause.
type guardedRedis struct {
	client  *redis.Client
	time    time.Duration
	metrics *metrics
	log     zerolog.Logger

	resume atomic.Int64 // no calls before this time, in nanoseconds since the epoch
}

const redisPause = time.Second

func newGuardedRedis(client *redis.Client, wait time.Duration, m *metrics, log zerolog.Logger) *guardedRedis {
	return &guardedRedis{client: client, time: wait, metrics: m, log: log}
}

// call runs one command within RedisTime and says whether Redis answered.
func (r *guardedRedis) call(ctx context.Context, use string, run func(context.Context, *redis.Client) error) bool {
	if time.Now().UnixNano() < r.resume.Load() {
		r.metrics.redisFailures.WithLabelValues(use).Inc()
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, r.time)
	defer cancel()
	// go-redis waits for its own time-outs unless the client was made with ContextTimeoutEnabled: the wait is here.
	done := make(chan error, 1)
	go func() { done <- run(ctx, r.client) }()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err == nil {
		r.metrics.redisAway.Set(0)
		return true
	}
	if !errors.Is(err, context.Canceled) { // the caller's, not Redis's doing
		r.resume.Store(time.Now().Add(redisPause).UnixNano())
		r.metrics.redisAway.Set(1)
		r.metrics.redisFailures.WithLabelValues(use).Inc()
		r.log.Debug().Err(err).Str("use", use).Msg("redis left alone for a while")
	}
	return false
}
