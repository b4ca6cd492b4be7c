package main

import (
	"context"
	"crypto/tls"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"github.com/maxviazov/audittrail/internal/config"
	"github.com/maxviazov/audittrail/internal/tlsfiles"
	"github.com/maxviazov/audittrail/proto/stream"
)

// transport is how this process protects its connections. Its files are followed while certs runs.
type transport struct {
	certs *tlsfiles.Watcher
	serve *tlsfiles.Files // nil: plaintext
	kafka *tlsfiles.Files // nil: plaintext
	redis *tlsfiles.Files // nil: plaintext
}

// newTransport opens the files that the role uses.
func (p *process) newTransport(role config.Role) error {
	p.certs = tlsfiles.NewWatcher(p.cfg.TLS.Reload, p.log.With().Str("component", "tls").Logger(), p.registry)
	uses := func(name string) bool { return config.Uses(role, name) }
	open := func(wanted bool, use string, paths tlsfiles.Paths) (files *tlsfiles.Files, err error) {
		if wanted {
			files, err = p.certs.Open(use, paths)
		}
		return files, err
	}
	var err error
	if p.serve, err = open(uses("tls.cert_file") && p.cfg.Serves(), "tls", p.cfg.TLSPaths()); err != nil {
		return err
	}
	if p.kafka, err = open(uses("kafka.brokers") && p.cfg.Kafka.TLS.Enabled, "kafka.tls", p.cfg.Kafka.TLS.Paths()); err != nil {
		return err
	}
	if p.redis, err = open(uses("redis.addr") && p.cfg.Redis.TLS.Enabled, "redis.tls", p.cfg.Redis.TLS.Paths()); err != nil {
		return err
	}
	// PostgreSQL's driver reads these itself; followed for their expiry.
	paths := p.cfg.PostgresPaths()
	_, err = open(uses("postgres.dsn") && paths != tlsfiles.Paths{}, "postgres.tls", paths)
	return err
}

// stream says how to reach Kafka.
func (p *process) stream(clientID string) stream.Settings {
	s := stream.Settings{Brokers: p.cfg.Kafka.Brokers, ClientID: clientID}
	if p.kafka != nil {
		s.TLS = &tlsfiles.Dialer{Files: p.kafka, ServerName: p.cfg.Kafka.TLS.ServerName}
	}
	if sasl := p.cfg.Kafka.SASL; sasl.Mechanism != "none" {
		s.SASL = &stream.SASL{Mechanism: stream.Mechanism(strings.ToUpper(sasl.Mechanism)), Username: sasl.Username,
			Password: func() (string, error) { return config.ReadSecret(sasl.PasswordFile) }}
	}
	return s
}

// serverTLS is what the listeners serve with; nil: plaintext.
func (p *process) serverTLS() (*tls.Config, error) {
	if p.serve == nil {
		return nil, nil
	}
	return p.serve.Server(tlsfiles.ClientAuth(p.cfg.TLS.ClientAuth))
}

// followFiles makes each new connection of a pool read certificates, key, CAs and password anew. When they cannot be used it goes on with those
// of before.
func followFiles(cfg *pgxpool.Config, dsn string, log zerolog.Logger) {
	var mu sync.Mutex
	good, broken := cfg.ConnConfig.Copy(), ""
	cfg.BeforeConnect = func(_ context.Context, conn *pgx.ConnConfig) error {
		now, err := pgx.ParseConfig(dsn)
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err == nil:
			good, broken = now, ""
		case broken != err.Error():
			broken = err.Error() // it names a file, and may hold the connection string
			log.Error().Msg("files of postgres.dsn cannot be used, those of before stay in use; see audittrail doctor")
		}
		conn.TLSConfig, conn.Fallbacks, conn.Password = good.TLSConfig, good.Fallbacks, good.Password
		return nil
	}
}
