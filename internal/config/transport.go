package config

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/maxviazov/audittrail/internal/tlsfiles"
)

// validateTransport reports what is wrong with the protection of connections: files that cannot be used, settings that do nothing, and what
// would leave this machine in the clear.
func (c *Config) validateTransport(role Role, add func(format string, args ...any)) {
	uses := func(name string) bool { return Uses(role, name) }
	files := func(use string, p tlsfiles.Paths) {
		if (p.Cert == "") != (p.Key == "") {
			add("%s.cert_file and %s.key_file belong together, and one is missing", use, use)
			return
		}
		if _, err := tlsfiles.Load(use, p); err != nil {
			add("%w", err)
		}
	}
	if uses("tls.cert_file") {
		files("tls", c.TLSPaths())
		switch {
		case c.TLS.ClientAuth != "none" && !c.Serves():
			add("tls.client_auth: %s, and without tls.cert_file there is no TLS", c.TLS.ClientAuth)
		case c.TLS.ClientAuth != "none" && c.TLS.CAFile == "":
			add("tls.ca_file: tls.client_auth is %s and needs it", c.TLS.ClientAuth)
		case c.TLS.ClientAuth == "none" && c.TLS.CAFile != "":
			add("tls.client_auth: none, so that tls.ca_file does nothing; did you mean optional or required?")
		}
	}
	if uses("auth.oidc.ca_file") {
		files("auth.oidc", tlsfiles.Paths{CA: c.Auth.OIDC.CAFile})
	}
	if uses("kafka.brokers") {
		c.validateClientTLS("kafka.tls", c.Kafka.TLS, files, add)
		if !c.Kafka.TLS.Enabled && !c.Insecure {
			if away := firstAway(c.Kafka.Brokers); away != "" {
				add("kafka.tls.enabled: false, and %s is not on this machine: use TLS, or accept that the network can read and change events with --insecure", away)
			}
		}
		c.validateSASL(add)
	}
	if uses("redis.addr") && c.Redis.Addr != "" {
		c.validateClientTLS("redis.tls", c.Redis.TLS, files, add)
		if away := firstAway([]string{c.Redis.Addr}); !c.Redis.TLS.Enabled && !c.Insecure && away != "" {
			add("redis.tls.enabled: false, and %s is not on this machine: use TLS, or accept that the network can read records with --insecure", away)
		}
		if c.Redis.Username != "" && c.Redis.PasswordFile == "" {
			add("redis.password_file: redis.username needs it")
		}
	}
	if uses("postgres.dsn") {
		files("postgres.tls", c.PostgresPaths())
	}
}

func (c *Config) validateClientTLS(use string, t ClientTLS, files func(string, tlsfiles.Paths), add func(string, ...any)) {
	if !t.Enabled {
		if t.CAFile != "" || t.CertFile != "" || t.KeyFile != "" || t.ServerName != "" {
			add("%s.enabled: false, so that what else is set of %s does nothing", use, use)
		}
		return
	}
	files(use, t.Paths())
}

func (c *Config) validateSASL(add func(string, ...any)) {
	s := c.Kafka.SASL
	if s.Mechanism == "none" {
		if s.Username != "" || s.PasswordFile != "" {
			add("kafka.sasl.mechanism: none, so that user and password do nothing")
		}
		return
	}
	if s.Username == "" {
		add("kafka.sasl.username: kafka.sasl.mechanism needs it")
	}
	if s.PasswordFile == "" {
		add("kafka.sasl.password_file: kafka.sasl.mechanism needs it")
	} else if _, err := ReadSecret(s.PasswordFile); err != nil {
		add("kafka.sasl.password_file: %w", err)
	}
}

// Paths are the files of a client.
func (t ClientTLS) Paths() tlsfiles.Paths {
	return tlsfiles.Paths{Cert: t.CertFile, Key: t.KeyFile, CA: t.CAFile}
}

// TLSPaths are the files that are served with.
func (c *Config) TLSPaths() tlsfiles.Paths {
	return tlsfiles.Paths{Cert: c.TLS.CertFile, Key: c.TLS.KeyFile, CA: c.TLS.CAFile}
}

// PostgresPaths are the files of postgres.tls.
func (c *Config) PostgresPaths() tlsfiles.Paths {
	return tlsfiles.Paths{Cert: c.Postgres.TLS.CertFile, Key: c.Postgres.TLS.KeyFile, CA: c.Postgres.TLS.CAFile}
}

// ReadSecret reads a file that holds one secret; its trailing newline is left out, and an empty one is an error.
func ReadSecret(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	secret := strings.TrimRight(string(b), "\r\n")
	if secret == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	return secret, nil
}

// firstAway is the first address that is not on this machine; empty: all are.
func firstAway(addrs []string) string {
	for _, addr := range addrs {
		if host, _, err := net.SplitHostPort(addr); err == nil && !isLoopbackHost(host) {
			return addr
		}
	}
	return ""
}

// isLoopbackHost does not resolve names: what a name means is not this machine's to say.
func isLoopbackHost(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
