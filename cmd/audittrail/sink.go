package main

import (
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/maxviazov/audittrail/internal/config"
	"github.com/maxviazov/audittrail/processors/indexer"
	"github.com/maxviazov/audittrail/processors/sink"
	"github.com/maxviazov/audittrail/proto/stream"
)

func newSink() *cobra.Command {
	cmd := &cobra.Command{Use: "sink", Short: "Store records in PostgreSQL, exactly once", Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		p, err := newProcess(cmd, config.Sink)
		if err != nil {
			return err
		}
		role, err := p.newSinkRole(p.cfg.Postgres.DSN)
		if err != nil {
			return err
		}
		index, err := p.newIndexer(p.cfg.Postgres.DSN)
		if err != nil {
			return err
		}
		srv, err := p.server("", "", "metrics.listen", p.cfg.Metrics.Listen, readyIf("sink", role.Ready))
		if err != nil {
			return err
		}
		p.log.Info().Str("http", srv.HTTPAddr()).Msg("sink serves metrics and health")
		return p.runParts(cmd.Context(), unready(srv), part{"indexer", index.Run}, part{"sink", role.Run}, part{"server", srv.Run})
	}}
	config.AddFlags(cmd.Flags(), config.Sink)
	return cmd
}

// newIndexer makes what runs beside the sink: of all sinks' indexers one works at a time.
func (p *process) newIndexer(dsn string) (*indexer.Indexer, error) {
	return indexer.New(indexer.Config{DSN: dsn, ConfigurePool: func(c *pgxpool.Config) { followFiles(c, dsn, p.log) }}, p.log, p.registry)
}

func (p *process) newSinkRole(dsn string) (*sink.Sink, error) {
	return sink.New(sink.Config{
		Kafka:         p.stream("audittrail-sink"),
		Group:         stream.GroupTuning{InstanceID: p.cfg.Kafka.GroupInstanceID},
		DSN:           dsn,
		ConfigurePool: func(c *pgxpool.Config) { followFiles(c, dsn, p.log) },
		BatchRows:     p.cfg.Sink.BatchRows,
		BatchBytes:    int(p.cfg.Sink.BatchBytes),
		BatchAge:      p.cfg.Sink.BatchAge,
	}, p.log, p.registry)
}
