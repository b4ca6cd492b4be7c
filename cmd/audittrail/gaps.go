package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

var gapColumns = []column[*audittrailv1.Gap]{
	{"ID", func(g *audittrailv1.Gap) string { return strconv.FormatInt(g.Id, 10) }},
	{"PARTITION", func(g *audittrailv1.Gap) string { return strconv.Itoa(int(g.Partition)) }},
	{"FROM", func(g *audittrailv1.Gap) string { return fmt.Sprintf("%d/%d", g.FromOffset, g.FromIndex) }},
	{"END", func(g *audittrailv1.Gap) string { return fmt.Sprintf("%d/%d", g.EndOffset, g.EndIndex) }},
	{"REASON", (*audittrailv1.Gap).GetReason},
	{"RECORDED", func(g *audittrailv1.Gap) string { return formatTime(g.RecordedAt) }},
	{"FILLED", func(g *audittrailv1.Gap) string { return formatTime(g.FilledAt) }},
}

func newGaps() *cobra.Command {
	var open bool
	var limit int
	list := &cobra.Command{Use: "list", Short: "List gaps, newest first", Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		conn, err := connect(cmd)
		if err != nil {
			return err
		}
		defer conn.Close()
		client := audittrailv1.NewAdminServiceClient(conn)
		out, err := newPrinter(cmd, false, gapColumns)
		if err != nil {
			return err
		}
		err = pages(limit, 1000, func(size int32, token string) (int, string, error) {
			resp, err := client.ListGaps(cmd.Context(), &audittrailv1.ListGapsRequest{OpenOnly: open, PageSize: size, PageToken: token})
			if err != nil {
				return 0, "", fmt.Errorf("list gaps: %w", err)
			}
			for _, g := range resp.Gaps {
				if err := out.add(g); err != nil {
					return 0, "", err
				}
			}
			return len(resp.Gaps), resp.NextPageToken, out.flush()
		})
		return finish(out, err)
	}}
	list.Flags().BoolVar(&open, "open", false, "only those that are still open")
	addLimit(list, &limit)
	addOutput(list)
	c := family("gaps", "Show what was lost before it could be stored", list)
	addAddr(c)
	return c
}
