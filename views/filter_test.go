package views_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/views"
	"github.com/maxviazov/audittrail/views/viewstest"
)

var sample = &audittrailv1.Event{
	Source:     "acme/payments/api",
	OccurredAt: timestamppb.New(time.Date(2026, 1, 31, 12, 0, 0, 1, time.UTC)),
	Action:     "invoice.pay",
	Kind:       audittrailv1.ActionKind_ACTION_KIND_UPDATE,
	Outcome:    audittrailv1.Outcome_OUTCOME_DENIED,
	Actor:      &audittrailv1.Actor{Id: `o"hara\`, Type: "user", Name: "Scarlett"},
	Resources:  []*audittrailv1.Resource{{Type: "invoice", Id: "inv-1"}, {Type: "bucket", Id: "arn:aws:s3:::b/*"}},
	Context:    &audittrailv1.Context{TraceId: "4bf92f35"},
}

func TestFilterAccepts(t *testing.T) {
	for filter, want := range map[string]bool{
		``:                                  true,
		"  ":                                true,
		`source = "acme/payments/api"`:      true,
		`source = "acme"`:                   false,
		`source : "acme/*"`:                 true,
		`source:"acme/pay*"`:                true,
		`source:"acme/payments"`:            false,
		`source:acme/*`:                     true,
		`source = "ACME/payments/api"`:      false,
		`action:"invoice.*"`:                true,
		`action:invoice.*`:                  true,
		`action = invoice.pay`:              true,
		`action = "invoice.*"`:              false,
		`kind = update`:                     true,
		`kind = ACTION_KIND_UPDATE`:         true,
		`kind = "Update"`:                   true,
		`kind:update`:                       true,
		`kind != update`:                    false,
		`outcome = denied`:                  true,
		`outcome = unknown`:                 false,
		`actor.id = "o\"hara\\"`:            true,
		`actor.id = 'o"hara\\'`:             true,
		`actor.type = user`:                 true,
		`actor.type:"*"`:                    true,
		`actor.name = Scarlett`:             true,
		`actor.name:"scar*"`:                false,
		`context.trace_id:"4bf*"`:           true,
		`context.trace_id != "4bf92f35"`:    false,
		`resources.id = "arn:aws:s3:::b/*"`: true, // = takes the star as it is
		`resources.id:"arn:*"`:              true,
		`resources.type = bucket AND resources.id = "inv-1"`: true,  // of any resource each
		`resources.type != invoice`:                          false, // NOT =
		`resources.type = ""`:                                false, // holds for no element
		`occurred_at = "2026-01-31T12:00:00.000000001Z"`:     true,
		`occurred_at = "2026-01-31T12:00:00Z"`:               false,
		`occurred_at > "2026-01-31T12:00:00Z"`:               true,
		`occurred_at >= "2026-01-31T13:00:00+01:00"`:         true,
		`occurred_at < "2026-01-31T12:00:00.000000001Z"`:     false,
		`occurred_at <= "2026-01-31T12:00:00.000000001Z"`:    true,
		`kind = update AND outcome = success`:                false,
		`kind = read OR outcome = denied`:                    true,
		`NOT kind = read`:                                    true,
		`NOT (NOT kind = update)`:                            true,
		`NOT(kind = update)`:                                 false,
		`-kind = read`:                                       true,
		`kind = read OR kind = update AND outcome = success`: false, // OR binds closer
		`(kind = read AND kind = read) OR kind = update`:     true,
		`( kind = read OR ( outcome = denied ) )`:            true,
		`kind = update outcome = denied`:                     true, // a sequence is an AND
		`kind = update outcome = success`:                    false,
	} {
		f, err := views.ParseFilter(filter)
		if err != nil {
			t.Errorf("%s: %v", filter, err)
			continue
		}
		if got := f.Match(sample); got != want {
			t.Errorf("%s: %v, want %v", filter, got, want)
		}
	}
}

func TestUnsaidReadsAsTheLast(t *testing.T) {
	for _, filter := range []string{`kind = other`, `outcome = unknown`, `actor.id = ""`, `context.trace_id != x`, `NOT actor.id:"*"`} {
		f, err := views.ParseFilter(filter)
		if err != nil {
			t.Fatal(err)
		}
		if !f.Match(&audittrailv1.Event{}) {
			t.Errorf("%s refuses the empty event", filter)
		}
	}
}

func TestFilterErrorsSayWhereAndWhat(t *testing.T) {
	for filter, want := range map[string]struct {
		position int
		message  string
	}{
		`actr.id = "x"`:                        {1, `unknown field "actr.id"; expected one of action, actor.id`},
		`kind = read AND (foo = "x")`:          {18, `unknown field "foo"`},
		` ü.é = "x"`:                           {2, "unknown field"},
		`actor.id = "ü" AND foo = "x"`:         {20, `unknown field "foo"`},
		`"alice"`:                              {1, "expected a restriction"},
		`alice`:                                {1, "expected a restriction"},
		`kind = red`:                           {8, `"red" is no kind; expected one of admin, auth, create`},
		`outcome = maybe`:                      {11, "expected one of denied, failure, success, unknown"},
		`outcome = unspecified`:                {11, "expected one of"},
		`actor.id = 17`:                        {12, "expected a value in quotes"},
		`actor.id > "a"`:                       {1, "cannot be ordered; expected one of =, !=, :"},
		`occurred_at > "yesterday"`:            {15, "RFC 3339"},
		`occurred_at : "2026-01-31T12:00:00Z"`: {15, "RFC 3339"},
		`occurred_at > 2026-01-31T12:00:00Z`:   {19, "in quotes"},
		`NOT( kind = read )  AND "x`:           {25, "unterminated string"},
		`NOT( kind = read )  AND NOT(x = "")`:  {29, `unknown field "x"`},
		`actor.id = "x`:                        {12, "unterminated string"},
		`actor.id =`:                           {11, "ends too early"},
		`kind = read AND  `:                    {16, "ends too early"},
		`(kind = read`:                         {13, "expected"},
		`kind = read)`:                         {12, "unexpected trailing token )"},
		`foo(kind)`:                            {1, `unknown function "foo"`},
		`NOT()`:                                {5, "unexpected token )"},
		`AND()`:                                {1, "expected restrictions to join"},
		"actor.id = \"\xff\"":                  {12, "invalid UTF-8"},
		strings.Repeat("(", 33) + "kind = read" + strings.Repeat(")", 33): {33, "at most 32 levels"},
		`actor.id = "` + strings.Repeat("x", views.MaxFilter) + `"`:       {8193, "expected at most 8192"},
	} {
		_, err := views.ParseFilter(filter)
		var at *views.FilterError
		if !errors.As(err, &at) {
			t.Errorf("%.60s: %v", filter, err)
			continue
		}
		if at.Position != want.position || !strings.Contains(at.Message, want.message) {
			t.Errorf("%.60s: %v; want character %d, %s", filter, err, want.position, want.message)
		}
	}
}

func TestLongFiltersParse(t *testing.T) {
	long := strings.Repeat(`kind=read OR `, 540) + `kind=update`
	deep := strings.Repeat("(", 32) + "kind = update" + strings.Repeat(")", 32)
	negated := strings.Repeat("NOT (", 32) + "kind = update" + strings.Repeat(")", 32)
	for _, filter := range []string{long, strings.ReplaceAll(long, " OR", " AND"), deep, negated} {
		if _, err := views.ParseFilter(filter); err != nil {
			t.Errorf("%.60s: %v", filter, err)
		}
	}
}

// FuzzFilter: whatever is sent, parsing ends, gives a filter or a *FilterError with a position in it, and a filter decides.
func FuzzFilter(f *testing.F) {
	gen := viewstest.NewGenerator(11, time.Now(), time.Hour)
	for range 50 {
		f.Add(gen.Filter(3))
	}
	f.Add(`a(b(c(d(`)
	f.Add(`--kind = read`)
	f.Add("\"\\xff\" = \"\\377\"")
	event := gen.Event()
	f.Fuzz(func(t *testing.T, text string) {
		filter, err := views.ParseFilter(text)
		if err == nil {
			filter.Match(event)
			return
		}
		var at *views.FilterError
		if !errors.As(err, &at) || at.Position < 1 || at.Position > len([]rune(text))+1 {
			t.Errorf("%q: %v", text, err)
		}
	})
}
