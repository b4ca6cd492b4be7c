package config

import (
	"time"

	"github.com/maxviazov/audittrail/proto/stream"
)

// Role is what a process does; it decides which keys must be set and which defaults hold.
type Role string

// The roles. None is that of commands that only look at the configuration.
const (
	None     Role = ""
	All      Role = "all"
	Emitter  Role = "emitter"
	Enricher Role = "enricher"
	Sink     Role = "sink"
	Gateway  Role = "gateway"
	Topics   Role = "topics"
	Migrate  Role = "migrate"
)

// Config holds the value of every key. The table in keys.go documents each.
type Config struct {
	DataDir    string
	GRPCListen string
	HTTPListen string
	Insecure   bool
	Pprof      bool

	Kafka struct {
		Brokers         []string
		Listen          string
		Partitions      int
		Replication     int
		MinInsync       int
		GroupInstanceID string
	}
	Postgres struct {
		DSN        string
		MigrateDSN string
		Port       int
	}
	Redis struct {
		Addr         string
		PasswordFile string
	}
	Emitter struct {
		GRPCListen       string
		HTTPListen       string
		MaxInFlightBytes int64
		MaxFuture        time.Duration
		Linger           time.Duration
	}
	Enricher struct {
		Window       time.Duration
		WindowMaxIDs int
		SnapshotDir  string
	}
	Sink struct {
		BatchRows  int
		BatchBytes int64
		BatchAge   time.Duration
	}
	Gateway struct {
		GRPCListen  string
		HTTPListen  string
		CacheBytes  int64
		KeyFile     string
		Reflection  bool
		CORSOrigins []string
		RateLimit   int
		RateBurst   int
	}
	Metrics struct {
		Listen string
	}
	HTTP struct {
		AllowedHosts []string
	}
	Log struct {
		Level  string
		Format string
	}

	origin map[string]string // key → where its value came from
}

// Embedded says whether `all` runs the broker itself.
func (c *Config) Embedded() bool { return len(c.Kafka.Brokers) == 0 }

// Layout is the layout of the topics.
func (c *Config) Layout() stream.Layout {
	return stream.Layout{
		Partitions:  int32(c.Kafka.Partitions),
		Replication: int16(c.Kafka.Replication),
		MinInsync:   int16(c.Kafka.MinInsync),
		Window:      c.Enricher.Window,
	}
}

// Stream says how to reach Kafka.
func (c *Config) Stream(clientID string) stream.Settings {
	return stream.Settings{Brokers: c.Kafka.Brokers, ClientID: clientID}
}
