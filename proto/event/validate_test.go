package event_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
)

type limitCase struct {
	field string
	set   func(e *audittrailv1.Event, n int) // sets the field to length or count n
	limit int
}

func text(n int) string { return strings.Repeat("x", n) }

var limits = []limitCase{
	{"source", func(e *audittrailv1.Event, n int) { e.Source = text(n) }, 256},
	{"idempotency_key", func(e *audittrailv1.Event, n int) { e.IdempotencyKey = text(n) }, 128},
	{"actor.type", func(e *audittrailv1.Event, n int) { e.Actor.Type = text(n) }, 64},
	{"actor.id", func(e *audittrailv1.Event, n int) { e.Actor.Id = text(n) }, 128},
	{"actor.name", func(e *audittrailv1.Event, n int) { e.Actor.Name = text(n) }, 256},
	{"actor.session", func(e *audittrailv1.Event, n int) { e.Actor.Session = text(n) }, 128},
	{"actor.auth_method", func(e *audittrailv1.Event, n int) { e.Actor.AuthMethod = text(n) }, 64},
	{"actor.on_behalf_of", func(e *audittrailv1.Event, n int) { e.Actor.OnBehalfOf = make([]*audittrailv1.ActorReference, n) }, 4},
	{"actor.on_behalf_of[0].type", func(e *audittrailv1.Event, n int) { e.Actor.OnBehalfOf[0].Type = text(n) }, 64},
	{"actor.on_behalf_of[0].id", func(e *audittrailv1.Event, n int) { e.Actor.OnBehalfOf[0].Id = text(n) }, 128},
	{"actor.on_behalf_of[0].name", func(e *audittrailv1.Event, n int) { e.Actor.OnBehalfOf[0].Name = text(n) }, 256},
	{"action", func(e *audittrailv1.Event, n int) { e.Action = text(n) }, 128},
	{"reason_code", func(e *audittrailv1.Event, n int) { e.ReasonCode = text(n) }, 64},
	{"reason", func(e *audittrailv1.Event, n int) { e.Reason = text(n) }, 1024},
	{"resources", func(e *audittrailv1.Event, n int) { e.Resources = make([]*audittrailv1.Resource, n) }, 32},
	{"resources[0].type", func(e *audittrailv1.Event, n int) { e.Resources[0].Type = text(n) }, 128},
	{"resources[0].id", func(e *audittrailv1.Event, n int) { e.Resources[0].Id = text(n) }, 1024},
	{"resources[0].name", func(e *audittrailv1.Event, n int) { e.Resources[0].Name = text(n) }, 256},
	{"changes", func(e *audittrailv1.Event, n int) {
		e.Changes = nil
		for range n {
			e.Changes = append(e.Changes, &audittrailv1.Change{Path: "p"})
		}
	}, 128},
	{"changes[0].path", func(e *audittrailv1.Event, n int) { e.Changes[0].Path = text(n) }, 256},
	{"changes[0].old", func(e *audittrailv1.Event, n int) { e.Changes[0].Old = proto.String(text(n)) }, 4096},
	{"changes[0].new", func(e *audittrailv1.Event, n int) { e.Changes[0].New = proto.String(text(n)) }, 4096},
	{"context.user_agent", func(e *audittrailv1.Event, n int) { e.Context.UserAgent = text(n) }, 512},
	{"context.request_id", func(e *audittrailv1.Event, n int) { e.Context.RequestId = text(n) }, 128},
	{"context.trace_id", func(e *audittrailv1.Event, n int) { e.Context.TraceId = text(n) }, 64},
	{"context.span_id", func(e *audittrailv1.Event, n int) { e.Context.SpanId = text(n) }, 64},
	{"context.host", func(e *audittrailv1.Event, n int) { e.Context.Host = text(n) }, 256},
	{"context.region", func(e *audittrailv1.Event, n int) { e.Context.Region = text(n) }, 64},
	{"context.service_version", func(e *audittrailv1.Event, n int) { e.Context.ServiceVersion = text(n) }, 128},
	{"attributes", func(e *audittrailv1.Event, n int) {
		e.Attributes = map[string]string{}
		for i := range n {
			e.Attributes[fmt.Sprint(i)] = ""
		}
	}, 64},
	{`attributes["` + text(64) + `"] key`, func(e *audittrailv1.Event, n int) { e.Attributes = map[string]string{text(n): ""} }, 64},
	{`attributes["k"]`, func(e *audittrailv1.Event, n int) { e.Attributes = map[string]string{"k": text(n)} }, 1024},
	{"details", func(e *audittrailv1.Event, n int) { e.Details = `{"a":"` + text(n-8) + `"}` }, 32 << 10},
}

// Every limit of DESIGN 4: at the limit an event is valid, one more names the field.
func TestLimits(t *testing.T) {
	for _, c := range limits {
		t.Run(c.field, func(t *testing.T) {
			e := valid()
			c.set(e, c.limit)
			if v := event.Validate(e, 1, event.Bounds{Now: now}); len(v) > 0 {
				t.Errorf("at the limit: %+v", v)
			}
			c.set(e, c.limit+1)
			v := event.Validate(e, 1, event.Bounds{Now: now})
			if len(v) != 1 || !sameField(v[0].Field, c.field) {
				t.Errorf("one more: %+v, want one violation of %s", v, c.field)
			}
		})
	}
}

func sameField(got, want string) bool { return strings.ReplaceAll(got, "…", "") == want }

func TestValidate(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*audittrailv1.Event)
		bounds event.Bounds
		size   int
		field  string // "-": valid
	}{
		"valid":                     {func(*audittrailv1.Event) {}, event.Bounds{}, 1, "-"},
		"valid and complete":        {func(*audittrailv1.Event) {}, event.Bounds{Complete: true}, 1, "-"},
		"size at the limit":         {func(*audittrailv1.Event) {}, event.Bounds{}, 60 << 10, "-"},
		"size":                      {func(*audittrailv1.Event) {}, event.Bounds{}, 60<<10 + 1, ""},
		"no source":                 {func(e *audittrailv1.Event) { e.Source = "" }, event.Bounds{}, 1, "source"},
		"empty segment":             {func(e *audittrailv1.Event) { e.Source = "a//b" }, event.Bounds{}, 1, "source"},
		"leading slash":             {func(e *audittrailv1.Event) { e.Source = "/a" }, event.Bounds{}, 1, "source"},
		"trailing slash":            {func(e *audittrailv1.Event) { e.Source = "a/" }, event.Bounds{}, 1, "source"},
		"dot segment":               {func(e *audittrailv1.Event) { e.Source = "a/./b" }, event.Bounds{}, 1, "source"},
		"dot dot segment":           {func(e *audittrailv1.Event) { e.Source = "a/.." }, event.Bounds{}, 1, "source"},
		"three dots are a name":     {func(e *audittrailv1.Event) { e.Source = "a/..." }, event.Bounds{}, 1, "-"},
		"source with a space":       {func(e *audittrailv1.Event) { e.Source = "a b" }, event.Bounds{}, 1, "source"},
		"source with NUL":           {func(e *audittrailv1.Event) { e.Source = "a\x00b" }, event.Bounds{}, 1, "source"},
		"no action":                 {func(e *audittrailv1.Event) { e.Action = "" }, event.Bounds{}, 1, "action"},
		"action ends in a dot":      {func(e *audittrailv1.Event) { e.Action = "a." }, event.Bounds{}, 1, "action"},
		"action starts with a dot":  {func(e *audittrailv1.Event) { e.Action = ".a" }, event.Bounds{}, 1, "action"},
		"action with two dots":      {func(e *audittrailv1.Event) { e.Action = "a..b" }, event.Bounds{}, 1, "action"},
		"key without time":          {func(e *audittrailv1.Event) { e.OccurredAt = nil }, event.Bounds{}, 1, "occurred_at"},
		"neither key nor time":      {func(e *audittrailv1.Event) { e.OccurredAt, e.IdempotencyKey = nil, "" }, event.Bounds{}, 1, "-"},
		"neither, complete":         {func(e *audittrailv1.Event) { e.OccurredAt, e.IdempotencyKey = nil, "" }, event.Bounds{Complete: true}, 1, "occurred_at"},
		"no key, complete":          {func(e *audittrailv1.Event) { e.IdempotencyKey = "" }, event.Bounds{Complete: true}, 1, "idempotency_key"},
		"earliest":                  {func(e *audittrailv1.Event) { e.OccurredAt = timestamppb.New(event.MinOccurredAt) }, event.Bounds{}, 1, "-"},
		"too early":                 {func(e *audittrailv1.Event) { e.OccurredAt = timestamppb.New(event.MinOccurredAt.Add(-1)) }, event.Bounds{}, 1, "occurred_at"},
		"latest":                    {func(e *audittrailv1.Event) { e.OccurredAt = timestamppb.New(now.Add(5 * time.Minute)) }, event.Bounds{}, 1, "-"},
		"too late":                  {func(e *audittrailv1.Event) { e.OccurredAt = timestamppb.New(now.Add(5*time.Minute + 1)) }, event.Bounds{}, 1, "occurred_at"},
		"too late as configured":    {func(e *audittrailv1.Event) { e.OccurredAt = timestamppb.New(now.Add(2)) }, event.Bounds{MaxFuture: 1}, 1, "occurred_at"},
		"year 300000":               {func(e *audittrailv1.Event) { e.OccurredAt = &timestamppb.Timestamp{Seconds: 9e12} }, event.Bounds{}, 1, "occurred_at"},
		"bad nanos":                 {func(e *audittrailv1.Event) { e.OccurredAt.Nanos = -1 }, event.Bounds{}, 1, "occurred_at"},
		"unknown kind":              {func(e *audittrailv1.Event) { e.Kind = 99 }, event.Bounds{}, 1, "kind"},
		"unknown outcome":           {func(e *audittrailv1.Event) { e.Outcome = -1 }, event.Bounds{}, 1, "outcome"},
		"name as ip":                {func(e *audittrailv1.Event) { e.Context.Ip = "AWS Internal" }, event.Bounds{}, 1, "context.ip"},
		"ip with zone":              {func(e *audittrailv1.Event) { e.Context.Ip = "fe80::1%eth0" }, event.Bounds{}, 1, "context.ip"},
		"ip with port":              {func(e *audittrailv1.Event) { e.Context.Ip = "192.0.2.1:80" }, event.Bounds{}, 1, "context.ip"},
		"no actor, no context":      {func(e *audittrailv1.Event) { e.Actor, e.Context = nil, nil }, event.Bounds{}, 1, "-"},
		"change without path":       {func(e *audittrailv1.Event) { e.Changes[0].Path = "" }, event.Bounds{}, 1, "changes[0].path"},
		"empty attribute key":       {func(e *audittrailv1.Event) { e.Attributes[""] = "" }, event.Bounds{}, 1, "attributes"},
		"details are an array":      {func(e *audittrailv1.Event) { e.Details = "[1]" }, event.Bounds{}, 1, "details"},
		"details are cut off":       {func(e *audittrailv1.Event) { e.Details = `{"a":` }, event.Bounds{}, 1, "details"},
		"details with white space":  {func(e *audittrailv1.Event) { e.Details = "\n {} " }, event.Bounds{}, 1, "-"},
		"invalid UTF-8":             {func(e *audittrailv1.Event) { e.Reason = "\xff" }, event.Bounds{}, 1, "reason"},
		"NUL in text is kept":       {func(e *audittrailv1.Event) { e.Reason = "a\x00b" }, event.Bounds{}, 1, "-"},
		"invalid UTF-8 in details":  {func(e *audittrailv1.Event) { e.Details = "{\"a\":\"\xff\"}" }, event.Bounds{}, 1, "details"},
		"invalid UTF-8 in resource": {func(e *audittrailv1.Event) { e.Resources[0].Id = "\xff" }, event.Bounds{}, 1, "resources[0].id"},
	} {
		t.Run(name, func(t *testing.T) {
			e := valid()
			c.change(e)
			c.bounds.Now = now
			v := event.Validate(e, c.size, c.bounds)
			if c.field == "-" {
				if len(v) > 0 {
					t.Fatalf("%+v, want none", v)
				}
				return
			}
			if len(v) != 1 || v[0].Field != c.field || v[0].Description == "" {
				t.Fatalf("%+v, want one violation of %q", v, c.field)
			}
		})
	}
}

func TestViolationsAreBounded(t *testing.T) {
	e := valid()
	e.Resources = nil
	for range event.MaxResources {
		e.Resources = append(e.Resources, &audittrailv1.Resource{Id: text(2000)})
	}
	if v := event.Validate(e, 1, event.Bounds{Now: now}); len(v) != event.MaxViolations {
		t.Fatalf("%d violations, want %d", len(v), event.MaxViolations)
	}
}

func TestValidateRegistration(t *testing.T) {
	ok := &audittrailv1.SourceRegistration{Owner: text(128), Environment: text(64), Classification: text(64), RetentionDays: 36500}
	if v := event.ValidateRegistration(ok); len(v) > 0 {
		t.Fatalf("%+v", v)
	}
	bad := &audittrailv1.SourceRegistration{Owner: text(129), Environment: text(65), Classification: "\xff", RetentionDays: 36501}
	if v := event.ValidateRegistration(bad); len(v) != 4 {
		t.Fatalf("%+v, want 4 violations", v)
	}
}
