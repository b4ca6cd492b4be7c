package main

import (
	"github.com/spf13/cobra"

	"github.com/maxviazov/audittrail/internal/config"
	"github.com/maxviazov/audittrail/processors/enricher"
	"github.com/maxviazov/audittrail/proto/stream"
)

func newEnricher() *cobra.Command {
	cmd := &cobra.Command{Use: "enricher", Short: "Drop duplicates and enrich events, Kafka to Kafka", Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		p, err := newProcess(cmd, config.Enricher)
		if err != nil {
			return err
		}
		role, err := p.newEnricherRole(p.cfg.Enricher.SnapshotDir)
		if err != nil {
			return err
		}
		srv, err := p.server("", "", "metrics.listen", p.cfg.Metrics.Listen, readyIf("enricher", role.Ready))
		if err != nil {
			return err
		}
		p.log.Info().Str("http", srv.HTTPAddr()).Msg("enricher serves metrics and health")
		return p.runParts(cmd.Context(), unready(srv), part{"enricher", role.Run}, part{"server", srv.Run})
	}}
	config.AddFlags(cmd.Flags(), config.Enricher)
	return cmd
}

func (p *process) newEnricherRole(snapshots string) (*enricher.Enricher, error) {
	return enricher.New(enricher.Config{
		Kafka:        p.stream("audittrail-enricher"),
		Group:        stream.GroupTuning{InstanceID: p.cfg.Kafka.GroupInstanceID},
		Window:       p.cfg.Enricher.Window,
		WindowMaxIDs: p.cfg.Enricher.WindowMaxIDs,
		SnapshotDir:  snapshots,
		MaxFuture:    p.cfg.Emitter.MaxFuture,
	}, p.log, p.registry)
}
