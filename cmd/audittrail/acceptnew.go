package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/maxviazov/audittrail/internal/config"
	"github.com/maxviazov/audittrail/processors/sink"
	"github.com/maxviazov/audittrail/proto/stream"
)

func newAcceptNew() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{Use: "accept-new", Short: "Accept that the topics were replaced on purpose: go on from the start of the new ones", Args: noArgs,
		Long: `PostgreSQL remembers which topics its logs were filled from. When they were deleted and made again, the sink refuses to run: positions of the old
ones mean nothing in the new ones. This command makes the logs go on from the start of what is in Kafka now. What was acknowledged and not yet
stored when the old topics went is lost; what is stored stays. Without --yes it only says what it would do, with exit code 3.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := newProcess(cmd, config.Topics)
			if err != nil {
				return err
			}
			if p.cfg.Postgres.DSN == "" {
				return usagef("postgres.dsn: accept-new needs it, with a member of audittrail_writer")
			}
			changed, err := acceptNew(cmd.Context(), p.cfg.Postgres.DSN, p.stream("audittrail-topics"), yes, cmd.OutOrStdout())
			switch {
			case err != nil:
				return postgresError(kafkaError(err))
			case changed == 0:
				fmt.Fprintln(cmd.OutOrStdout(), "PostgreSQL knows these topics already, nothing to accept")
			case !yes:
				return refusedf("%d logs would go on from the new topics; run again with --yes", changed)
			}
			return nil
		}}
	config.AddFlags(cmd.Flags(), config.Topics)
	cmd.Flags().BoolVar(&yes, "yes", false, "do it")
	return cmd
}

var errOnlyLooked = errors.New("only looked")

// acceptNew does it in one transaction, and without commit takes it back.
func acceptNew(ctx context.Context, dsn string, kafka stream.Settings, commit bool, out io.Writer) (changed int, err error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return 0, fmt.Errorf("connect to postgresql: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		logs, err := sink.AcceptNew(ctx, tx, kafka)
		if err != nil {
			return err
		}
		for _, l := range logs {
			fmt.Fprintf(out, "log %d: another %s: %t, another %s: %t, partitions known before: %d\n", l.Log, stream.Events, l.Events, stream.Records, l.Records, l.PartitionsBefore)
		}
		changed = len(logs)
		if !commit {
			return errOnlyLooked
		}
		return nil
	})
	if errors.Is(err, errOnlyLooked) {
		err = nil
	}
	return changed, err
}
