package main

import (
	"github.com/spf13/cobra"

	"github.com/maxviazov/audittrail/emitters"
	"github.com/maxviazov/audittrail/internal/config"
	"github.com/maxviazov/audittrail/internal/serve"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

func newEmitter() *cobra.Command {
	cmd := &cobra.Command{Use: "emitter", Short: "Take events from producers and write them to Kafka", Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		p, err := newProcess(cmd, config.Emitter)
		if err != nil {
			return err
		}
		defer gcHeadroom(emitterHeadroom)()
		emitter, err := p.newEmitterServer()
		if err != nil {
			return err
		}
		srv, err := p.server("emitter.grpc_listen", p.cfg.Emitter.GRPCListen, "emitter.http_listen", p.cfg.Emitter.HTTPListen, readyIf("emitter", emitter.Ready))
		if err != nil {
			return err
		}
		if err := registerEmitter(srv, emitter); err != nil {
			return err
		}
		p.log.Info().Str("grpc", srv.GRPCAddr()).Str("http", srv.HTTPAddr()).Msg("emitter serves")
		// The drain comes before the server stops: it ends streams, and answers what waits for the broker.
		return p.runParts(cmd.Context(), unready(srv), part{"emitter", emitter.Run}, part{"server", srv.Run})
	}}
	config.AddFlags(cmd.Flags(), config.Emitter)
	return cmd
}

func (p *process) newEmitterServer() (*emitters.Server, error) {
	redis, err := p.redisOptions()
	if err != nil {
		return nil, err
	}
	log := p.log.With().Str("role", "emitter").Logger()
	linger := p.cfg.Emitter.Linger
	if linger == 0 {
		linger = -1 // to the emitter, 0 is its default
	}
	return emitters.NewServer(emitters.Config{
		MaxInFlightBytes: p.cfg.Emitter.MaxInFlightBytes,
		MaxFuture:        p.cfg.Emitter.MaxFuture,
		Linger:           linger,
	}, emitters.Deps{
		Publisher:  emitters.NewGokaPublisher(p.stream("audittrail-emitter"), log),
		Redis:      redis,
		Registerer: p.registry,
		Log:        log,
	})
}

func registerEmitter(srv *serve.Server, emitter *emitters.Server) error {
	audittrailv1.RegisterEmitterServiceServer(srv.Registrar(), emitter)
	return srv.Handle(audittrailv1.RegisterEmitterServiceHandler)
}
