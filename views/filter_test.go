package views_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
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
	Context:    &audittrailv1.Context{TraceId: "4bf92f35", Ip: "10.1.2.3"},
	Changes:    []*audittrailv1.Change{{Path: "spec.replicas", Old: proto.String("2"), New: proto.String("3")}},
	Attributes: map[string]string{"tier": "gold", "a b": "c", "a": "d"},
	Enrichment: &audittrailv1.Enrichment{ActorNew: true, Lateness: durationpb.New(1500 * time.Millisecond)},
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
		`actor.name = "Scar*"`:                               false, // only : knows wildcards
		`actor.name:"*lett"`:                                 true,
		`actor.name:"*carl*"`:                                true,
		`actor.name:*let`:                                    false,
		`resources.id:"*b/\*"`:                               true, // an escaped star is a star
		`resources.id:"arn:aws:s3:::b/\*"`:                   true,
		`actor.name = "\u0053carlett"`:                       true,
		`occurred_at > 2026-01-31T11:59:59Z`:                 true, // bare values may have colons
		`occurred_at >= 2026-01-31`:                          true, // a date
		`occurred_at < now`:                                  true,
		`occurred_at > now-1d`:                               false,
		`occurred_at < now-1w2d3h30m`:                        true,
		`received_at:*`:                                      false,
		`outcome = (failure OR denied)`:                      true,
		`outcome != (failure OR denied)`:                     false,
		`resources.id:("inv-*" AND NOT inv-2)`:               true,
		`actor.id = 17`:                                      false,
		`scarlett`:                                           true, // words are looked for in what people read
		`"PAYMENTS/api" inv-1`:                               true,
		`scarlett nobody`:                                    false,
		`scarlett OR nobody`:                                 true,
		`-nobody`:                                            true,
		`--scarlett`:                                         true,
		`NOT -"scarlett"`:                                    true,
		`scar*`:                                              true,
		`user`:                                               false, // actor.type is not for reading
		`attributes:tier`:                                    true,
		`attributes:"ti*"`:                                   true,
		`attributes:nothing`:                                 false,
		`attributes.tier = gold`:                             true,
		`attributes.tier:g*`:                                 true,
		`attributes."a b" = c`:                               true,
		`attributes.a.b = c`:                                 false,
		`attributes.nothing = ""`:                            true, // what is missing is the empty text
		`attributes.nothing != x`:                            true,
		`context.ip = 10.0.0.0/8`:                            true,
		`context.ip = 10.1.2.3`:                              true,
		`context.ip = ::ffff:10.1.2.3`:                       true,
		`context.ip = "10.1.2.0/25"`:                         true,
		`context.ip = ::/0`:                                  false,
		`context.ip != 192.168.0.0/16`:                       true,
		`context.ip = ""`:                                    false,
		`enrichment.lateness >= 1500ms`:                      true,
		`enrichment.lateness > 1.5s`:                         false,
		`enrichment.actor_new = true`:                        true,
		`enrichment.since_previous:*`:                        false,
		`changes.new = "3" AND changes.old = "2"`:            true,
		`position.index = 0`:                                 true,
	} {
		f, err := views.ParseFilter(filter)
		if err != nil {
			t.Errorf("%s: %v", filter, err)
			continue
		}
		if got := f.Matches(t, sample); got != want {
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
		if !f.Matches(t, &audittrailv1.Event{}) {
			t.Errorf("%s refuses the empty event", filter)
		}
	}
}

func TestFilterErrorsSayWhereAndWhat(t *testing.T) {
	for filter, want := range map[string]struct {
		position int
		message  string
	}{
		`actr.id = "x"`:                         {1, `unknown field "actr.id"; expected a field; did you mean actor.id?`},
		`ip = "x"`:                              {1, `did you mean context.ip?`},
		`actor = "x"`:                           {1, `expected one of actor.auth_method, actor.id, actor.name`},
		`completely.else = 1`:                   {1, `expected a field such as source, actor.id`},
		`kind = read AND (foo = "x")`:           {18, `unknown field "foo"`},
		` ü.é = "x"`:                            {2, "unknown field"},
		`actor.id = "ü" AND foo = "x"`:          {20, `unknown field "foo"`},
		`"alice" = bob`:                         {1, "expected the name of a field before =, not text in quotes"},
		`""`:                                    {1, "nothing to search for"},
		`kind = read and outcome = denied`:      {13, `expected AND in capitals, or "and" in quotes to search for the word`},
		`*`:                                     {1, "nothing to search for"},
		"actor.id = a\x00b":                     {13, "unexpected control character"},
		"al\x01ice":                             {3, "unexpected control character"},
		`actor.id = "a\q"`:                      {14, "unknown escape"},
		`actor.id = a"b"`:                       {13, `unexpected '"'; expected the value in quotes`},
		`actor.id = (a OR )`:                    {18, `unexpected ')'; expected a value`},
		`actor.id = (a b`:                       {16, `unexpected end of the filter; expected )`},
		`context.ip = 10.0.0.0/33`:              {14, "expected an IP address, or a network such as 10.0.0.0/8"},
		`context.ip = ::ffff:0:0/90`:            {14, "expected an IP address"},
		`context.ip:10.1.*`:                     {12, "expected an IP address"},
		`enrichment.actor_new = yes`:            {24, "expected true or false"},
		`enrichment.actor_failures > -1`:        {29, "expected a whole number from 0 on"},
		`enrichment.lateness > 5`:               {23, "a duration such as 1h30m"},
		`enrichment.lateness > 99999999w`:       {23, "a duration such as 1h30m"},
		`occurred_at > now-`:                    {15, "now-24h"},
		`occurred_at > now*24h`:                 {15, "now-24h"},
		`attributes = x`:                        {1, "attributes takes no =; expected one of :"},
		`id = x`:                                {6, "is not a UUID"},
		`position.log:1`:                        {1, "takes no :"},
		strings.Repeat("x ", 17):                {33, "too many words to search for; expected at most 16"},
		strings.Repeat("-x:a ", 3):              {2, `unknown field "x"`},
		"id:(" + strings.Repeat("a ", 10) + ")": {1, "id takes no :"},
		"kind=(" + strings.Repeat("red ", 10):   {7, `"red" is no kind`},
		"actor.id=(" + strings.Repeat("a ", 1001) + ")": {2011, "too many restrictions; expected at most 1000"},
		`kind = red`:                           {8, `"red" is no kind; expected one of admin, auth, create`},
		`outcome = maybe`:                      {11, "expected one of denied, failure, success, unknown"},
		`outcome = unspecified`:                {11, "expected one of"},
		`actor.id > "a"`:                       {1, "actor.id takes no >; expected one of =, !=, :"},
		`occurred_at > "yesterday"`:            {15, "RFC 3339"},
		`occurred_at : "2026-01-31T12:00:00Z"`: {15, "RFC 3339"},
		`NOT( kind = read )  AND "x`:           {25, "unterminated string"},
		`NOT( kind = read )  AND NOT(x = "")`:  {29, `unknown field "x"`},
		`actor.id = "x`:                        {12, "unterminated string"},
		`actor.id =`:                           {11, "ends too early"},
		`kind = read AND  `:                    {16, "ends too early"},
		`(kind = read`:                         {13, "expected"},
		`kind = read)`:                         {12, "unexpected ')'; expected the end of the filter"},
		`foo(kind)`:                            {1, `unknown function "foo"`},
		`NOT()`:                                {5, "unexpected ')'; expected a restriction"},
		`AND()`:                                {1, "unexpected AND; expected a restriction"},
		"actor.id = \"\xff\"":                  {13, "invalid UTF-8"},
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

// TestHostileFiltersAreRefusedAtOnce: what is sent to hurt costs next to nothing.
func TestHostileFiltersAreRefusedAtOnce(t *testing.T) {
	for name, filter := range map[string]string{
		"a megabyte":           strings.Repeat("kind = read OR ", 1<<20/15),
		"a megabyte of quotes": strings.Repeat(`"`, 1<<20),
		"brackets":             strings.Repeat("(", views.MaxFilter),
		"brackets of values":   "kind=" + strings.Repeat("(", views.MaxFilter-10),
		"words":                strings.Repeat("a ", views.MaxFilter/2),
		"nul":                  "\x00",
		"a cut character":      "actor.id = \xe4\xbd",
		"a surrogate":          "actor.id = \xed\xa0\x80",
		"a surrogate, escaped": `actor.id = "\ud800"`,
		"dots":                 strings.Repeat(".", views.MaxFilter) + "=x",
		"an endless name":      strings.Repeat("a", views.MaxFilter-2) + "=x",
		"colons":               strings.Repeat(":", 100),
	} {
		begun := time.Now()
		_, err := views.ParseFilter(filter)
		var at *views.FilterError
		if !errors.As(err, &at) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if took := time.Since(begun); took > time.Second || len(at.Message) > 1000 {
			t.Errorf("%s: took %v, message %.200s", name, took, at.Message)
		}
	}
	for name, filter := range map[string]string{
		"minus":  strings.Repeat("-", views.MaxFilter-1) + "a",
		"nots":   strings.Repeat("NOT ", views.MaxFilter/4-1) + "a",
		"a nul":  `actor.id = "\u0000"`,
		"values": "actor.id=(" + strings.Repeat("a ", 1000) + ")",
	} {
		if f, err := views.ParseFilter(filter); err != nil {
			t.Errorf("%s: %v", name, err)
		} else {
			f.Matches(t, sample)
		}
	}
}

// FuzzFilter: whatever is sent, parsing ends, gives a filter or a *FilterError with a position in it, and the evaluator decides as the
// naive evaluation does.
func FuzzFilter(f *testing.F) {
	gen := viewstest.NewGenerator(11, time.Now(), time.Hour)
	for range 50 {
		f.Add(gen.Filter(3))
	}
	f.Add(`a(b(c(d(`)
	f.Add(`--kind = read`)
	f.Add("\"\\xff\" = \"\\377\"")
	f.Add(`id = "0195b0b6-6f1c-7000-8000-000000000000" OR attributes."a" : (x OR *y*)`)
	events := append(gen.Events(5), sample)
	f.Fuzz(func(t *testing.T, text string) {
		filter, err := views.ParseFilter(text)
		if err == nil {
			for _, e := range events {
				filter.Matches(t, e)
			}
			return
		}
		var at *views.FilterError
		if !errors.As(err, &at) || at.Position < 1 || at.Position > len([]rune(text))+1 {
			t.Errorf("%q: %v", text, err)
		}
	})
}
