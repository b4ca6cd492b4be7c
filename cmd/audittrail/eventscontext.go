package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

func newEventsContext() *cobra.Command {
	var relations []string
	var window time.Duration
	var size int32
	cmd := &cobra.Command{Use: "context ID", Short: "Show what happened around an event", Args: exactly(1),
		Long: `Shows the events before and after one that share its trace, its session, its main resource or its actor: the nearest ones, oldest first, with the event
itself between them. The filter under which all of them are found stands on standard error.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			req := &audittrailv1.GetEventContextRequest{Id: args[0], Window: durationpb.New(window), PageSize: size}
			for _, name := range relations {
				n, ok := audittrailv1.Relation_value["RELATION_"+strings.ToUpper(name)]
				if !ok || n == 0 {
					return usagef("--relation %s is none of trace, session, resource, actor", name)
				}
				req.Relations = append(req.Relations, audittrailv1.Relation(n))
			}
			conn, err := connect(cmd)
			if err != nil {
				return err
			}
			defer conn.Close()
			resp, err := audittrailv1.NewQueryServiceClient(conn).GetEventContext(cmd.Context(), req)
			if err != nil {
				return fmt.Errorf("event %s: %w", args[0], err)
			}
			return printContext(cmd, resp)
		}}
	cmd.Flags().StringSliceVar(&relations, "relation", nil, "trace, session, resource, actor, separated by commas; empty: all that the event has")
	cmd.Flags().DurationVar(&window, "window", time.Hour, "how far to look to each side, 1s to 720h")
	cmd.Flags().Int32Var(&size, "limit", 10, "how many events of each relation and side, 1 to 100")
	addOutput(cmd)
	return cmd
}

// contextRow is one event of a context, with what it shares with the one in the middle.
type contextRow struct {
	*audittrailv1.Event
	relation string
}

// printContext prints the response as it is, or as a table of events, each relation in the order of time.
func printContext(cmd *cobra.Command, resp *audittrailv1.GetEventContextResponse) error {
	format, err := cmd.Flags().GetString("output")
	if err != nil {
		return err
	}
	if format != "table" && format != "csv" {
		out, err := newPrinter[*audittrailv1.GetEventContextResponse](cmd, true, nil)
		if err != nil {
			return err
		}
		return finish(out, out.add(resp))
	}
	columns := []column[contextRow]{{"RELATION", func(r contextRow) string { return r.relation }}}
	for _, c := range eventColumns {
		columns = append(columns, column[contextRow]{c.title, func(r contextRow) string { return c.value(r.Event) }})
	}
	out, err := newPrinter(cmd, false, columns)
	if err != nil {
		return err
	}
	row := func(e *audittrailv1.Event, relation string) {
		if err == nil {
			err = out.add(contextRow{e, relation})
		}
	}
	for _, related := range resp.Related {
		name := enumText(related.Relation.String(), "RELATION_")
		more := ""
		if related.Partial {
			more = "; there may be more within the window"
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s%s\n", name, printable(related.Filter), more)
		for _, e := range slices.Backward(related.Before) {
			row(e, name)
		}
		row(resp.Event, name+" (this)")
		for _, e := range related.After {
			row(e, name)
		}
	}
	if len(resp.Related) == 0 {
		row(resp.Event, "(this)")
	}
	return finish(out, err)
}
