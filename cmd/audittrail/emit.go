package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

func newEmit() *cobra.Command {
	f := new(emitFlags)
	cmd := &cobra.Command{Use: "emit", Short: "Record one event given by flags, or JSON lines from standard input", Args: noArgs,
		Long: `Records one event given by flags or, without --source, one event for each line of standard input: an event in proto3 JSON, as in /openapi.json.
Prints the id of each recorded event, in their order. What is rejected is said on standard error with its line, and the exit code is 3.
Without an idempotency key in the event one is made, and running it again records it again.`,
		Example: `  audittrail emit --source acme/payments/api --action invoice.approve --actor alice --outcome success
  echo '{"source":"acme/api","action":"user.login","actor":{"id":"alice"}}' | audittrail emit`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			conn, err := connect(cmd)
			if err != nil {
				return err
			}
			defer conn.Close()
			client := audittrailv1.NewEmitterServiceClient(conn)
			e := &emission{cmd: cmd, client: client}
			if f.source != "" {
				event, err := f.event()
				if err != nil {
					return err
				}
				err = e.add("event", event)
				return errors.Join(err, e.end(err))
			}
			for _, name := range []string{"action", "actor", "actor-type", "outcome", "kind", "resource", "attribute", "key", "time", "details"} {
				if cmd.Flags().Changed(name) {
					return usagef("--%s needs --source", name)
				}
			}
			if isTerminal(cmd.InOrStdin()) {
				fmt.Fprintln(cmd.ErrOrStderr(), "reading an event a line, in JSON, from here; Ctrl-D ends")
			}
			err = e.lines(cmd.InOrStdin())
			return errors.Join(err, e.end(err))
		}}
	f.add(cmd)
	addAddr(cmd)
	return cmd
}

// emitFlags are the fields of one event.
type emitFlags struct {
	source, action, actor, actorType, outcome, kind, resource, key, at, details string
	attributes                                                                  map[string]string
}

func (f *emitFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.source, "source", "", "path of the producing service")
	flags.StringVar(&f.action, "action", "", "dotted verb, e.g. user.login")
	flags.StringVar(&f.actor, "actor", "", "id of the actor")
	flags.StringVar(&f.actorType, "actor-type", "user", "type of the actor")
	flags.StringVar(&f.outcome, "outcome", "", "success, failure, denied or unknown")
	flags.StringVar(&f.kind, "kind", "", "create, read, update, delete, auth, admin or other")
	flags.StringVar(&f.resource, "resource", "", "TYPE:ID of what it was done to")
	flags.StringToStringVar(&f.attributes, "attribute", nil, "KEY=VALUE, may be repeated")
	flags.StringVar(&f.key, "key", "", "idempotency key; needs --time")
	flags.StringVar(&f.at, "time", "", "when it happened, RFC 3339; empty: now")
	flags.StringVar(&f.details, "details", "", "a JSON object")
}

func (f *emitFlags) event() (*audittrailv1.Event, error) {
	e := &audittrailv1.Event{Source: f.source, Action: f.action, IdempotencyKey: f.key, Attributes: f.attributes, Details: f.details}
	if f.actor != "" {
		e.Actor = &audittrailv1.Actor{Type: f.actorType, Id: f.actor}
	}
	if f.outcome != "" {
		n, ok := audittrailv1.Outcome_value["OUTCOME_"+strings.ToUpper(f.outcome)]
		if !ok {
			return nil, usagef("--outcome %s is none of success, failure, denied, unknown", f.outcome)
		}
		e.Outcome = audittrailv1.Outcome(n)
	}
	if f.kind != "" {
		n, ok := audittrailv1.ActionKind_value["ACTION_KIND_"+strings.ToUpper(f.kind)]
		if !ok {
			return nil, usagef("--kind %s is none of create, read, update, delete, auth, admin, other", f.kind)
		}
		e.Kind = audittrailv1.ActionKind(n)
	}
	if f.resource != "" {
		kind, id, ok := strings.Cut(f.resource, ":")
		if !ok {
			return nil, usagef("--resource %s is not TYPE:ID", f.resource)
		}
		e.Resources = []*audittrailv1.Resource{{Type: kind, Id: id}}
	}
	if f.at != "" {
		t, err := time.Parse(time.RFC3339Nano, f.at)
		if err != nil {
			return nil, usagef("--time %s is not a time such as 2026-01-31T12:00:00Z", f.at)
		}
		e.OccurredAt = timestamppb.New(t)
	}
	return e, nil
}

// emission sends events in requests and says what became of each.
type emission struct {
	cmd      *cobra.Command
	client   audittrailv1.EmitterServiceClient
	events   []*audittrailv1.Event
	names    []string // of the events, for messages
	bytes    int
	rejected int
}

// lines reads an event a line. One line is 4 MiB at most.
func (e *emission) lines(r io.Reader) error {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, 4<<20)
	for n := 1; scanner.Scan(); n++ {
		line := bytes.TrimSpace(scanner.Bytes())
		if len(line) == 0 {
			continue
		}
		name := fmt.Sprintf("line %d", n)
		event := new(audittrailv1.Event)
		if err := protojson.Unmarshal(line, event); err != nil {
			e.reject(name, err.Error())
			continue
		}
		if err := e.add(name, event); err != nil {
			return err
		}
	}
	if err := scanner.Err(); err != nil {
		return fmt.Errorf("read standard input: %w", err)
	}
	return nil
}

func (e *emission) reject(name, why string) {
	e.rejected++
	fmt.Fprintf(e.cmd.ErrOrStderr(), "%s: %s\n", name, why)
}

func (e *emission) add(name string, event *audittrailv1.Event) error {
	stamp(event)
	size := event.SizeVT()
	if len(e.events) >= sendEvents || len(e.events) > 0 && e.bytes+size > sendBytes {
		if err := e.flush(); err != nil {
			return err
		}
	}
	e.events, e.names, e.bytes = append(e.events, event), append(e.names, name), e.bytes+size
	return nil
}

func (e *emission) flush() error {
	if len(e.events) == 0 {
		return nil
	}
	outcomes, err := send(e.cmd.Context(), e.client, e.events, e.cmd.ErrOrStderr())
	for i, o := range outcomes {
		switch {
		case o.status == nil:
			fmt.Fprintln(e.cmd.OutOrStdout(), o.id)
		case err != nil && mayRetry(o.status):
			fmt.Fprintf(e.cmd.ErrOrStderr(), "%s: not acknowledged: %s\n", e.names[i], describeStatus(o.status))
		default:
			e.reject(e.names[i], describeStatus(o.status))
		}
	}
	e.events, e.names, e.bytes = e.events[:0], e.names[:0], 0
	return err
}

// end sends what is left, unless sending has failed, and says whether something was rejected.
func (e *emission) end(failed error) error {
	var err error
	if failed == nil {
		err = e.flush()
	}
	if err == nil && e.rejected > 0 {
		return refusedf("%s rejected", number(e.rejected, "event"))
	}
	return err
}
