package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

func newEvents() *cobra.Command {
	c := family("events", "Find and follow stored events", newEventsGet(), newEventsList(), newEventsTail(), newEventsCount(),
		newEventsAggregate(), newEventsContext(), newEventsExport())
	addAddr(c)
	return c
}

var eventColumns = []column[*audittrailv1.Event]{
	{"OCCURRED", func(e *audittrailv1.Event) string { return formatTime(e.OccurredAt) }},
	{"SOURCE", (*audittrailv1.Event).GetSource},
	{"ACTOR", func(e *audittrailv1.Event) string { return actorText(e.Actor) }},
	{"ACTION", (*audittrailv1.Event).GetAction},
	{"OUTCOME", func(e *audittrailv1.Event) string { return enumText(e.Outcome.String(), "OUTCOME_") }},
	{"RESOURCE", func(e *audittrailv1.Event) string {
		if len(e.Resources) == 0 {
			return ""
		}
		return strings.TrimPrefix(e.Resources[0].Type+":"+e.Resources[0].Id, ":")
	}},
	{"IP", func(e *audittrailv1.Event) string { return e.GetContext().GetIp() }},
	{"ID", (*audittrailv1.Event).GetId},
}

func formatTime(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().Format("2006-01-02T15:04:05.000Z07:00")
}

func actorText(a *audittrailv1.Actor) string {
	switch {
	case a == nil:
		return ""
	case a.Name != "":
		return a.Name
	case a.Id != "":
		return a.Id
	default:
		return a.Type
	}
}

// enumText is the name of an enum's value as people and filters write it.
func enumText(name, prefix string) string {
	text := strings.ToLower(strings.TrimPrefix(name, prefix))
	if text == "unspecified" {
		return ""
	}
	return text
}

func newEventsGet() *cobra.Command {
	var details bool
	cmd := &cobra.Command{Use: "get ID...", Short: "Show events by their ids", Args: atLeastOne, RunE: func(cmd *cobra.Command, ids []string) error {
		conn, err := connect(cmd)
		if err != nil {
			return err
		}
		defer conn.Close()
		client := audittrailv1.NewQueryServiceClient(conn)
		out, err := newPrinter(cmd, len(ids) == 1, eventColumns)
		if err != nil {
			return err
		}
		for _, id := range ids {
			resp, err := client.GetEvent(cmd.Context(), &audittrailv1.GetEventRequest{Id: id})
			if err != nil {
				return fmt.Errorf("event %s: %w", id, err)
			}
			if details {
				// Byte for byte, hence without a newline of ours.
				_, err = io.WriteString(cmd.OutOrStdout(), resp.Event.Details)
			} else {
				err = out.add(resp.Event)
			}
			if err != nil {
				return err
			}
		}
		if details {
			return nil
		}
		return out.close()
	}}
	cmd.Flags().BoolVar(&details, "details", false, "print only the details (of an imported event: the original), byte for byte")
	addOutput(cmd)
	return cmd
}

func newEventsList() *cobra.Command {
	var filter string
	var limit int
	var explain bool
	cmd := &cobra.Command{Use: "list", Short: "List events, newest first", Args: noArgs,
		Long: `Lists events, newest first. The filter is AIP-160, for example:
  source:"acme/*" AND outcome=denied
  actor.id="alice" AND action:"user.*" AND occurred_at>="2026-01-01T00:00:00Z"
The table shows an actor's name where there is one (actor.name), else its id (actor.id); -o json shows both.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			conn, err := connect(cmd)
			if err != nil {
				return err
			}
			defer conn.Close()
			client := audittrailv1.NewQueryServiceClient(conn)
			out, err := newPrinter(cmd, false, eventColumns)
			if err != nil {
				return err
			}
			var how explained
			err = pages(limit, 1000, func(size int32, token string) (int, string, error) {
				resp, err := client.ListEvents(cmd.Context(), &audittrailv1.ListEventsRequest{Filter: filter, PageSize: size, PageToken: token, Explain: explain})
				if err != nil {
					return 0, "", fmt.Errorf("list events: %w", err)
				}
				for _, e := range resp.Events {
					if err := out.add(e); err != nil {
						return 0, "", err
					}
				}
				how.add(resp.Explanation)
				return len(resp.Events), resp.NextPageToken, out.flush()
			})
			err = finish(out, err)
			how.show(cmd.ErrOrStderr())
			return err
		}}
	cmd.Flags().BoolVar(&explain, "explain", false, "say on standard error how the query was answered: segments considered, read and hit, rows, time")
	cmd.Flags().StringVar(&filter, "filter", "", "AIP-160 filter; empty: everything")
	addLimit(cmd, &limit)
	addOutput(cmd)
	return cmd
}

func addLimit(cmd *cobra.Command, limit *int) {
	cmd.Flags().IntVar(limit, "limit", 50, "how many at most; 0: all")
}

// pages walks pages until limit rows (0: all) were shown or the last page was.
func pages(limit, pageSize int, page func(size int32, token string) (n int, next string, err error)) error {
	if limit < 0 {
		return usagef("--limit is %d, must be 0 or more", limit)
	}
	token := ""
	for left := limit; ; {
		size := pageSize
		if limit > 0 {
			size = min(size, left)
		}
		n, next, err := page(int32(size), token)
		if err != nil {
			return err
		}
		left -= n
		if next == "" || limit > 0 && left <= 0 {
			return nil
		}
		token = next
	}
}

func newEventsTail() *cobra.Command {
	var filter, resume string
	var limit int
	cmd := &cobra.Command{Use: "tail", Short: "Follow events as they are stored", Args: noArgs,
		Long: `Follows events as they are stored, until interrupted. When the server goes away it connects again and goes on where it was. At the end it says on
standard error how to resume.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			conn, err := connect(cmd)
			if err != nil {
				return err
			}
			defer conn.Close()
			out, err := newPrinter(cmd, false, eventColumns)
			if err != nil {
				return err
			}
			t := &tail{client: audittrailv1.NewQueryServiceClient(conn), filter: filter, token: resume, limit: limit, out: out, note: cmd.ErrOrStderr()}
			err = t.run(cmd.Context())
			if t.answered {
				fmt.Fprintf(cmd.ErrOrStderr(), "resume with --resume %s\n", t.token)
			}
			return finish(out, err)
		}}
	cmd.Flags().StringVar(&filter, "filter", "", "AIP-160 filter; empty: everything")
	cmd.Flags().StringVar(&resume, "resume", "", "where to go on, as an earlier tail said; empty: what is stored from now on")
	cmd.Flags().IntVar(&limit, "limit", 0, "stop after so many; 0: never")
	addOutput(cmd)
	return cmd
}

type tail struct {
	client audittrailv1.QueryServiceClient
	filter string
	token  string // where to go on
	limit  int
	shown  int
	out    printer[*audittrailv1.Event]
	note   io.Writer

	answered bool // the token is the server's, not only the user's
	away     bool // the server, and that was said
}

// run follows until ctx ends, which is no error, or the limit is reached. It rides out a server that goes away once it has answered.
func (t *tail) run(ctx context.Context) error {
	for {
		err := t.follow(ctx)
		switch {
		case err == nil || ctx.Err() != nil:
			return nil
		case status.Code(err) != codes.Unavailable || !t.answered:
			return fmt.Errorf("tail events: %w", err)
		}
		if !t.away { // once an outage, however long it is
			t.away = true
			fmt.Fprintf(t.note, "%s; connecting again\n", describe(err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

func (t *tail) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := t.client.TailEvents(ctx, &audittrailv1.TailEventsRequest{Filter: t.filter, ResumeToken: t.token})
	if err != nil {
		return err
	}
	for {
		resp, err := stream.Recv()
		if err != nil {
			return err
		}
		t.answered, t.away = true, false
		for _, e := range resp.Events {
			if err := t.out.add(e); err != nil {
				return err
			}
			if t.shown++; t.limit > 0 && t.shown >= t.limit {
				t.token = resp.ResumeToken
				return t.out.flush()
			}
		}
		t.token = resp.ResumeToken
		if err := t.out.flush(); err != nil {
			return err
		}
	}
}
