package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
)

// validate reports what the single values cannot say: what a role needs, and what does not go together.
func (c *Config) validate(role Role) []error {
	var problems []error
	add := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }

	if c.Kafka.MinInsync > c.Kafka.Replication {
		add("kafka.min_insync_replicas: %d is above kafka.replication, %d: nothing could ever be acknowledged", c.Kafka.MinInsync, c.Kafka.Replication)
	}
	for _, broker := range c.Kafka.Brokers {
		if _, _, err := net.SplitHostPort(broker); err != nil {
			add("kafka.brokers: %q is no host:port", broker)
		}
	}
	if needs(role, "kafka.brokers") && role != All && len(c.Kafka.Brokers) == 0 {
		add("kafka.brokers: %s needs it", role)
	}
	if role == All && c.Embedded() && c.Kafka.Replication > 1 {
		add("kafka.replication: %d, and the embedded broker is one", c.Kafka.Replication)
	}
	if (role == Sink || role == Gateway) && c.Postgres.DSN == "" {
		add("postgres.dsn: %s needs it", role)
	}
	if (role == Migrate || role == Retention) && c.Postgres.DSN == "" && c.Postgres.MigrateDSN == "" {
		add("postgres.migrate_dsn: %s needs it, or postgres.dsn", role)
	}
	for name, dsn := range map[string]string{"postgres.dsn": c.Postgres.DSN, "postgres.migrate_dsn": c.Postgres.MigrateDSN} {
		if dsn == "" {
			continue
		}
		if err := checkDSN(dsn); err != nil && !(c.Insecure && errors.Is(err, errWeak)) {
			add("%s: %w", name, err)
		}
	}
	c.validateTransport(role, add)
	c.validateAuth(role, add)
	for name, path := range map[string]string{"redis.password_file": c.Redis.PasswordFile, "gateway.key_file": c.Gateway.KeyFile} {
		if path == "" || !needs(role, name) {
			continue
		}
		if _, err := os.Stat(path); err != nil {
			add("%s: %v", name, err)
		}
	}
	for _, origin := range c.Gateway.CORSOrigins {
		if !isOrigin(origin) {
			add("gateway.cors_origins: %q is no origin: scheme://host or scheme://host:port, http or https, in lower case, without a path and without the scheme's own port", origin)
		}
	}
	for _, l := range []struct{ name, addr string }{
		{"grpc_listen", c.GRPCListen}, {"http_listen", c.HTTPListen}, {"emitter.grpc_listen", c.Emitter.GRPCListen}, {"emitter.http_listen", c.Emitter.HTTPListen},
		{"gateway.grpc_listen", c.Gateway.GRPCListen}, {"gateway.http_listen", c.Gateway.HTTPListen}, {"metrics.listen", c.Metrics.Listen},
	} {
		if role != None && !needs(role, l.name) {
			continue
		}
		switch loopback, err := IsLoopback(l.addr); {
		case err != nil:
			add("%s: %v", l.name, err)
		case !loopback && !c.Insecure && !c.provesCallers(role):
			add("%s: %s is not a loopback address, and nobody has to prove who they are: use 127.0.0.1, or TLS with tls.client_auth required or one of auth, or accept that anybody who reaches it may read and write with --insecure", l.name, l.addr)
		}
	}
	if loopback, err := IsLoopback(c.Kafka.Listen); err != nil || !loopback {
		add("kafka.listen: %q is no loopback address with port; what is embedded listens on loopback only", c.Kafka.Listen)
	}
	slices.SortFunc(problems, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return problems
}

// isOrigin wants an origin as browsers write it (RFC 6454, section 6.2): it is compared byte for byte. A wildcard or "null" is none: both
// stand for pages of anybody.
func isOrigin(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" && u.Port() != "80" || u.Scheme == "https" && u.Port() != "443") && u.Hostname() != "" &&
		s == u.Scheme+"://"+strings.ToLower(u.Host) && !strings.ContainsAny(s, "*") && !strings.HasSuffix(s, ":")
}

// provesCallers says whether those who connect to a listener must prove who they are, over TLS.
func (c *Config) provesCallers(role Role) bool {
	return c.TLS.ClientAuth == "required" || c.Serves() && c.Authenticates(role)
}

// Uses says whether a role uses a key; None uses all.
func Uses(role Role, name string) bool { return role == None || needs(role, name) }

func needs(role Role, name string) bool {
	return slices.ContainsFunc(keys, func(k key) bool { return k.name == name && slices.Contains(k.roles, role) })
}

// IsLoopback says whether an address to listen on, host:port, is reached from this machine only.
func IsLoopback(addr string) (bool, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || port == "" {
		return false, fmt.Errorf("%q is no host:port", addr)
	}
	return isLoopbackHost(host), nil
}
