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
	// Retention is `retention apply`; it works with the user of migrations.
	Retention Role = "retention"
)

// Config holds the value of every key. The table in keys.go documents each.
type Config struct {
	DataDir    string
	GRPCListen string
	HTTPListen string
	Insecure   bool
	Pprof      bool

	TLS struct {
		CertFile   string
		KeyFile    string
		CAFile     string
		ClientAuth string
		Reload     time.Duration
	}
	Auth struct {
		Certificates []string
		TokensFile   string
		OIDC         struct {
			Issuer      string
			Audience    string
			KeysURL     string
			CAFile      string
			GroupsClaim string
		}
	}
	Kafka struct {
		Brokers         []string
		Listen          string
		Partitions      int
		Replication     int
		MinInsync       int
		GroupInstanceID string
		TLS             ClientTLS
		SASL            struct {
			Mechanism    string
			Username     string
			PasswordFile string
		}
	}
	Postgres struct {
		DSN        string
		MigrateDSN string
		Port       int
		TLS        struct {
			CAFile   string
			CertFile string
			KeyFile  string
		}
	}
	Retention struct {
		Days int
	}
	Redis struct {
		Addr         string
		Username     string
		PasswordFile string
		TLS          ClientTLS
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

// ClientTLS says how this process connects to a server of others.
type ClientTLS struct {
	Enabled    bool
	CAFile     string
	CertFile   string
	KeyFile    string
	ServerName string
}

// Serves says whether gRPC and HTTP are served with TLS.
func (c *Config) Serves() bool { return c.TLS.CertFile != "" }

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
