package views

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/maxviazov/audittrail/proto/event"
)

// redisCache keeps records in Redis for all gateways. Redis is not trusted: an entry is
//
//	version (1) ‖ log (2) ‖ index (8) ‖ record ‖ HMAC-SHA256 (32) of id ‖ everything before
//
// so that neither another content nor another id's entry passes for it. Redis is not needed either: each call has RedisTime, and after
// one that went wrong Redis is left alone for a while, so that a hung one does not slow down every call.
type redisCache struct {
	client  *redis.Client
	key     [32]byte
	time    time.Duration
	keep    time.Duration
	metrics *metrics
	log     zerolog.Logger

	resume atomic.Int64 // no calls before this time, in nanoseconds since the epoch
}

const (
	redisEntryVersion = 1
	redisHeader       = 1 + 2 + 8
	redisPause        = time.Second
)

func newRedisCache(client *redis.Client, key [32]byte, cfg Config, m *metrics, log zerolog.Logger) *redisCache {
	return &redisCache{client: client, key: key, time: cfg.RedisTime, keep: cfg.RedisKeep, metrics: m, log: log}
}

func redisKey(id event.ID) string { return "audittrail:record:" + id.String() }

func (c *redisCache) get(ctx context.Context, ids []event.ID) []*cachedRecord {
	found := make([]*cachedRecord, len(ids))
	keys := make([]string, len(ids))
	for i, id := range ids {
		keys[i] = redisKey(id)
	}
	var values []any
	if !c.call(ctx, "get", func(ctx context.Context) (err error) {
		values, err = c.client.MGet(ctx, keys...).Result()
		return err
	}) || len(values) != len(ids) {
		c.metrics.records.WithLabelValues("error").Add(float64(len(ids)))
		return found
	}
	for i, value := range values {
		text, ok := value.(string)
		if !ok {
			c.metrics.records.WithLabelValues("miss").Inc()
			continue
		}
		if found[i] = c.open(ids[i], []byte(text)); found[i] == nil {
			c.metrics.records.WithLabelValues("refused").Inc()
			c.log.Warn().Msg("cached record refused: it was not written with this installation's key")
			continue
		}
		c.metrics.records.WithLabelValues("hit").Inc()
	}
	return found
}

func (c *redisCache) put(ctx context.Context, id event.ID, r cachedRecord) {
	entry := c.seal(id, r)
	c.call(ctx, "put", func(ctx context.Context) error { return c.client.Set(ctx, redisKey(id), entry, c.keep).Err() })
}

// call runs one command within RedisTime and says whether Redis answered.
func (c *redisCache) call(ctx context.Context, command string, run func(context.Context) error) bool {
	if time.Now().UnixNano() < c.resume.Load() {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, c.time)
	defer cancel()
	// go-redis waits for its own time-outs unless the client was made with ContextTimeoutEnabled: the wait is here.
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err == nil {
		return true
	}
	if !errors.Is(err, context.Canceled) { // the caller's, not Redis's doing
		c.resume.Store(time.Now().Add(redisPause).UnixNano())
		c.log.Debug().Err(err).Str("command", command).Msg("redis left alone for a while")
	}
	return false
}

func (c *redisCache) seal(id event.ID, r cachedRecord) []byte {
	b := make([]byte, 0, redisHeader+len(r.record)+sha256.Size)
	b = append(b, redisEntryVersion)
	b = binary.BigEndian.AppendUint16(b, uint16(r.log))
	b = binary.BigEndian.AppendUint64(b, uint64(r.index))
	b = append(b, r.record...)
	return append(b, c.mac(id, b)...)
}

func (c *redisCache) open(id event.ID, b []byte) *cachedRecord {
	if len(b) < redisHeader+sha256.Size {
		return nil
	}
	body := b[:len(b)-sha256.Size]
	if !hmac.Equal(b[len(body):], c.mac(id, body)) || body[0] != redisEntryVersion {
		return nil
	}
	return &cachedRecord{
		log:    int16(binary.BigEndian.Uint16(body[1:])),
		index:  int64(binary.BigEndian.Uint64(body[3:])),
		record: body[redisHeader:],
	}
}

func (c *redisCache) mac(id event.ID, body []byte) []byte {
	h := hmac.New(sha256.New, c.key[:])
	h.Write(id[:])
	h.Write(body)
	return h.Sum(nil)
}
