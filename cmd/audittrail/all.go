package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/maxviazov/audittrail/internal/config"
	"github.com/maxviazov/audittrail/internal/embedded"
	"github.com/maxviazov/audittrail/internal/serve"
	"github.com/maxviazov/audittrail/processors/sink/schema"
	"github.com/maxviazov/audittrail/proto/stream"
	"github.com/maxviazov/audittrail/views"
)

// all runs every role in one process. Only the endpoints differ from production: a broker in the process and a PostgreSQL beside it, unless
// others are configured.
//
//	          gRPC 7480, HTTP 7481
//	             │           ▲
//	        ┌────▼────┐ ┌────┴────┐
//	        │ emitter │ │ gateway │◀── views of sources ◀──┐
//	        └────┬────┘ └────▲────┘                        │
//	audit-events │           │ SELECT                      │ audit-enricher-table
//	        ┌────▼────┐ ┌────┴─────┐ COPY ┌──────┐         │
//	        │ kafka   │ │PostgreSQL│◀─────┤ sink │         │
//	        └────┬────┘ └──────────┘      └──▲───┘         │
//	             │      ┌──────────┐         │             │
//	             └─────▶│ enricher ├─────────┴─────────────┘
//	                    └──────────┘ audit-records
//
// It stops in the order of the data: unready, emitter (drained), enricher, indexer, sink (flushed), server, gateway, views, pools, PostgreSQL, broker.
// Killed at any moment, it goes on from what is acknowledged.
func newAll() *cobra.Command {
	cmd := &cobra.Command{Use: "all", Short: "Run everything in one process, for development: broker and PostgreSQL included", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := newProcess(cmd, config.All)
			if err != nil {
				return err
			}
			a := &all{process: p, began: time.Now()}
			err = a.run(cmd.Context(), cmd.OutOrStdout())
			return errors.Join(err, a.stopStores())
		}}
	config.AddFlags(cmd.Flags(), config.All)
	return cmd
}

// all holds what runs beside the roles.
type all struct {
	*process
	began    time.Time
	data     *embedded.Data     // nil: nothing is embedded
	kafka    *embedded.Kafka    // nil: brokers are configured
	postgres *embedded.Postgres // nil: a DSN is configured
	gateway  *gateway           // once it is assembled
	sinkDSN  string
	readDSN  string
}

func (a *all) run(ctx context.Context, out io.Writer) error {
	// The server listens first, so that a taken address is known before anything is started; it answers at the end.
	var ready func(context.Context) error
	srv, err := a.server("grpc_listen", a.cfg.GRPCListen, "http_listen", a.cfg.HTTPListen, func(ctx context.Context) error { return ready(ctx) },
		limit(func() *views.Server { return a.gateway.server })...)
	if err != nil {
		return err
	}
	parts, ready, err := a.assemble(ctx, srv)
	if err != nil {
		return errors.Join(err, srv.Close())
	}
	defer a.gateway.close()
	return a.runParts(ctx, append(parts, part{"welcome", func(ctx context.Context) error { return a.welcome(ctx, srv, out) }})...)
}

// assemble starts what the roles need, makes them, and returns them in the order in which they stop.
func (a *all) assemble(ctx context.Context, srv *serve.Server) (parts []part, ready func(context.Context) error, err error) {
	if err := a.startStores(ctx); err != nil {
		return nil, nil, err
	}
	if err := stream.Apply(ctx, a.stream("audittrail-topics"), a.cfg.Layout(), a.log.With().Str("component", "topics").Logger()); err != nil {
		return nil, nil, kafkaError(fmt.Errorf("make topics: %w", err))
	}
	emitter, err := a.newEmitterServer()
	if err != nil {
		return nil, nil, err
	}
	enricher, err := a.newEnricherRole(a.snapshots())
	if err != nil {
		return nil, nil, err
	}
	sink, err := a.newSinkRole(a.sinkDSN)
	if err != nil {
		return nil, nil, err
	}
	index, err := a.newIndexer(a.sinkDSN)
	if err != nil {
		return nil, nil, err
	}
	if a.gateway, err = a.newGatewayRole(ctx, a.readDSN); err != nil {
		return nil, nil, err
	}
	if err := errors.Join(registerEmitter(srv, emitter), a.gateway.register(srv)); err != nil {
		return nil, nil, errors.Join(err, a.gateway.close())
	}
	parts = []part{
		unready(srv),
		{"emitter", emitter.Run},
		{"enricher", enricher.Run},
		{"indexer", index.Run},
		{"sink", sink.Run},
		{"server", srv.Run},
		{"gateway", a.gateway.server.Run},
		{"views of sources", a.gateway.sources.Run},
		{"postgresql", a.watchPostgres},
	}
	ready = joinReady(readyIf("emitter", emitter.Ready), readyIf("enricher", enricher.Ready), readyIf("sink", sink.Ready), a.gateway.server.Ready)
	return parts, ready, nil
}

// startStores starts the broker and PostgreSQL, as far as none is configured, and brings the schema up to date.
func (a *all) startStores(ctx context.Context) error {
	external := a.cfg.Postgres.DSN != ""
	if a.cfg.Embedded() || !external {
		data, err := embedded.OpenData(a.cfg.DataDir)
		if err != nil {
			return err
		}
		a.data = data
	}
	log := a.log.With().Str("component", "embedded").Logger()
	if a.cfg.Embedded() {
		kafka, err := embedded.StartKafka(a.data, embedded.KafkaConfig{Listen: a.cfg.Kafka.Listen, Log: log})
		if err != nil {
			return err
		}
		a.kafka = kafka
		a.cfg.Kafka.Brokers = kafka.Addrs()
	}
	migrateDSN := a.cfg.Postgres.MigrateDSN
	if external {
		a.sinkDSN, a.readDSN = a.cfg.Postgres.DSN, a.cfg.Postgres.DSN
		if migrateDSN == "" {
			migrateDSN = a.cfg.Postgres.DSN
		}
	} else {
		a.log.Info().Str("data", a.data.Dir()).Msg("starting postgresql; the first time its binaries are fetched")
		postgres, err := embedded.StartPostgres(ctx, a.data, embedded.PostgresConfig{Port: a.cfg.Postgres.Port, Log: log})
		if err != nil {
			return err
		}
		a.postgres = postgres
		migrateDSN = postgres.DSN()
	}
	if err := schema.Migrate(ctx, migrateDSN, a.log.With().Str("component", "schema").Logger()); err != nil {
		return postgresError(err)
	}
	if external {
		return nil
	}
	var err error
	a.sinkDSN, a.readDSN, err = makeLogins(ctx, a.postgres.DSN())
	return err
}

// snapshots is where the enricher keeps its snapshots.
func (a *all) snapshots() string {
	if a.cfg.Enricher.SnapshotDir != "" || a.data == nil {
		return a.cfg.Enricher.SnapshotDir
	}
	return filepath.Join(a.data.Dir(), "enricher")
}

// watchPostgres ends when the embedded server does by itself: everything would wait for it in vain.
func (a *all) watchPostgres(ctx context.Context) error {
	if a.postgres == nil {
		<-ctx.Done()
		return nil
	}
	select {
	case <-ctx.Done():
		return nil
	case <-a.postgres.Done():
		return fmt.Errorf("the server ended; see %s", a.postgres.Info().Log)
	}
}

// stopStores stops what startStores started, PostgreSQL first.
func (a *all) stopStores() error {
	var errs []error
	if a.postgres != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		errs = append(errs, a.postgres.Stop(ctx))
	}
	if a.kafka != nil {
		a.kafka.Close()
	}
	if a.data != nil {
		errs = append(errs, a.data.Close())
	}
	return errors.Join(errs...)
}
