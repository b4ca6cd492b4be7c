package emitters

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
)

// memory remembers in Redis which events of a request were acknowledged, so that a batch that is sent again because its answer was lost
// does not go through Kafka again. It saves work and is never needed: what it forgets, or cannot say in time, goes through and is
// dropped as a duplicate by the enricher. It answers only from what was acknowledged, so that OK keeps its meaning.
type memory struct {
	redis   *redis.Client
	timeout time.Duration
	ttl     time.Duration
	errors  prometheus.Counter
	log     zerolog.Logger
	// restUntil is the time, in nanoseconds since the epoch, until which Redis is left alone after an error: without it each call
	// would wait for the time-out.
	restUntil atomic.Int64
}

const memoryRest = time.Second

func newMemory(o redis.Options, cfg Config, errors prometheus.Counter, log zerolog.Logger) *memory {
	o.ContextTimeoutEnabled = true // by default go-redis does not look at the deadline
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = cfg.RedisTimeout, cfg.RedisTimeout, cfg.RedisTimeout
	o.MaxRetries, o.DialerRetries = -1, 1
	return &memory{redis: redis.NewClient(&o), timeout: cfg.RedisTimeout, ttl: cfg.RequestTTL, errors: errors, log: log}
}

// remembered is what is known about one request.
type remembered struct {
	key   string
	acked []byte // a bit an event, the lowest first
}

// has says whether event i was acknowledged before. A nil remembered knows nothing.
func (r *remembered) has(i int) bool { return r != nil && r.acked[i/8]&(1<<(i%8)) != 0 }

// recall checks what a request_id demands of the events, and looks up what was acknowledged before. Nil: nothing can be remembered.
func (s *Server) recall(ctx context.Context, b *batch, principal, requestID string) *remembered {
	for i, e := range b.events {
		if e == nil {
			continue
		}
		if e.IdempotencyKey == "" {
			b.entries[i].invalid = append(b.entries[i].invalid, event.Violation{Field: "idempotency_key", Description: "is required with request_id"})
		}
		if e.OccurredAt == nil && e.IdempotencyKey == "" { // with a key, validation says so itself
			b.entries[i].invalid = append(b.entries[i].invalid, event.Violation{Field: "occurred_at", Description: "is required with request_id"})
		}
	}
	if s.memory == nil {
		return nil
	}
	r := &remembered{key: requestKey(principal, requestID, b.events), acked: make([]byte, (len(b.events)+7)/8)}
	s.memory.recall(ctx, r)
	return r
}

// requestKey is where a request is remembered: equal only for equal principal, request_id and events, in their order. Events count by
// their canonical form, since protobuf encodes maps in random order.
func requestKey(principal, requestID string, events []*audittrailv1.Event) string {
	h := sha256.New()
	var buf []byte
	frame := func(b []byte) {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	frame([]byte(principal))
	frame([]byte(requestID))
	for _, e := range events {
		buf = buf[:0]
		if e != nil {
			buf = event.Canonical(buf, e)
		}
		frame(buf)
	}
	return "audittrail:request:" + hex.EncodeToString(h.Sum(nil))
}

func (m *memory) recall(ctx context.Context, r *remembered) {
	if m.rests() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	acked, err := m.redis.Get(ctx, r.key).Bytes()
	switch {
	case err == nil && len(acked) == len(r.acked):
		r.acked = acked
	case err == nil || errors.Is(err, redis.Nil): // another length cannot be ours: a key is of one number of events
	default:
		m.failed("recall request", err)
	}
}

// remember adds what was accepted. A process that dies before has remembered nothing.
func (m *memory) remember(ctx context.Context, r *remembered, b *batch) {
	for i := range b.entries {
		if b.entries[i].accepted() {
			r.acked[i/8] |= 1 << (i % 8)
		}
	}
	if m.rests() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	if err := m.redis.Set(ctx, r.key, r.acked, m.ttl).Err(); err != nil {
		m.failed("remember request", err)
	}
}

func (m *memory) rests() bool { return time.Now().UnixNano() < m.restUntil.Load() }

func (m *memory) failed(operation string, err error) {
	m.errors.Inc()
	m.restUntil.Store(time.Now().Add(memoryRest).UnixNano())
	m.log.Warn().Err(err).Str("operation", operation).Dur("rest", memoryRest).Msg("redis does not answer, requests go through")
}
