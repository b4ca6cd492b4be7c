package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

func newStatus() *cobra.Command {
	var wait bool
	var timeout time.Duration
	cmd := &cobra.Command{Use: "status", Short: "Show where each stage stands; with --wait, return once everything acknowledged is stored", Args: noArgs,
		Long: `Shows each stage's position and lag, what is stored, duplicates, dead letters and alerts. With --wait it returns once everything that was
acknowledged before is stored, or with exit code 4 when that takes longer than --timeout.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			conn, err := connect(cmd)
			if err != nil {
				return err
			}
			defer conn.Close()
			client := audittrailv1.NewAdminServiceClient(conn)
			var st *audittrailv1.GetStatusResponse
			if wait {
				st, err = awaitStored(cmd.Context(), client, timeout)
			} else {
				st, err = client.GetStatus(cmd.Context(), &audittrailv1.GetStatusRequest{})
			}
			if st != nil {
				err = errors.Join(err, showStatus(cmd, st))
			}
			if err != nil {
				return fmt.Errorf("status: %w", err)
			}
			return nil
		}}
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until everything acknowledged is stored")
	cmd.Flags().DurationVar(&timeout, "timeout", time.Minute, "how long --wait waits")
	addAddr(cmd)
	addOutput(cmd)
	return cmd
}

// awaitStored returns once everything that was in audit-events when it was called is stored; what comes meanwhile is not waited for, or it
// would never return under load. It returns the last status it saw, also with an error.
func awaitStored(ctx context.Context, client audittrailv1.AdminServiceClient, timeout time.Duration) (*audittrailv1.GetStatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var first, last *audittrailv1.GetStatusResponse
	for {
		st, err := client.GetStatus(ctx, &audittrailv1.GetStatusRequest{})
		switch {
		case err == nil:
			if last = st; first == nil {
				first = st
			}
			if st.CaughtUp || reached(first, st) {
				return st, nil
			}
		case ctx.Err() == nil && status.Code(err) != codes.Unavailable:
			return last, err
		}
		select {
		case <-ctx.Done():
			if last == nil && err != nil {
				return nil, unavailableError{err} // whether everything is stored is not known
			}
			return last, unavailableError{errors.Join(errors.New("not everything is stored yet"), err)}
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// reached says whether every log stands where audit-events ended in an earlier status.
func reached(earlier, now *audittrailv1.GetStatusResponse) bool {
	next := make(map[int32]int64, len(now.Partitions))
	for _, p := range now.Partitions {
		next[p.Partition] = p.NextOffset
	}
	for _, p := range earlier.Partitions {
		if next[p.Partition] < p.EventsEnd {
			return false
		}
	}
	return len(earlier.Partitions) > 0
}

func showStatus(cmd *cobra.Command, st *audittrailv1.GetStatusResponse) error {
	format, err := cmd.Flags().GetString("output")
	if err != nil {
		return err
	}
	if format != "table" {
		return printOne(cmd, st, statusColumns)
	}
	return statusTable(cmd.OutOrStdout(), st)
}

// statusColumns are for programs that read CSV: the totals.
var statusColumns = []column[*audittrailv1.GetStatusResponse]{
	{"STORED", func(s *audittrailv1.GetStatusResponse) string { return strconv.FormatInt(s.StoredCount, 10) }},
	{"DUPLICATES", func(s *audittrailv1.GetStatusResponse) string { return strconv.FormatInt(s.DuplicateCount, 10) }},
	{"DEAD_LETTERS", func(s *audittrailv1.GetStatusResponse) string { return strconv.FormatInt(s.DeadLetterCount, 10) }},
	{"OPEN_GAPS", func(s *audittrailv1.GetStatusResponse) string { return strconv.FormatInt(s.OpenGapCount, 10) }},
	{"CAUGHT_UP", func(s *audittrailv1.GetStatusResponse) string { return strconv.FormatBool(s.CaughtUp) }},
}

func statusTable(w io.Writer, st *audittrailv1.GetStatusResponse) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "PARTITION\tEVENTS END\tENRICHER AT\tLAG\tRECORDS END\tSINK AT\tLAG\tLOG SIZE\tBEHIND\t")
	for _, p := range st.Partitions {
		behind := "-"
		if d := p.Lag.AsDuration(); d > 0 {
			behind = d.Round(time.Millisecond).String()
		}
		fmt.Fprintf(tw, "%d\t%d\t%s\t%d\t%d\t%s\t%d\t%d\t%s\t\n", p.Partition, p.EventsEnd, position(p.EnricherPosition), p.EnricherLag,
			p.RecordsEnd, position(p.SinkPosition), p.SinkLag, p.LogSize, behind)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	caughtUp := "everything acknowledged is stored"
	if !st.CaughtUp {
		caughtUp = "not everything acknowledged is stored yet"
	}
	_, err := fmt.Fprintf(w, "\nstored %d, duplicates %d, dead letters %d, open gaps %d; %s\n", st.StoredCount, st.DuplicateCount, st.DeadLetterCount, st.OpenGapCount, caughtUp)
	for _, alert := range st.Alerts {
		fmt.Fprintf(w, "ALERT: %s\n", alert)
	}
	return err
}

func position(n int64) string {
	if n < 0 {
		return "-"
	}
	return strconv.FormatInt(n, 10)
}
