package cloudtrail_test

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	gproto "google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/maxviazov/audittrail/emitters/cloudtrail"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
)

func TestMapOfAWholeRecord(t *testing.T) {
	data, err := os.ReadFile("testdata/assumed-role.json")
	if err != nil {
		t.Fatal(err)
	}
	record := read(t, strings.NewReader(string(data)))[0]
	got, notes := mapped(t, string(record))
	want := &audittrailv1.Event{
		Source:         "aws/123456789012/ec2",
		Action:         "ec2.TerminateInstances",
		IdempotencyKey: "8f1f7b4e-6a4e-4a55-9f0c-1d2c3b4a5968",
		OccurredAt:     timestamppb.New(time.Date(2026, 3, 1, 9, 8, 7, 0, time.UTC)),
		Kind:           audittrailv1.ActionKind_ACTION_KIND_DELETE,
		Outcome:        audittrailv1.Outcome_OUTCOME_DENIED,
		ReasonCode:     "Client.UnauthorizedOperation",
		Reason:         "You are not authorized to perform this operation.",
		Actor: &audittrailv1.Actor{Type: "AssumedRole", Id: "arn:aws:iam::123456789012:role/deploy", Name: "deploy",
			Session: "ada@example.com", AuthMethod: "mfa"},
		Resources: []*audittrailv1.Resource{{Type: "AWS::EC2::Instance", Id: "arn:aws:ec2:eu-central-1:123456789012:instance/i-0abc"},
			{Id: "arn:aws:ec2:eu-central-1:123456789012:instance/i-0abd"}},
		Context:    &audittrailv1.Context{Ip: "203.0.113.7", UserAgent: "aws-cli/2.15", RequestId: "req-1", Region: "eu-central-1"},
		Attributes: map[string]string{"access_key_id": "ASIAEXAMPLE", "invoked_by": "cloudformation.amazonaws.com"},
		Details:    string(record),
	}
	if !gproto.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if len(notes) != 0 {
		t.Errorf("notes %v", notes)
	}
	valid(t, got)
}

// record is a small record with some fields replaced; nil removes one.
func record(tb testing.TB, changes map[string]any) string {
	tb.Helper()
	r := map[string]any{"eventVersion": "1.08", "eventTime": "2026-03-01T09:08:07Z", "eventSource": "s3.amazonaws.com", "eventName": "GetObject",
		"eventID": "e-1", "recipientAccountId": "123456789012", "readOnly": true, "eventType": "AwsApiCall", "sourceIPAddress": "10.0.0.1",
		"userIdentity": map[string]any{"type": "IAMUser", "arn": "arn:aws:iam::123456789012:user/ada", "userName": "ada"}}
	for k, v := range changes {
		if v == nil {
			delete(r, k)
			continue
		}
		r[k] = v
	}
	b, err := json.Marshal(r)
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

type object = map[string]any

func TestActorOfEveryIdentityType(t *testing.T) {
	for _, c := range []struct {
		identity any
		want     *audittrailv1.Actor
	}{
		{object{"type": "Root", "principalId": "123456789012", "arn": "arn:aws:iam::123456789012:root"},
			&audittrailv1.Actor{Type: "Root", Id: "arn:aws:iam::123456789012:root"}},
		{object{"type": "IAMUser", "principalId": "AIDA1", "userName": "ada"}, &audittrailv1.Actor{Type: "IAMUser", Id: "AIDA1", Name: "ada"}},
		{object{"type": "AssumedRole", "principalId": "AROA1:session", "arn": "arn:aws:sts::1:assumed-role/r/session"},
			&audittrailv1.Actor{Type: "AssumedRole", Id: "arn:aws:sts::1:assumed-role/r/session", Session: "session"}},
		{object{"type": "FederatedUser", "principalId": "1:bob", "arn": "arn:aws:sts::1:federated-user/bob",
			"sessionContext": object{"sessionIssuer": object{"type": "IAMUser", "userName": "issuer", "arn": "arn:aws:iam::1:user/issuer"}}},
			&audittrailv1.Actor{Type: "FederatedUser", Id: "arn:aws:sts::1:federated-user/bob", Name: "issuer", Session: "bob"}},
		{object{"type": "AWSService", "invokedBy": "inspector2.amazonaws.com"}, &audittrailv1.Actor{Type: "AWSService", Id: "inspector2.amazonaws.com"}},
		{object{"type": "AWSAccount", "principalId": "AROA2:x", "accountId": "999"}, &audittrailv1.Actor{Type: "AWSAccount", Id: "AROA2:x"}},
		{object{"type": "SAMLUser", "principalId": "idp:ada", "userName": "ada"}, &audittrailv1.Actor{Type: "SAMLUser", Id: "idp:ada", Name: "ada"}},
		{object{"type": "WebIdentityUser", "principalId": "accounts.google.com:app:1", "userName": "1"},
			&audittrailv1.Actor{Type: "WebIdentityUser", Id: "accounts.google.com:app:1", Name: "1"}},
		{object{"type": "IdentityCenterUser", "accountId": "1", "onBehalfOf": object{"userId": "u-1", "identityStoreArn": "arn"}},
			&audittrailv1.Actor{Type: "IdentityCenterUser", Id: "1", OnBehalfOf: []*audittrailv1.ActorReference{{Type: "IdentityCenterUser", Id: "u-1"}}}},
		{object{"type": "Directory", "userName": "ada"}, &audittrailv1.Actor{Type: "Directory", Id: "ada", Name: "ada"}},
		{object{"accountId": "1", "invokedBy": "ec2.amazonaws.com"}, &audittrailv1.Actor{Type: "unknown", Id: "ec2.amazonaws.com"}},
		{object{"accountId": "1"}, &audittrailv1.Actor{Type: "unknown", Id: "1"}},
		{nil, &audittrailv1.Actor{Type: "unknown"}},
	} {
		got, notes := mapped(t, record(t, object{"userIdentity": c.identity}))
		if !gproto.Equal(got.Actor, c.want) {
			t.Errorf("%v: got %v, want %v", c.identity, got.Actor, c.want)
		}
		if missing := slices.Contains(notes, cloudtrail.Note{Field: "actor.type", Done: cloudtrail.Missing}); missing != (c.want.Type == "unknown") {
			t.Errorf("%v: notes %v", c.identity, notes)
		}
		valid(t, got)
	}
}

func TestOutcome(t *testing.T) {
	for code, want := range map[string]audittrailv1.Outcome{
		"": audittrailv1.Outcome_OUTCOME_SUCCESS, "AccessDenied": audittrailv1.Outcome_OUTCOME_DENIED,
		"AccessDeniedException": audittrailv1.Outcome_OUTCOME_DENIED, "UnauthorizedOperation": audittrailv1.Outcome_OUTCOME_DENIED,
		"Client.UnauthorizedOperation": audittrailv1.Outcome_OUTCOME_DENIED, "NotAuthorizedException": audittrailv1.Outcome_OUTCOME_DENIED,
		"ThrottlingException": audittrailv1.Outcome_OUTCOME_FAILURE, "Client.InvalidVpcID.NotFound": audittrailv1.Outcome_OUTCOME_FAILURE,
	} {
		if got, _ := mapped(t, record(t, object{"errorCode": code})); got.Outcome != want || got.ReasonCode != code {
			t.Errorf("%q: %s %q", code, got.Outcome, got.ReasonCode)
		}
	}
	for result, want := range map[string]audittrailv1.Outcome{"Success": audittrailv1.Outcome_OUTCOME_SUCCESS, "Failure": audittrailv1.Outcome_OUTCOME_FAILURE} {
		got, _ := mapped(t, record(t, object{"eventName": "ConsoleLogin", "eventType": "AwsConsoleSignIn", "responseElements": object{"ConsoleLogin": result}}))
		if got.Outcome != want || got.Kind != audittrailv1.ActionKind_ACTION_KIND_AUTH {
			t.Errorf("sign-in %s: %s %s", result, got.Outcome, got.Kind)
		}
	}
}

func TestKind(t *testing.T) {
	for name, want := range map[string]audittrailv1.ActionKind{
		"CreateBucket": audittrailv1.ActionKind_ACTION_KIND_CREATE, "RunInstances": audittrailv1.ActionKind_ACTION_KIND_CREATE,
		"DeleteBucket": audittrailv1.ActionKind_ACTION_KIND_DELETE, "TerminateInstances": audittrailv1.ActionKind_ACTION_KIND_DELETE,
		"PutObject": audittrailv1.ActionKind_ACTION_KIND_UPDATE, "AttachInternetGateway": audittrailv1.ActionKind_ACTION_KIND_UPDATE,
		"AttachRolePolicy": audittrailv1.ActionKind_ACTION_KIND_ADMIN, "AuthorizeSecurityGroupIngress": audittrailv1.ActionKind_ACTION_KIND_ADMIN,
		"StopLogging": audittrailv1.ActionKind_ACTION_KIND_ADMIN, "StopInstances": audittrailv1.ActionKind_ACTION_KIND_UPDATE,
		"SendCommand": audittrailv1.ActionKind_ACTION_KIND_OTHER,
	} {
		if got, _ := mapped(t, record(t, object{"eventName": name, "readOnly": false})); got.Kind != want {
			t.Errorf("%s: %s, want %s", name, got.Kind, want)
		}
		if got, _ := mapped(t, record(t, object{"eventName": name})); got.Kind != audittrailv1.ActionKind_ACTION_KIND_READ {
			t.Errorf("%s, read only: %s", name, got.Kind)
		}
	}
	for name, want := range map[string]audittrailv1.ActionKind{"DescribeInstances": audittrailv1.ActionKind_ACTION_KIND_READ, "CreateUser": audittrailv1.ActionKind_ACTION_KIND_CREATE} {
		if got, _ := mapped(t, record(t, object{"eventName": name, "readOnly": nil})); got.Kind != want {
			t.Errorf("%s, not said: %s, want %s", name, got.Kind, want)
		}
		if got, _ := mapped(t, record(t, object{"eventName": name, "readOnly": "true"})); got.Kind != audittrailv1.ActionKind_ACTION_KIND_READ {
			t.Errorf("%s, as text: %s", name, got.Kind)
		}
	}
	if got, _ := mapped(t, record(t, object{"eventSource": "sts.amazonaws.com", "eventName": "AssumeRole"})); got.Kind != audittrailv1.ActionKind_ACTION_KIND_AUTH {
		t.Errorf("AssumeRole: %s", got.Kind)
	}
}

// TestWhatDoesNotFitIsNoted: each value at its limit is taken as it is, one byte more is shortened or left out, a wrong type is left out.
func TestWhatDoesNotFitIsNoted(t *testing.T) {
	identity := func(k string, v any) object {
		return object{"userIdentity": object{"type": "IAMUser", "principalId": "AIDA1", k: v}}
	}
	for _, c := range []struct {
		field, done string
		limit       int
		set         func(v any) object
		get         func(e *audittrailv1.Event) string
	}{
		{"reason", cloudtrail.Shortened, 1024, func(v any) object { return object{"errorMessage": v} }, func(e *audittrailv1.Event) string { return e.Reason }},
		{"reason_code", cloudtrail.Shortened, 64, func(v any) object { return object{"errorCode": v} }, func(e *audittrailv1.Event) string { return e.ReasonCode }},
		{"context.user_agent", cloudtrail.Shortened, 512, func(v any) object { return object{"userAgent": v} }, func(e *audittrailv1.Event) string { return e.Context.UserAgent }},
		{"context.request_id", cloudtrail.LeftOut, 128, func(v any) object { return object{"requestID": v} }, func(e *audittrailv1.Event) string { return e.Context.RequestId }},
		{"context.region", cloudtrail.LeftOut, 64, func(v any) object { return object{"awsRegion": v} }, func(e *audittrailv1.Event) string { return e.Context.Region }},
		{"actor.name", cloudtrail.Shortened, 256, func(v any) object { return identity("userName", v) }, func(e *audittrailv1.Event) string { return e.Actor.Name }},
		{"actor.type", cloudtrail.Shortened, 64, func(v any) object { return identity("type", v) }, func(e *audittrailv1.Event) string { return e.Actor.Type }},
		{"attributes.access_key_id", cloudtrail.LeftOut, 1024, func(v any) object { return identity("accessKeyId", v) }, func(e *audittrailv1.Event) string { return e.Attributes["access_key_id"] }},
		{"resources.type", cloudtrail.Shortened, 128, func(v any) object { return object{"resources": []any{object{"ARN": "a", "type": v}}} }, func(e *audittrailv1.Event) string { return e.Resources[0].Type }},
		{"resources.id", cloudtrail.LeftOut, 1024, func(v any) object { return object{"resources": []any{object{"ARN": v, "type": "t"}}} }, func(e *audittrailv1.Event) string { return e.Resources[0].Id }},
	} {
		long := strings.Repeat("x", c.limit-1) + "y"
		e, notes := mapped(t, record(t, c.set(long)))
		if c.get(e) != long || slices.ContainsFunc(notes, func(n cloudtrail.Note) bool { return n.Field == c.field }) {
			t.Errorf("%s at its limit: %q, notes %v", c.field, c.get(e), notes)
		}
		want := long
		if c.done == cloudtrail.LeftOut {
			want = ""
		}
		e, notes = mapped(t, record(t, c.set(long+"z")))
		if c.get(e) != want || !slices.Contains(notes, cloudtrail.Note{Field: c.field, Done: c.done}) {
			t.Errorf("%s over its limit: %q, notes %v", c.field, c.get(e), notes)
		}
		valid(t, e)
		e, notes = mapped(t, record(t, c.set(42)))
		if got := c.get(e); got != "" && got != "unknown" || !slices.ContainsFunc(notes, func(n cloudtrail.Note) bool { return n.Done == cloudtrail.LeftOut }) {
			t.Errorf("%s as a number: %q, notes %v", c.field, got, notes)
		}
		valid(t, e)
	}
	e, notes := mapped(t, record(t, object{"errorMessage": strings.Repeat("x", 1023) + "ü"}))
	if e.Reason != strings.Repeat("x", 1023) || len(notes) != 1 {
		t.Errorf("cut inside a character: %d bytes, notes %v", len(e.Reason), notes)
	}
	for _, ip := range []string{"AWS Internal", "ec2.amazonaws.com", "fe80::1%eth0", "10.0.0.1:80"} {
		e, notes := mapped(t, record(t, object{"sourceIPAddress": ip}))
		if e.Context.Ip != "" || !slices.Contains(notes, cloudtrail.Note{Field: "context.ip", Done: cloudtrail.LeftOut}) {
			t.Errorf("%s: %q, notes %v", ip, e.Context.Ip, notes)
		}
	}
	e, notes = mapped(t, record(t, object{"resources": slices.Repeat([]any{object{"ARN": "a"}}, 33)}))
	if len(e.Resources) != 32 || !slices.Contains(notes, cloudtrail.Note{Field: "resources", Done: cloudtrail.LeftOut}) {
		t.Errorf("%d resources, notes %v", len(e.Resources), notes)
	}
	// An ARN that does not fit is not cut off into another's: the next identity stands for it.
	e, notes = mapped(t, record(t, identity("arn", strings.Repeat("x", 129))))
	if e.Actor.Id != "AIDA1" || !slices.Contains(notes, cloudtrail.Note{Field: "actor.id", Done: cloudtrail.LeftOut}) {
		t.Errorf("actor %v, notes %v", e.Actor, notes)
	}
	e, notes = mapped(t, record(t, object{"eventID": nil, "eventName": "s3:Object Created", "eventSource": "s3", "recipientAccountId": nil}))
	if e.Action != "s3.s3_Object_Created" || e.Source != "aws/unknown/s3" || !strings.HasPrefix(e.IdempotencyKey, "sha256:") || len(notes) != 3 {
		t.Errorf("%s %s %s, notes %v", e.Action, e.Source, e.IdempotencyKey, notes)
	}
	valid(t, e)
}

func TestRecordsThatAreRefused(t *testing.T) {
	at := func(n int) string {
		r := record(t, object{"eventID": ""})
		return strings.Replace(r, `"eventID":""`, `"eventID":"`+strings.Repeat("x", n-len(r))+`"`, 1)
	}
	if e, _, err := cloudtrail.Map([]byte(at(event.MaxDetails))); err != nil || len(e.Details) != event.MaxDetails {
		t.Errorf("32 KiB: %v", err)
	}
	if _, _, err := cloudtrail.Map([]byte(at(event.MaxDetails + 1))); !errors.Is(err, cloudtrail.ErrTooLarge) {
		t.Errorf("over 32 KiB: %v", err)
	}
	for name, r := range map[string]string{"no object": `42`, "no JSON": `{"eventTime":`, "not UTF-8": "{\"eventTime\":\"\xff\"}", "no time": record(t, object{"eventTime": nil}),
		"bad time": record(t, object{"eventTime": "yesterday"}), "early": record(t, object{"eventTime": "1999-12-31T23:59:59Z"}), "empty": ``} {
		if e, _, err := cloudtrail.Map([]byte(r)); err == nil {
			t.Errorf("%s: %v", name, e)
		}
	}
}

// FuzzMap: whatever a record says, the event is valid and keeps it byte for byte, or there is an error.
func FuzzMap(f *testing.F) {
	for _, seed := range []string{record(f, nil), record(f, object{"userIdentity": 7, "resources": "x", "readOnly": "maybe"}), `{"eventTime":"2026-01-01T00:00:00Z"}`, `{"eventTime":"9999-12-31T23:59:59+23:59"}`, `{"eventTime":"9999-12-31T23:59:59-23:59"}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, r string) {
		e, _, err := cloudtrail.Map([]byte(r))
		if err != nil {
			return
		}
		if e.Details != r {
			t.Errorf("details %q", e.Details)
		}
		valid(t, e)
	})
}
