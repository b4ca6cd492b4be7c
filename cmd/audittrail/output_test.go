package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

func printed(t *testing.T, format string, alone bool, events ...*audittrailv1.Event) string {
	t.Helper()
	var b bytes.Buffer
	cmd := &cobra.Command{}
	addOutput(cmd)
	cmd.SetOut(&b)
	if err := cmd.Flags().Set("output", format); err != nil {
		t.Fatal(err)
	}
	p, err := newPrinter(cmd, alone, eventColumns)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if err := p.add(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(p.flush(), p.close()); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPrinters(t *testing.T) {
	a := &audittrailv1.Event{Id: "i1", Source: "acme", OccurredAt: &timestamppb.Timestamp{Seconds: 1700000000, Nanos: 5e6}, Action: "user.login",
		Actor: &audittrailv1.Actor{Id: "a,b"}, Outcome: audittrailv1.Outcome_OUTCOME_DENIED, Details: `{"n": "no"}`}
	b := &audittrailv1.Event{Id: "i2", Action: "x"}
	for _, tt := range []struct {
		name, format string
		alone        bool
		events       []*audittrailv1.Event
		want         string
	}{
		{"jsonl", "jsonl", false, []*audittrailv1.Event{b, b}, "{\"id\":\"i2\",\"action\":\"x\"}\n{\"id\":\"i2\",\"action\":\"x\"}\n"},
		{"json", "json", false, []*audittrailv1.Event{b, b}, "[\n  {\n    \"id\": \"i2\",\n    \"action\": \"x\"\n  },\n  {\n    \"id\": \"i2\",\n    \"action\": \"x\"\n  }\n]\n"},
		{"json alone", "json", true, []*audittrailv1.Event{b}, "{\n  \"id\": \"i2\",\n  \"action\": \"x\"\n}\n"},
		{"json of nothing", "json", false, nil, "[]\n"},
		{"yaml", "yaml", false, []*audittrailv1.Event{a}, "- id: i1\n  source: acme\n  occurredAt: \"2023-11-14T22:13:20.005Z\"\n  actor:\n    id: a,b\n  action: user.login\n  outcome: OUTCOME_DENIED\n  details: '{\"n\": \"no\"}'\n"},
		{"yaml of nothing", "yaml", false, nil, "[]\n"},
		{"csv", "csv", false, []*audittrailv1.Event{a}, "OCCURRED,SOURCE,ACTOR,ACTION,OUTCOME,RESOURCE,IP,ID\n2023-11-14T22:13:20.005Z,acme,\"a,b\",user.login,denied,,,i1\n"},
		{"table", "table", false, []*audittrailv1.Event{b}, "OCCURRED  SOURCE  ACTOR  ACTION  OUTCOME  RESOURCE  IP  ID\n-         -       -      x       -        -         -   i2\n"},
		{"table of nothing", "table", false, nil, "nothing found\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := printed(t, tt.format, tt.alone, tt.events...); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

func TestCellsDoNothingToATerminal(t *testing.T) {
	got := cell("a\x1b]0;title\x07b\n\u202Ec\xff")
	if strings.ContainsAny(got, "\x1b\x07\n\u202E\xff") {
		t.Errorf("cell = %q", got)
	}
	if got := cell(strings.Repeat("ä", 100)); len([]rune(got)) != cellWidth {
		t.Errorf("cell of 100 has %d characters", len([]rune(got)))
	}
}

func TestPagesStopAtTheLimit(t *testing.T) {
	for _, tt := range []struct{ limit, rows, want int }{{0, 2500, 2500}, {50, 2500, 50}, {1500, 2500, 1500}, {50, 10, 10}} {
		shown := 0
		err := pages(tt.limit, 1000, func(size int32, _ string) (int, string, error) {
			n := min(int(size), tt.rows-shown)
			shown += n
			if shown == tt.rows {
				return n, "", nil
			}
			return n, "more", nil
		})
		if err != nil || shown != tt.want {
			t.Errorf("limit %d of %d: %d, %v, want %d", tt.limit, tt.rows, shown, err, tt.want)
		}
	}
}
