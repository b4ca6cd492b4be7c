package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/maxviazov/audittrail/internal/config"
	"github.com/maxviazov/audittrail/processors/indexer"
)

func newIndex() *cobra.Command {
	check := &cobra.Command{Use: "check", Short: "Compare the term runs with the segments they were made from", Args: noArgs,
		Long: `Reads every segment that is in a term run, and says what the runs lack: what is missing there, a search by a term would not find. Takes as long as
reading everything; sinks and gateways go on meanwhile. Exit code 1 when something is missing: audittrail index rebuild mends it.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dsn, err := indexDSN(cmd)
			if err != nil {
				return err
			}
			r, err := indexer.Check(cmd.Context(), dsn, progress(cmd.ErrOrStderr()))
			if err != nil {
				return postgresError(err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d runs of %d segments: %d pairs missing, %d without need, %d segments in no run between those that are, %d in several\n",
				r.Runs, r.Segments, r.Missing, r.Extra, r.Holes, r.Twice)
			for _, err := range r.Damaged {
				fmt.Fprintln(cmd.OutOrStdout(), "damaged:", err)
			}
			if !r.OK() {
				return fmt.Errorf("the index does not have everything: run audittrail index rebuild")
			}
			return nil
		}}
	rebuild := &cobra.Command{Use: "rebuild", Short: "Make the term runs again from the segments", Args: noArgs,
		Long: `Replaces each run by new ones, made from its segments; searches go on meanwhile. It waits until no sink's indexer works, and they wait for it. Killed, it
leaves old and new runs, all of them right.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dsn, err := indexDSN(cmd)
			if err != nil {
				return err
			}
			made, err := indexer.Rebuild(cmd.Context(), dsn, progress(cmd.ErrOrStderr()))
			if err != nil {
				return postgresError(err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d term runs made\n", made)
			return nil
		}}
	for _, c := range []*cobra.Command{check, rebuild} {
		config.AddFlags(c.Flags(), config.Migrate)
	}
	return family("index", "Check the term runs, or make them again", check, rebuild)
}

// indexDSN is PostgreSQL as the sink's user, or else the one of migrations.
func indexDSN(cmd *cobra.Command) (string, error) {
	p, err := newProcess(cmd, config.Migrate)
	if err != nil {
		return "", err
	}
	if p.cfg.Postgres.DSN != "" {
		return p.cfg.Postgres.DSN, nil
	}
	return p.cfg.Postgres.MigrateDSN, nil
}

// progress prints how far something is, at most once a second.
func progress(w io.Writer) indexer.Progress {
	var last time.Time
	return func(done, total int) {
		if time.Since(last) < time.Second && done < total {
			return
		}
		last = time.Now()
		fmt.Fprintf(w, "%d of %d segments\n", done, total)
	}
}
