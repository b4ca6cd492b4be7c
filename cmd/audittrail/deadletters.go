package main

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// printOne prints a single message.
func printOne[T proto.Message](cmd *cobra.Command, m T, columns []column[T]) error {
	out, err := newPrinter(cmd, true, columns)
	if err != nil {
		return err
	}
	return errors.Join(out.add(m), out.close())
}

func newDeadLetters() *cobra.Command {
	c := family("deadletters", "Show what could not be processed, and send it again", newDeadLettersList(), newDeadLettersRedrive())
	addAddr(c)
	return c
}

var deadLetterColumns = []column[*audittrailv1.DeadLetter]{
	{"ID", func(d *audittrailv1.DeadLetter) string { return strconv.FormatInt(d.Id, 10) }},
	{"STORED", func(d *audittrailv1.DeadLetter) string { return formatTime(d.StoredAt) }},
	{"SOURCE", (*audittrailv1.DeadLetter).GetSource},
	{"REASON", (*audittrailv1.DeadLetter).GetReason},
	{"DETAIL", (*audittrailv1.DeadLetter).GetDetail},
	{"SLOT", func(d *audittrailv1.DeadLetter) string {
		return fmt.Sprintf("%d/%d/%d", d.Partition, d.Offset, d.Index)
	}},
	{"BYTES", func(d *audittrailv1.DeadLetter) string { return strconv.FormatInt(d.OriginalSize, 10) }},
	{"REDRIVEN", func(d *audittrailv1.DeadLetter) string { return formatTime(d.RedrivenAt) }},
}

func newDeadLettersList() *cobra.Command {
	var pending bool
	var limit int
	cmd := &cobra.Command{Use: "list", Short: "List dead letters, newest first", Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		conn, err := connect(cmd)
		if err != nil {
			return err
		}
		defer conn.Close()
		client := audittrailv1.NewAdminServiceClient(conn)
		out, err := newPrinter(cmd, false, deadLetterColumns)
		if err != nil {
			return err
		}
		err = pages(limit, 1000, func(size int32, token string) (int, string, error) {
			resp, err := client.ListDeadLetters(cmd.Context(), &audittrailv1.ListDeadLettersRequest{PendingOnly: pending, PageSize: size, PageToken: token})
			if err != nil {
				return 0, "", fmt.Errorf("list dead letters: %w", err)
			}
			for _, d := range resp.DeadLetters {
				if err := out.add(d); err != nil {
					return 0, "", err
				}
			}
			return len(resp.DeadLetters), resp.NextPageToken, out.flush()
		})
		return finish(out, err)
	}}
	cmd.Flags().BoolVar(&pending, "pending", false, "only those that were never sent again")
	addLimit(cmd, &limit)
	addOutput(cmd)
	return cmd
}

func newDeadLettersRedrive() *cobra.Command {
	var pending bool
	cmd := &cobra.Command{Use: "redrive ID...", Short: "Send dead letters once more through the front door, audit-events",
		Long: `Sends dead letters once more through audit-events. What was wrong with them must have been mended first: else they come back as new dead letters.
Exit code 3 when one could not be sent.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 0) == !pending {
				return usagef("usage: %s, or --pending alone", cmd.UseLine())
			}
			ids := make([]int64, len(args))
			for i, arg := range args {
				id, err := strconv.ParseInt(arg, 10, 64)
				if err != nil {
					return usagef("%q is no number of a dead letter", arg)
				}
				ids[i] = id
			}
			conn, err := connect(cmd)
			if err != nil {
				return err
			}
			defer conn.Close()
			client := audittrailv1.NewAdminServiceClient(conn)
			if pending {
				if ids, err = pendingDeadLetters(cmd, client); err != nil {
					return err
				}
			}
			return redrive(cmd, client, ids)
		}}
	cmd.Flags().BoolVar(&pending, "pending", false, "all that were never sent again")
	return cmd
}

func pendingDeadLetters(cmd *cobra.Command, client audittrailv1.AdminServiceClient) ([]int64, error) {
	var ids []int64
	return ids, pages(0, 1000, func(size int32, token string) (int, string, error) {
		resp, err := client.ListDeadLetters(cmd.Context(), &audittrailv1.ListDeadLettersRequest{PendingOnly: true, PageSize: size, PageToken: token})
		if err != nil {
			return 0, "", fmt.Errorf("list dead letters: %w", err)
		}
		for _, d := range resp.DeadLetters {
			ids = append(ids, d.Id)
		}
		return len(resp.DeadLetters), resp.NextPageToken, nil
	})
}

func redrive(cmd *cobra.Command, client audittrailv1.AdminServiceClient, ids []int64) error {
	sent, failed := 0, 0
	for ; len(ids) > 0; ids = ids[min(len(ids), 1000):] {
		resp, err := client.RedriveDeadLetters(cmd.Context(), &audittrailv1.RedriveDeadLettersRequest{Ids: ids[:min(len(ids), 1000)]})
		if err != nil {
			return fmt.Errorf("redrive dead letters (%d sent before): %w", sent, err)
		}
		sent += int(resp.RedrivenCount)
		for _, f := range resp.Failures {
			failed++
			fmt.Fprintf(cmd.ErrOrStderr(), "dead letter %d: %s\n", f.Id, f.Reason)
		}
	}
	fmt.Fprintf(cmd.OutOrStdout(), "sent again %d, failed %d\n", sent, failed)
	if failed > 0 {
		return refusedf("%d dead letters cannot be sent again", failed)
	}
	return nil
}
