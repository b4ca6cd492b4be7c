package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/maxviazov/audittrail/internal/config"
	"github.com/maxviazov/audittrail/processors/sink"
	"github.com/maxviazov/audittrail/proto/stream"
)

func newRefill() *cobra.Command {
	var partition int32
	var from int64
	cmd := &cobra.Command{Use: "refill", Short: "Make the enricher process audit-events again from an offset on, to fill what is missing", Args: noArgs,
		Long: `What was lost between enricher and sink is made again from audit-events by itself: a sink that misses something asks for it. This command asks the
same of one partition by hand, for example to fill a gap (audittrail gaps list) from an audit-events that was restored. Nothing is stored twice.

Without --from it is the first offset of which something is not stored and can be made again; this reads PostgreSQL (postgres.dsn). What Kafka no
longer has below the start of audit-events is left out. Enrichers that run find the request within seconds; others when they start, within a day.
It is left in Kafka as the commit of the consumer group ` + stream.RefillGroup + `, which has no members. audittrail status shows a refill that is under way.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := newProcess(cmd, config.Topics)
			if err != nil {
				return err
			}
			given := cmd.Flags().Changed("from")
			switch {
			case partition < 0:
				return usagef("--partition: which one? 0 or more")
			case given && from < 0:
				return usagef("--from: %d, must be 0 or more", from)
			case !given && p.cfg.Postgres.DSN == "":
				return usagef("postgres.dsn: needed to find out what is missing; or say --from")
			}
			kafka := p.stream("audittrail-refill")
			if !given {
				if from, err = firstMissing(cmd.Context(), p.cfg.Postgres.DSN, kafka, partition); err != nil {
					return postgresError(kafkaError(err))
				}
				if from == stream.NoCommit {
					fmt.Fprintf(cmd.OutOrStdout(), "partition %d: nothing is missing that can be made again\n", partition)
					return nil
				}
			}
			return kafkaError(askRefill(cmd.Context(), kafka, partition, from, cmd.OutOrStdout()))
		}}
	config.AddFlags(cmd.Flags(), config.Topics)
	cmd.Flags().Int32VarP(&partition, "partition", "p", -1, "partition of audit-events")
	cmd.Flags().Int64Var(&from, "from", 0, "offset of audit-events to start again at; default: the first of which something is missing")
	return cmd
}

func firstMissing(ctx context.Context, dsn string, kafka stream.Settings, partition int32) (int64, error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return 0, fmt.Errorf("connect to postgresql: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return sink.FirstMissing(ctx, conn, kafka, partition)
}

func askRefill(ctx context.Context, kafka stream.Settings, partition int32, from int64, out io.Writer) (err error) {
	admin, err := stream.NewAdmin(ctx, kafka)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, admin.Close()) }()
	_, n, err := admin.TopicID(ctx, stream.Events)
	if err != nil {
		return err
	}
	if partition >= n {
		return usagef("--partition: %d, %s has %d", partition, stream.Events, n)
	}
	start, end, err := admin.LogRange(ctx, stream.Events, partition)
	if err != nil {
		return err
	}
	if from >= end || start == end {
		return refusedf("partition %d of %s holds nothing from offset %d on: it has %d to %d", partition, stream.Events, from, start, end)
	}
	if err := stream.AskRefill(ctx, kafka, partition, stream.RefillRequest{Offset: from, Asked: time.Now()}); err != nil {
		return err
	}
	fmt.Fprintf(out, "partition %d: enrichers are asked to start again at offset %d of %s, which has %d to %d\n", partition, max(from, start), stream.Events, start, end)
	return nil
}
