package main

import (
	"context"
	"fmt"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/maxviazov/audittrail/internal/config"
	"github.com/maxviazov/audittrail/processors/retention"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
)

func newRetention() *cobra.Command {
	var dryRun bool
	apply := &cobra.Command{Use: "apply", Short: "Remove days that are older than records must be kept", Args: noArgs,
		Long: `Removes the segments of days that were stored longer ago than retention.days, and leaves of events that point to nothing any more. Records of sources
whose registry entry says more (retention_days) stay. What is removed cannot come back: older events become dead letters EXPIRED. Hashes stay.

Each removal is recorded in audittrail.retention_ledger, and emitted as an event of source audittrail/retention through the emitter at --addr; when that does
not answer, the ledger is the only record. Killed at any moment, the next run goes on. Run it daily, as the user of audittrail migrate.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := newProcess(cmd, config.Retention)
			if err != nil {
				return err
			}
			if p.cfg.Retention.Days == 0 {
				return usagef("retention.days: for how many days are records kept?")
			}
			dsn := p.cfg.Postgres.MigrateDSN
			if dsn == "" {
				dsn = p.cfg.Postgres.DSN
			}
			conn, err := connect(cmd)
			if err != nil {
				return err
			}
			defer conn.Close()
			emitter := audittrailv1.NewEmitterServiceClient(conn)
			done, err := retention.Apply(cmd.Context(), retention.Config{DSN: dsn, Days: p.cfg.Retention.Days, DryRun: dryRun,
				Emit: func(ctx context.Context, r retention.Removal) (event.ID, error) { return emitRemoval(ctx, emitter, r) }}, p.log)
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "LEAF\tRECORDS REMOVED\tKEPT\tNOTE")
			for _, r := range done {
				switch {
				case r.Held != "":
					fmt.Fprintf(w, "%s\t-\t-\tstays: %s\n", r.Leaf, r.Held)
				case dryRun:
					fmt.Fprintf(w, "%s\t-\t-\twould be removed\n", r.Leaf)
				default:
					fmt.Fprintf(w, "%s\t%d\t%d\t\n", r.Leaf, r.Removed, r.Kept)
				}
			}
			if flushErr := w.Flush(); err == nil {
				err = flushErr
			}
			return postgresError(err)
		}}
	config.AddFlags(apply.Flags(), config.Retention)
	apply.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be removed")
	c := family("retention", "Remove what is older than it must be kept", apply)
	addAddr(c)
	return c
}

// emitRemoval makes the same event whenever it is called for the same removal.
func emitRemoval(ctx context.Context, emitter audittrailv1.EmitterServiceClient, r retention.Removal) (event.ID, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	e := &audittrailv1.Event{Source: "audittrail/retention", IdempotencyKey: "removed/" + r.Leaf, OccurredAt: timestamppb.New(r.At), Action: "retention.remove",
		Kind: audittrailv1.ActionKind_ACTION_KIND_DELETE, Outcome: audittrailv1.Outcome_OUTCOME_SUCCESS, Actor: &audittrailv1.Actor{Type: "service", Id: "audittrail/retention"},
		Resources:  []*audittrailv1.Resource{{Type: "leaf", Id: r.Leaf}},
		Attributes: map[string]string{"removed": strconv.FormatInt(r.Removed, 10), "kept": strconv.FormatInt(r.Kept, 10)}}
	if !r.Day.IsZero() {
		e.Attributes["day"] = r.Day.Format(time.DateOnly)
	}
	resp, err := emitter.EmitEvent(ctx, &audittrailv1.EmitEventRequest{Event: e})
	if err != nil {
		return event.ID{}, fmt.Errorf("emit: %w", err)
	}
	return event.ParseID(resp.Id)
}
