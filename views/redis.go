package views

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/maxviazov/audittrail/proto/event"
)

// redisCache keeps records in Redis for all gateways. Redis is not trusted: an entry is
//
//	version (1) ‖ log (2) ‖ index (8) ‖ record ‖ HMAC-SHA256 (32) of id ‖ everything before
//
// so that neither another content nor another id's entry passes for it.
type redisCache struct {
	redis   *guardedRedis
	key     [32]byte // Redis does not hold it
	keep    time.Duration
	metrics *metrics
	log     zerolog.Logger
}

const (
	redisEntryVersion = 1
	redisHeader       = 1 + 2 + 8
)

func newRedisCache(r *guardedRedis, key [32]byte, keep time.Duration, m *metrics, log zerolog.Logger) *redisCache {
	return &redisCache{redis: r, key: key, keep: keep, metrics: m, log: log}
}

func redisKey(id event.ID) string { return "audittrail:record:" + id.String() }

func (c *redisCache) get(ctx context.Context, ids []event.ID) []*cachedRecord {
	found := make([]*cachedRecord, len(ids))
	keys := make([]string, len(ids))
	for i, id := range ids {
		keys[i] = redisKey(id)
	}
	answer := make(chan []any, 1)
	if !c.redis.call(ctx, "records", func(ctx context.Context, client *redis.Client) error {
		got, err := client.MGet(ctx, keys...).Result()
		answer <- got // of a call that nobody waits for any more it is left where it is
		return err
	}) {
		c.metrics.records.WithLabelValues("error").Add(float64(len(ids)))
		return found
	}
	values := <-answer
	if len(values) != len(ids) {
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
	c.redis.call(ctx, "records", func(ctx context.Context, client *redis.Client) error {
		return client.Set(ctx, redisKey(id), entry, c.keep).Err()
	})
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
