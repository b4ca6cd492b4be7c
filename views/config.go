package views

import (
	"errors"
	"fmt"
	"time"
)

// Config holds what can be tuned. The zero value of each field means its default.
type Config struct {
	// Key authenticates page tokens, resume tokens and cached records: at least 32 random bytes, the same in all gateways of an
	// installation. Empty: random at each start; then tokens end with the process, and gateways do not share cached records.
	Key []byte

	// ScanRows is how many rows of `events`, or records, one page may look at, 1,000 to 10,000,000; then it ends, short or empty, with the token
	// of the next one. Default 500,000.
	ScanRows int
	// PageTime is how long one page may search before it ends in the same way, 50 ms to 30 s. Default 2 s.
	PageTime time.Duration
	// StatementTime ends one statement in PostgreSQL, 100 ms to 1 min; longer than PageTime. Default 5 s.
	StatementTime time.Duration

	// BundleCacheBytes bounds the memory for decoded bundles, 1 MiB to 64 GiB. Default 64 MiB.
	BundleCacheBytes int64
	// RecordCacheBytes bounds the memory for single records where there is no Redis, 1 MiB to 64 GiB. Default 16 MiB.
	RecordCacheBytes int64
	// RedisTime is how long one call waits for Redis, 1 ms to 1 s; an unreachable Redis is then left alone for a second.
	// Default 20 ms.
	RedisTime time.Duration
	// RedisKeep is how long a record stays in Redis, 1 s to 30 d. Default 1 h.
	RedisKeep time.Duration

	// RateLimit is how many calls a second one principal may make, over all gateways that share Redis and Key, 1 to 1,000,000; a stream
	// is one call. Without Redis each gateway grants as many. 0: no limit.
	RateLimit int
	// RateBurst is how many calls one principal may make at once after a pause, 1 to 1,000,000. Default: those of two seconds.
	RateBurst int

	// TailPoll is how often the heads are read while somebody follows them, 10 ms to 1 s. Default 200 ms.
	TailPoll time.Duration
	// MaxTails is how many streams may follow at once, 1 to 100,000; more are refused. Default 256.
	MaxTails int

	// MaxExports is how many exports may run at once, 1 to 1,000; more are refused. Each takes up to about 20 MiB. Default 16.
	MaxExports int
	// ExportStall is how long the reader of an export may take nothing, 1 s to 1 h; then its stream ends. Default 1 min.
	ExportStall time.Duration

	// SourceWait is how long SetSource waits for its own write to come back through the view, 100 ms to 1 min. Default 5 s.
	SourceWait time.Duration
	// KafkaTime is how long one call waits for Kafka, 100 ms to 1 min. Default 5 s.
	KafkaTime time.Duration
}

// WithDefaults fills in the defaults.
func (c Config) WithDefaults() Config {
	fill(&c.ScanRows, 500_000)
	fill(&c.PageTime, 2*time.Second)
	fill(&c.StatementTime, 5*time.Second)
	fill(&c.BundleCacheBytes, 64<<20)
	fill(&c.RecordCacheBytes, 16<<20)
	fill(&c.RedisTime, 20*time.Millisecond)
	fill(&c.RedisKeep, time.Hour)
	fill(&c.RateBurst, min(2*c.RateLimit, 1_000_000))
	fill(&c.TailPoll, 200*time.Millisecond)
	fill(&c.MaxTails, 256)
	fill(&c.MaxExports, 16)
	fill(&c.ExportStall, time.Minute)
	fill(&c.SourceWait, 5*time.Second)
	fill(&c.KafkaTime, 5*time.Second)
	return c
}

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate reports all problems at once. It wants a Config with its defaults filled in.
func (c Config) Validate() error {
	var problems []error
	if len(c.Key) != 0 && len(c.Key) < 32 {
		problems = append(problems, fmt.Errorf("key has %d bytes: must be at least 32", len(c.Key)))
	}
	check := func(name string, value, low, high any, ok bool) {
		if !ok {
			problems = append(problems, fmt.Errorf("%s is %v: must be %v to %v", name, value, low, high))
		}
	}
	number := func(name string, value, low, high int64) {
		check(name, value, low, high, low <= value && value <= high)
	}
	duration := func(name string, value, low, high time.Duration) {
		check(name, value, low, high, low <= value && value <= high)
	}
	number("scan_rows", int64(c.ScanRows), 1_000, 10_000_000)
	duration("page_time", c.PageTime, 50*time.Millisecond, 30*time.Second)
	duration("statement_time", c.StatementTime, 100*time.Millisecond, time.Minute)
	number("bundle_cache_bytes", c.BundleCacheBytes, 1<<20, 64<<30)
	number("record_cache_bytes", c.RecordCacheBytes, 1<<20, 64<<30)
	duration("redis_time", c.RedisTime, time.Millisecond, time.Second)
	duration("redis_keep", c.RedisKeep, time.Second, 30*24*time.Hour)
	number("rate_limit", int64(c.RateLimit), 0, 1_000_000)
	number("rate_burst", int64(c.RateBurst), int64(min(c.RateLimit, 1)), 1_000_000)
	duration("tail_poll", c.TailPoll, 10*time.Millisecond, time.Second)
	number("max_tails", int64(c.MaxTails), 1, 100_000)
	number("max_exports", int64(c.MaxExports), 1, 1_000)
	duration("export_stall", c.ExportStall, time.Second, time.Hour)
	duration("source_wait", c.SourceWait, 100*time.Millisecond, time.Minute)
	duration("kafka_time", c.KafkaTime, 100*time.Millisecond, time.Minute)
	if c.StatementTime <= c.PageTime {
		problems = append(problems, fmt.Errorf("statement_time is %v: must be longer than page_time (%v)", c.StatementTime, c.PageTime))
	}
	return errors.Join(problems...)
}
