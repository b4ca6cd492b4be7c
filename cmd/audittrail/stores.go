package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/maxviazov/audittrail/internal/config"
	"github.com/maxviazov/audittrail/internal/tlsfiles"
)

// redisOptions says how to reach Redis; nil when there is none.
func (p *process) redisOptions() (*redis.Options, error) {
	if p.cfg.Redis.Addr == "" {
		return nil, nil
	}
	o := &redis.Options{Addr: p.cfg.Redis.Addr, ClientName: "audittrail"}
	if path := p.cfg.Redis.PasswordFile; path != "" {
		if _, err := config.ReadSecret(path); err != nil {
			return nil, fmt.Errorf("redis.password_file: %w", err)
		}
		o.CredentialsProviderContext = func(context.Context) (username, password string, err error) {
			password, err = config.ReadSecret(path)
			return p.cfg.Redis.Username, password, err
		}
	}
	if p.redis != nil {
		o.Dialer = (&tlsfiles.Dialer{Files: p.redis, ServerName: p.cfg.Redis.TLS.ServerName}).DialContext
	}
	return o, nil
}

// newPool makes a pool that connects when first used. configure may be nil.
func newPool(ctx context.Context, dsn string, log zerolog.Logger, configure func(*pgxpool.Config)) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("postgres.dsn: %w", err)
	}
	if configure != nil {
		configure(cfg)
	}
	followFiles(cfg, dsn, log)
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("postgres.dsn: %w", err)
	}
	return pool, nil
}
