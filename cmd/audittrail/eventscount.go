package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

func newEventsCount() *cobra.Command {
	var filter string
	var explain, first bool
	cmd := &cobra.Command{Use: "count", Short: "Count the events that a filter accepts", Args: noArgs,
		Long: `Counts the events that a filter accepts and that were stored when the count began. It prints the number. A count that takes long is made by several calls;
--first makes one only, and says on standard error if the number is a lower bound.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			conn, err := connect(cmd)
			if err != nil {
				return err
			}
			defer conn.Close()
			client := audittrailv1.NewQueryServiceClient(conn)
			var how explained
			var sum int64
			token := ""
			for {
				resp, err := client.CountEvents(cmd.Context(), &audittrailv1.CountEventsRequest{Filter: filter, PageToken: token, Explain: explain})
				if err != nil {
					return fmt.Errorf("count events: %w", err)
				}
				sum += resp.Count
				how.add(resp.Explanation)
				if token = resp.NextPageToken; token == "" || first {
					sayPartial(cmd.ErrOrStderr(), token, resp.CompleteAfter)
					break
				}
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), sum)
			how.show(cmd.ErrOrStderr())
			return err
		}}
	cmd.Flags().StringVar(&filter, "filter", "", "AIP-160 filter; empty: everything")
	cmd.Flags().BoolVar(&first, "first", false, "make one call only, also when its answer is partial")
	cmd.Flags().BoolVar(&explain, "explain", false, "say on standard error how the count was made")
	return cmd
}

// sayPartial says until where numbers reach that are not the whole answer.
func sayPartial(out io.Writer, token string, after *timestamppb.Timestamp) {
	switch {
	case token == "":
	case after == nil:
		fmt.Fprintln(out, "partial: nothing was looked at in time")
	default:
		fmt.Fprintf(out, "partial: what happened after %s\n", after.AsTime().Format(time.RFC3339Nano))
	}
}
