package config

import (
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// completeDSN adds the files of postgres.tls to a DSN, as far as it names none itself.
func (c *Config) completeDSN(dsn string) string {
	if dsn == "" {
		return ""
	}
	add := []struct{ name, path string }{
		{"sslrootcert", c.Postgres.TLS.CAFile}, {"sslcert", c.Postgres.TLS.CertFile}, {"sslkey", c.Postgres.TLS.KeyFile},
	}
	add = slices.DeleteFunc(add, func(a struct{ name, path string }) bool { return a.path == "" || hasParameter(dsn, a.name) })
	if len(add) == 0 {
		return dsn
	}
	if isURL(dsn) {
		u, err := url.Parse(dsn)
		if err != nil {
			return dsn // validation says so
		}
		q := u.Query()
		for _, a := range add {
			q.Set(a.name, a.path)
		}
		u.RawQuery = q.Encode()
		return u.String()
	}
	var b strings.Builder
	b.WriteString(dsn)
	for _, a := range add {
		b.WriteString(" " + a.name + "='" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(a.path) + "'")
	}
	return b.String()
}

func hasParameter(dsn, name string) bool {
	if isURL(dsn) {
		u, err := url.Parse(dsn)
		return err == nil && u.Query().Has(name)
	}
	return regexp.MustCompile(`(?i)(^|\s)` + name + `\s*=`).MatchString(dsn)
}

// errWeak says that a DSN would send what is stored in the clear, or to whoever answers.
var errWeak = errors.New("neither verifies the server nor stays on this machine: use sslmode=verify-full with sslrootcert or postgres.tls.ca_file, or accept it with --insecure")

// checkDSN wants every host of a DSN to be on this machine or verified by its name. Messages of the parser may hold the password.
func checkDSN(dsn string) error {
	parsed, err := pgconn.ParseConfig(dsn)
	if err != nil {
		if strings.Contains(err.Error(), "failed to configure TLS") {
			return errors.New("its TLS settings cannot be used: is sslmode right, and are sslrootcert, sslcert and sslkey files that can be read?")
		}
		return errors.New("neither a URL nor a key=value list of PostgreSQL")
	}
	ways := append([]*pgconn.FallbackConfig{{Host: parsed.Host, TLSConfig: parsed.TLSConfig}}, parsed.Fallbacks...)
	for _, way := range ways {
		if strings.HasPrefix(way.Host, "/") || isLoopbackHost(way.Host) {
			continue
		}
		if way.TLSConfig == nil || way.TLSConfig.InsecureSkipVerify || way.TLSConfig.ServerName == "" {
			return errWeak
		}
	}
	return nil
}
