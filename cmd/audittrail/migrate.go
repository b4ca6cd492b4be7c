package main

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"

	"github.com/maxviazov/audittrail/internal/config"
	"github.com/maxviazov/audittrail/processors/sink/schema"
)

func newMigrate() *cobra.Command {
	cmd := &cobra.Command{Use: "migrate", Short: "Bring the tables of PostgreSQL to this program's version", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := newProcess(cmd, config.Migrate)
			if err != nil {
				return err
			}
			dsn := p.cfg.Postgres.MigrateDSN
			if dsn == "" {
				dsn = p.cfg.Postgres.DSN
			}
			if err := schema.Migrate(cmd.Context(), dsn, p.log); err != nil {
				return postgresError(err)
			}
			v, err := schema.Version()
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "PostgreSQL has schema version %d\n", v)
			return nil
		}}
	config.AddFlags(cmd.Flags(), config.Migrate)
	return cmd
}

// postgresError makes an unreachable server exit code 4.
func postgresError(err error) error {
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) {
		return unavailableError{err}
	}
	return err
}
