package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/maxviazov/audittrail/internal/config"
	"github.com/maxviazov/audittrail/internal/serve"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/views"
)

func newGateway() *cobra.Command {
	cmd := &cobra.Command{Use: "gateway", Short: "Answer queries", Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		p, err := newProcess(cmd, config.Gateway)
		if err != nil {
			return err
		}
		g, err := p.newGatewayRole(cmd.Context(), p.cfg.Postgres.DSN)
		if err != nil {
			return err
		}
		defer g.close()
		srv, err := p.server("gateway.grpc_listen", p.cfg.Gateway.GRPCListen, "gateway.http_listen", p.cfg.Gateway.HTTPListen, g.server.Ready,
			limit(func() *views.Server { return g.server })...)
		if err != nil {
			return err
		}
		if err := g.register(srv); err != nil {
			return err
		}
		p.log.Info().Str("grpc", srv.GRPCAddr()).Str("http", srv.HTTPAddr()).Msg("gateway serves")
		// The server stops first: calls in progress still need views and database.
		return p.runParts(cmd.Context(), unready(srv), part{"server", srv.Run}, part{"gateway", g.server.Run}, part{"views of sources", g.sources.Run})
	}}
	config.AddFlags(cmd.Flags(), config.Gateway)
	return cmd
}

// gateway holds the parts of the role that somebody must close.
type gateway struct {
	server    *views.Server
	sources   *views.SourceViews
	pool      *pgxpool.Pool
	redis     *redis.Client // nil: none
	publisher *views.KafkaPublisher
	positions *views.KafkaPositions
}

func (p *process) newGatewayRole(ctx context.Context, dsn string) (*gateway, error) {
	cfg := views.Config{BundleCacheBytes: p.cfg.Gateway.CacheBytes, RateLimit: p.cfg.Gateway.RateLimit, RateBurst: p.cfg.Gateway.RateBurst}
	var err error
	if path := p.cfg.Gateway.KeyFile; path != "" {
		if cfg.Key, err = os.ReadFile(path); err != nil {
			return nil, fmt.Errorf("gateway.key_file: %w", err)
		}
	}
	log := p.log.With().Str("role", "gateway").Logger()
	settings := p.stream("audittrail-gateway")
	g := &gateway{
		sources:   views.NewSourceViews(settings, log, p.registry),
		publisher: views.NewKafkaPublisher(settings),
		positions: views.NewKafkaPositions(settings),
	}
	options, err := p.redisOptions()
	if err != nil {
		return nil, err
	}
	if options != nil {
		g.redis = redis.NewClient(options)
	}
	if g.pool, err = newPool(ctx, dsn, log, func(c *pgxpool.Config) { views.ConfigurePool(c, cfg) }); err != nil {
		return nil, errors.Join(err, g.close())
	}
	g.server, err = views.NewServer(cfg, views.Deps{
		Pool: g.pool, Redis: g.redis, Sources: g.sources, Positions: g.positions, Publisher: g.publisher, Log: log, Registerer: p.registry,
	})
	if err != nil {
		return nil, errors.Join(err, g.close())
	}
	return g, nil
}

// limit makes the options of a server whose calls the gateway limits. The gateway is asked for when a call comes: `all` listens before it makes one.
func limit(server func() *views.Server) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			unary, _ := server().Limit()
			return unary(ctx, req, info, next)
		}),
		grpc.ChainStreamInterceptor(func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			_, limited := server().Limit()
			return limited(srv, stream, info, next)
		}),
	}
}

func (g *gateway) register(srv *serve.Server) error {
	audittrailv1.RegisterQueryServiceServer(srv.Registrar(), g.server)
	audittrailv1.RegisterAdminServiceServer(srv.Registrar(), g.server)
	return errors.Join(srv.Handle(audittrailv1.RegisterQueryServiceHandler), srv.Handle(audittrailv1.RegisterAdminServiceHandler))
}

func (g *gateway) close() error {
	if g.pool != nil {
		g.pool.Close()
	}
	errs := []error{g.publisher.Close(), g.positions.Close()}
	if g.redis != nil {
		errs = append(errs, g.redis.Close())
	}
	return errors.Join(errs...)
}
