package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
)

// redisOptions says how to reach Redis; nil when there is none.
func (p *process) redisOptions() (*redis.Options, error) {
	if p.cfg.Redis.Addr == "" {
		return nil, nil
	}
	o := &redis.Options{Addr: p.cfg.Redis.Addr, ClientName: "audittrail"}
	if path := p.cfg.Redis.PasswordFile; path != "" {
		secret, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("redis.password_file: %w", err)
		}
		o.Password = strings.TrimRight(string(secret), "\r\n")
	}
	return o, nil
}

// newPool makes a pool that connects when first used. configure may be nil.
func newPool(ctx context.Context, dsn string, configure func(*pgxpool.Config)) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("postgres.dsn: %w", err)
	}
	if configure != nil {
		configure(cfg)
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("postgres.dsn: %w", err)
	}
	return pool, nil
}
