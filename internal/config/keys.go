package config

import (
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// key is one setting. Its text default is parsed like any other value, so that it cannot be out of bounds.
type key struct {
	name   string
	def    string
	doc    string
	roles  []Role // those that use it; its flag exists there
	value  func(*Config) pflag.Value
	secret func(string) string // prints it without what is secret; nil: nothing is
}

var (
	everyRole    = []Role{All, Emitter, Enricher, Sink, Gateway, Topics, Migrate, Retention}
	kafkaRole    = []Role{All, Emitter, Enricher, Sink, Gateway, Topics}
	servers      = []Role{All, Emitter, Enricher, Sink, Gateway}
	callers      = []Role{All, Emitter, Gateway} // those that serve calls
	postgresRole = []Role{All, Sink, Gateway, Migrate, Topics, Retention}
)

// keys is the reference of the configuration, in the order in which it is printed.
var keys = []key{
	{"data_dir", "data", "Directory of the embedded broker and PostgreSQL, made with mode 0700.", []Role{All},
		func(c *Config) pflag.Value { return textValue{&c.DataDir} }, nil},
	{"grpc_listen", "127.0.0.1:7480", "Address on which `all` serves gRPC.", []Role{All},
		func(c *Config) pflag.Value { return textValue{&c.GRPCListen} }, nil},
	{"http_listen", "127.0.0.1:7481", "Address on which `all` serves REST, metrics and health.", []Role{All},
		func(c *Config) pflag.Value { return textValue{&c.HTTPListen} }, nil},
	{"insecure", "false", "Allows connections that are not encrypted, or to servers that are not verified, beyond this machine: listeners, Kafka, PostgreSQL, Redis.", everyRole,
		func(c *Config) pflag.Value { return boolValue{&c.Insecure} }, nil},
	{"pprof", "false", "Serves Go's profiles below /debug/pprof/ of the HTTP address.", servers,
		func(c *Config) pflag.Value { return boolValue{&c.Pprof} }, nil},

	{"tls.cert_file", "", "PEM file with the certificate that gRPC and HTTP are served with, intermediates after it; empty: both are plaintext. Replaced files are used without a restart, here and below.", servers,
		func(c *Config) pflag.Value { return textValue{&c.TLS.CertFile} }, nil},
	{"tls.key_file", "", "PEM file with its private key.", servers,
		func(c *Config) pflag.Value { return textValue{&c.TLS.KeyFile} }, nil},
	{"tls.ca_file", "", "PEM file with the CAs that certificates of clients must be of.", servers,
		func(c *Config) pflag.Value { return textValue{&c.TLS.CAFile} }, nil},
	{"tls.client_auth", "none", "Certificates of clients: none (not asked for), optional (verified when there is one) or required (no connection without; also for /metrics and /readyz).", servers,
		func(c *Config) pflag.Value {
			return choiceValue{&c.TLS.ClientAuth, []string{"none", "optional", "required"}}
		}, nil},
	{"tls.reload", "10s", "How often certificate files are read again, 1s to 1h.", servers,
		func(c *Config) pflag.Value { return durationValue{&c.TLS.Reload, time.Second, time.Hour} }, nil},

	{"auth.certificates", "", "Rules, separated by commas, that say whom a certificate of a client stands for: spiffe://DOMAIN/PATH (a last segment * fits any), dns:NAME, dns:*.NAME, cn:NAME; !RULE refuses. Once one of auth is set, calls of nobody are refused.", callers,
		func(c *Config) pflag.Value { return listValue{&c.Auth.Certificates} }, nil},
	{"auth.tokens_file", "", "File of API tokens, made by `audittrail tokens create`; read again every tls.reload.", callers,
		func(c *Config) pflag.Value { return textValue{&c.Auth.TokensFile} }, nil},
	{"auth.oidc.issuer", "", "Issuer of the OIDC tokens that are taken, an https URL.", callers,
		func(c *Config) pflag.Value { return textValue{&c.Auth.OIDC.Issuer} }, nil},
	{"auth.oidc.audience", "", "Audience that the tokens must be for.", callers,
		func(c *Config) pflag.Value { return textValue{&c.Auth.OIDC.Audience} }, nil},
	{"auth.oidc.keys_url", "", "Where the issuer's keys are (JWKS), an https URL; empty: as the issuer's discovery says.", callers,
		func(c *Config) pflag.Value { return textValue{&c.Auth.OIDC.KeysURL} }, nil},
	{"auth.oidc.ca_file", "", "PEM file with the CAs that the issuer's server must have a certificate of; empty: those of the system.", callers,
		func(c *Config) pflag.Value { return textValue{&c.Auth.OIDC.CAFile} }, nil},
	{"auth.oidc.groups_claim", "groups", "Claim that lists the groups.", callers,
		func(c *Config) pflag.Value { return textValue{&c.Auth.OIDC.GroupsClaim} }, nil},

	{"kafka.brokers", "", "Brokers to begin with, host:port, separated by commas. `all` without them runs a broker itself.", kafkaRole,
		func(c *Config) pflag.Value { return listValue{&c.Kafka.Brokers} }, nil},
	{"kafka.tls.enabled", "false", "Connects to the brokers with TLS; their certificates must have the host names they advertise.", kafkaRole,
		func(c *Config) pflag.Value { return boolValue{&c.Kafka.TLS.Enabled} }, nil},
	{"kafka.tls.ca_file", "", "PEM file with the CAs that the brokers' certificates must be of; empty: those of the system.", kafkaRole,
		func(c *Config) pflag.Value { return textValue{&c.Kafka.TLS.CAFile} }, nil},
	{"kafka.tls.cert_file", "", "PEM file with the certificate shown to the brokers (mTLS); empty: none.", kafkaRole,
		func(c *Config) pflag.Value { return textValue{&c.Kafka.TLS.CertFile} }, nil},
	{"kafka.tls.key_file", "", "PEM file with its private key.", kafkaRole,
		func(c *Config) pflag.Value { return textValue{&c.Kafka.TLS.KeyFile} }, nil},
	{"kafka.tls.server_name", "", "Name that every broker's certificate must have; empty: the host that the broker advertises.", kafkaRole,
		func(c *Config) pflag.Value { return textValue{&c.Kafka.TLS.ServerName} }, nil},
	{"kafka.sasl.mechanism", "none", "How this process proves to the brokers who it is: none (or TLS alone), scram-sha-256 or scram-sha-512.", kafkaRole,
		func(c *Config) pflag.Value {
			return choiceValue{&c.Kafka.SASL.Mechanism, []string{"none", "scram-sha-256", "scram-sha-512"}}
		}, nil},
	{"kafka.sasl.username", "", "Its user at the brokers.", kafkaRole,
		func(c *Config) pflag.Value { return textValue{&c.Kafka.SASL.Username} }, nil},
	{"kafka.sasl.password_file", "", "File that holds the user's password, read for each connection; its trailing newline is left out.", kafkaRole,
		func(c *Config) pflag.Value { return textValue{&c.Kafka.SASL.PasswordFile} }, nil},
	{"kafka.listen", "127.0.0.1:0", "Loopback address of the embedded broker; port 0: a free one.", []Role{All},
		func(c *Config) pflag.Value { return textValue{&c.Kafka.Listen} }, nil},
	// The embedded program runs one replica of each role: more partitions than a few cost files, buffers and a Merkle log each and give
	// nothing. A cluster's number can never be changed afterwards and bounds its replicas: 12 is divided evenly by 1, 2, 3, 4 and 6 of them.
	{"kafka.partitions", "12", "Partitions of each topic, 1 to 1000; fixed for ever once the topics are made. With the embedded broker: 4.", kafkaRole,
		func(c *Config) pflag.Value { return intValue{&c.Kafka.Partitions, 1, 1000} }, nil},
	{"kafka.replication", "3", "Copies of each partition, 1 to 32. With the embedded broker: 1.", kafkaRole,
		func(c *Config) pflag.Value { return intValue{&c.Kafka.Replication, 1, 32} }, nil},
	{"kafka.min_insync_replicas", "2", "Copies that must have an event before it is acknowledged, 1 to replication. With the embedded broker: 1.", kafkaRole,
		func(c *Config) pflag.Value { return intValue{&c.Kafka.MinInsync, 1, 32} }, nil},
	{"kafka.group_instance_id", "", "Name of this replica in its consumer group (static membership), unique in the group; empty: none. For rolling restarts.", []Role{Enricher, Sink},
		func(c *Config) pflag.Value { return textValue{&c.Kafka.GroupInstanceID} }, nil},

	{"postgres.dsn", "", "PostgreSQL, as a URL or key=value list, with a user that is a member of audittrail_writer (sink) or audittrail_reader (gateway). `all` without it runs PostgreSQL itself.", postgresRole,
		func(c *Config) pflag.Value { return textValue{&c.Postgres.DSN} }, redactDSN},
	{"postgres.migrate_dsn", "", "PostgreSQL with a user that may create roles and tables; for `migrate` and `retention`, and for `all` with a DSN of its own. Empty: postgres.dsn.", []Role{All, Migrate, Retention},
		func(c *Config) pflag.Value { return textValue{&c.Postgres.MigrateDSN} }, redactDSN},
	{"retention.days", "0", "Days that records are kept at least, from the day they were stored, 1 to 36500; sources may say more (retention_days). 0: `retention apply` needs --retention-days.", []Role{Retention},
		func(c *Config) pflag.Value { return intValue{&c.Retention.Days, 0, 36500} }, nil},
	{"postgres.tls.ca_file", "", "PEM file with the CAs that the server's certificate must be of: the DSN's sslrootcert, unless it has one.", postgresRole,
		func(c *Config) pflag.Value { return textValue{&c.Postgres.TLS.CAFile} }, nil},
	{"postgres.tls.cert_file", "", "PEM file with the certificate shown to the server: the DSN's sslcert, unless it has one.", postgresRole,
		func(c *Config) pflag.Value { return textValue{&c.Postgres.TLS.CertFile} }, nil},
	{"postgres.tls.key_file", "", "PEM file with its private key: the DSN's sslkey, unless it has one.", postgresRole,
		func(c *Config) pflag.Value { return textValue{&c.Postgres.TLS.KeyFile} }, nil},
	{"postgres.port", "0", "Port of the embedded PostgreSQL on 127.0.0.1, 0 to 65535; 0: a free one.", []Role{All},
		func(c *Config) pflag.Value { return intValue{&c.Postgres.Port, 0, 65535} }, nil},

	{"redis.addr", "", "Redis, host:port; empty: caches are in the process and request ids are not remembered.", []Role{All, Emitter, Gateway},
		func(c *Config) pflag.Value { return textValue{&c.Redis.Addr} }, nil},
	{"redis.username", "", "User at Redis (ACL); empty: the default user.", []Role{All, Emitter, Gateway},
		func(c *Config) pflag.Value { return textValue{&c.Redis.Username} }, nil},
	{"redis.tls.enabled", "false", "Connects to Redis with TLS.", []Role{All, Emitter, Gateway},
		func(c *Config) pflag.Value { return boolValue{&c.Redis.TLS.Enabled} }, nil},
	{"redis.tls.ca_file", "", "PEM file with the CAs that Redis's certificate must be of; empty: those of the system.", []Role{All, Emitter, Gateway},
		func(c *Config) pflag.Value { return textValue{&c.Redis.TLS.CAFile} }, nil},
	{"redis.tls.cert_file", "", "PEM file with the certificate shown to Redis (mTLS); empty: none.", []Role{All, Emitter, Gateway},
		func(c *Config) pflag.Value { return textValue{&c.Redis.TLS.CertFile} }, nil},
	{"redis.tls.key_file", "", "PEM file with its private key.", []Role{All, Emitter, Gateway},
		func(c *Config) pflag.Value { return textValue{&c.Redis.TLS.KeyFile} }, nil},
	{"redis.tls.server_name", "", "Name that Redis's certificate must have; empty: the host of redis.addr.", []Role{All, Emitter, Gateway},
		func(c *Config) pflag.Value { return textValue{&c.Redis.TLS.ServerName} }, nil},
	{"redis.password_file", "", "File that holds the user's password, read for each connection; its trailing newline is left out.", []Role{All, Emitter, Gateway},
		func(c *Config) pflag.Value { return textValue{&c.Redis.PasswordFile} }, nil},

	{"emitter.grpc_listen", "127.0.0.1:7480", "Address on which the emitter serves gRPC.", []Role{Emitter},
		func(c *Config) pflag.Value { return textValue{&c.Emitter.GRPCListen} }, nil},
	{"emitter.http_listen", "127.0.0.1:7481", "Address on which the emitter serves REST, metrics and health.", []Role{Emitter},
		func(c *Config) pflag.Value { return textValue{&c.Emitter.HTTPListen} }, nil},
	{"emitter.max_in_flight_bytes", "64MiB", "Bytes of events accepted and not yet acknowledged by the broker, 1MiB to 64GiB; beyond it producers are told to wait.", []Role{All, Emitter},
		func(c *Config) pflag.Value { return sizeValue{&c.Emitter.MaxInFlightBytes, 1 << 20, 64 << 30} }, nil},
	{"emitter.max_future", "5m", "How far occurred_at may lie ahead of the emitter's clock, 1s to 24h.", []Role{All, Emitter, Enricher},
		func(c *Config) pflag.Value { return durationValue{&c.Emitter.MaxFuture, time.Second, 24 * time.Hour} }, nil},
	{"emitter.linger", "5ms", "How long events of a source wait for company under load, 0s to 1s.", []Role{All, Emitter},
		func(c *Config) pflag.Value { return durationValue{&c.Emitter.Linger, 0, time.Second} }, nil},

	{"enricher.window", "15m", "How long an accepted id is remembered, 1s to 168h. Half the table's compaction lag, so `topics apply` must know it too.", []Role{All, Enricher, Topics},
		func(c *Config) pflag.Value { return durationValue{&c.Enricher.Window, time.Second, 168 * time.Hour} }, nil},
	{"enricher.window_max_ids", "1000000", "Ids remembered per partition at most, 1000 to 100000000; 44 bytes each and more in memory.", []Role{All, Enricher},
		func(c *Config) pflag.Value { return intValue{&c.Enricher.WindowMaxIDs, 1000, 100_000_000} }, nil},
	{"enricher.snapshot_dir", "", "Directory of the enricher's snapshots, which make a restart quick; empty: none (`all`: below data_dir).", []Role{All, Enricher},
		func(c *Config) pflag.Value { return textValue{&c.Enricher.SnapshotDir} }, nil},

	{"sink.batch_rows", "20000", "Records in one transaction at most, 100 to 200000.", []Role{All, Sink},
		func(c *Config) pflag.Value { return intValue{&c.Sink.BatchRows, 100, 200_000} }, nil},
	{"sink.batch_bytes", "16MiB", "Bytes of messages in one transaction at most, 1MiB to 256MiB.", []Role{All, Sink},
		func(c *Config) pflag.Value { return sizeValue{&c.Sink.BatchBytes, 1 << 20, 256 << 20} }, nil},
	{"sink.batch_age", "200ms", "How long the first message of a batch waits for others, 1ms to 1s.", []Role{All, Sink},
		func(c *Config) pflag.Value { return durationValue{&c.Sink.BatchAge, time.Millisecond, time.Second} }, nil},

	{"gateway.grpc_listen", "127.0.0.1:7482", "Address on which the gateway serves gRPC.", []Role{Gateway},
		func(c *Config) pflag.Value { return textValue{&c.Gateway.GRPCListen} }, nil},
	{"gateway.http_listen", "127.0.0.1:7483", "Address on which the gateway serves REST, metrics and health.", []Role{Gateway},
		func(c *Config) pflag.Value { return textValue{&c.Gateway.HTTPListen} }, nil},
	{"gateway.cache_bytes", "64MiB", "Memory for decoded bundles, 1MiB to 64GiB.", []Role{All, Gateway},
		func(c *Config) pflag.Value { return sizeValue{&c.Gateway.CacheBytes, 1 << 20, 64 << 30} }, nil},
	{"gateway.key_file", "", "File of at least 32 random bytes that authenticates page tokens and cached records; the same for all gateways. Empty: random at each start.", []Role{All, Gateway},
		func(c *Config) pflag.Value { return textValue{&c.Gateway.KeyFile} }, nil},
	{"gateway.reflection", "false", "Describes the services by gRPC server reflection, for tools such as grpcurl.", []Role{All, Gateway},
		func(c *Config) pflag.Value { return boolValue{&c.Gateway.Reflection} }, nil},
	{"gateway.cors_origins", "", "Origins, such as https://audit.example.com, whose web pages may read by GET (CORS), separated by commas. Empty: none.", []Role{All, Gateway},
		func(c *Config) pflag.Value { return listValue{&c.Gateway.CORSOrigins} }, nil},
	{"gateway.rate_limit", "0", "Calls a second of one principal, 1 to 1000000, over all gateways that share Redis and gateway.key_file; 0: no limit. A stream is one call.", []Role{All, Gateway},
		func(c *Config) pflag.Value { return intValue{&c.Gateway.RateLimit, 0, 1_000_000} }, nil},
	{"gateway.rate_burst", "0", "Calls that one principal may make at once after a pause, 1 to 1000000; 0: as many as in two seconds.", []Role{All, Gateway},
		func(c *Config) pflag.Value { return intValue{&c.Gateway.RateBurst, 0, 1_000_000} }, nil},

	// Enricher and sink run many to a machine: a fixed port would be taken by the second.
	{"metrics.listen", "127.0.0.1:0", "Address on which enricher and sink serve metrics and health; port 0: a free one, said in the log.", []Role{Enricher, Sink},
		func(c *Config) pflag.Value { return textValue{&c.Metrics.Listen} }, nil},
	{"http.allowed_hosts", "", "Names besides localhost and the listening address that a request's Host may carry, separated by commas.", servers,
		func(c *Config) pflag.Value { return listValue{&c.HTTP.AllowedHosts} }, nil},
	{"log.level", "info", "debug, info, warn or error.", everyRole,
		func(c *Config) pflag.Value {
			return choiceValue{&c.Log.Level, []string{"debug", "info", "warn", "error"}}
		}, nil},
	{"log.format", "auto", "json, console, or auto: console on a terminal.", everyRole,
		func(c *Config) pflag.Value {
			return choiceValue{&c.Log.Format, []string{"auto", "json", "console"}}
		}, nil},
}

// FlagName is the name of a key's flag: that of the key with dashes, but --data for data_dir.
func FlagName(name string) string {
	if name == "data_dir" {
		return "data"
	}
	return strings.NewReplacer(".", "-", "_", "-").Replace(name)
}

// EnvName is the name of a key's environment variable.
func EnvName(name string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(name, ".", "_"))
}

// AddFlags adds the flags of a role's keys. Their values are read by Load.
func AddFlags(flags *pflag.FlagSet, role Role) {
	scratch := new(Config)
	for _, k := range keys {
		if role != None && !slices.Contains(k.roles, role) {
			continue
		}
		value := k.value(scratch)
		// pflag takes what stands between back quotes for the name of the value.
		doc := strings.ReplaceAll(strings.TrimSuffix(k.doc, "."), "`", "'")
		f := flags.VarPF(value, FlagName(k.name), "", doc+" ["+EnvName(k.name)+"]")
		f.DefValue = k.def
		if value.Type() == "bool" {
			f.NoOptDefVal = "true"
		}
	}
}
