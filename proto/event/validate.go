package event

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// Violation is one limit that an event breaks.
type Violation struct {
	Field       string // path within the event, e.g. resources[3].id
	Description string // what is wrong and what is allowed
}

// Bounds is what validation needs to know besides the event.
type Bounds struct {
	// Now is the time of receipt.
	Now time.Time
	// MaxFuture is how far occurred_at may lie after Now; 0: DefaultMaxFuture.
	MaxFuture time.Duration
	// Complete demands occurred_at and idempotency_key, which the emitter fills in: behind it both must
	// be there, or a replay would get another id.
	Complete bool
}

// MaxViolations bounds how many violations of one event are reported.
const MaxViolations = 16

// Validate returns every limit of event.proto that e breaks (the first MaxViolations of them); none
// means that it is valid. encoded is the size of the encoded event without AuditTrail's stamps.
func Validate(e *audittrailv1.Event, encoded int, bounds Bounds) []Violation {
	v := validator{}
	v.size(encoded)
	v.source(e.Source)
	v.text("idempotency_key", e.IdempotencyKey, MaxIdempotencyKey)
	v.occurredAt(e, bounds)
	if a := e.Actor; a != nil {
		v.actor(a)
	}
	v.action(e.Action)
	v.enum("kind", int32(e.Kind), audittrailv1.ActionKind_name)
	v.enum("outcome", int32(e.Outcome), audittrailv1.Outcome_name)
	v.text("reason_code", e.ReasonCode, MaxReasonCode)
	v.text("reason", e.Reason, MaxReason)
	v.resources(e.Resources)
	v.changes(e.Changes)
	if c := e.Context; c != nil {
		v.origin(c)
	}
	v.attributes(e.Attributes)
	v.details(e.Details)
	return v.found
}

// ValidateSource returns what is wrong with the path of a source.
func ValidateSource(source string) []Violation {
	v := validator{}
	v.source(source)
	return v.found
}

// ValidateRegistration returns what is wrong with the registration of a source.
func ValidateRegistration(r *audittrailv1.SourceRegistration) []Violation {
	v := validator{}
	v.text("registration.owner", r.GetOwner(), MaxOwner)
	v.text("registration.environment", r.GetEnvironment(), MaxEnvironment)
	v.text("registration.classification", r.GetClassification(), MaxClassification)
	if n := r.GetRetentionDays(); n > MaxRetentionDays {
		v.add("registration.retention_days", fmt.Sprintf("is %d; at most %d", n, MaxRetentionDays))
	}
	return v.found
}

type validator struct{ found []Violation }

func (v *validator) add(field, description string) {
	if len(v.found) < MaxViolations {
		v.found = append(v.found, Violation{Field: field, Description: description})
	}
}

func (v *validator) size(encoded int) {
	if encoded > MaxEncoded {
		v.add("", fmt.Sprintf("the event takes %d bytes encoded; at most %d", encoded, MaxEncoded))
	}
}

// text checks length and encoding of one string; the path is only built when something is wrong.
func (v *validator) text(field, s string, limit int) {
	if textOK(s, limit) {
		return
	}
	if len(s) > limit {
		v.add(field, fmt.Sprintf("takes %d bytes; at most %d", len(s), limit))
		return
	}
	v.add(field, "is not valid UTF-8")
}

func textOK(s string, limit int) bool { return len(s) <= limit && utf8.ValidString(s) }

func (v *validator) source(s string) {
	switch {
	case s == "":
		v.add("source", "is required")
	case len(s) > MaxSource:
		v.add("source", fmt.Sprintf("takes %d bytes; at most %d", len(s), MaxSource))
	default:
		if problem := pathProblem(s); problem != "" {
			v.add("source", problem)
		}
	}
}

func pathProblem(s string) string {
	start := 0
	for i := 0; i <= len(s); i++ {
		if i < len(s) && s[i] != '/' {
			if !pathByte(s[i]) {
				return fmt.Sprintf("has %q at byte %d; segments are of A-Z a-z 0-9 . _ -", s[i:i+1], i)
			}
			continue
		}
		switch s[start:i] {
		case "":
			return fmt.Sprintf("has an empty segment at byte %d", start)
		case ".", "..":
			return fmt.Sprintf("has the segment %q at byte %d", s[start:i], start)
		}
		start = i + 1
	}
	return ""
}

func pathByte(c byte) bool { return wordByte(c) || c == '.' }

func wordByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

func (v *validator) action(s string) {
	if s == "" {
		v.add("action", "is required")
		return
	}
	if len(s) > MaxAction {
		v.add("action", fmt.Sprintf("takes %d bytes; at most %d", len(s), MaxAction))
		return
	}
	word := false
	for i := range len(s) {
		switch {
		case wordByte(s[i]):
			word = true
		case s[i] == '.' && word:
			word = false
		default:
			v.add("action", fmt.Sprintf("has %q at byte %d; a dotted verb of A-Z a-z 0-9 _ - is wanted", s[i:i+1], i))
			return
		}
	}
	if !word {
		v.add("action", "ends in a dot")
	}
}

func (v *validator) occurredAt(e *audittrailv1.Event, bounds Bounds) {
	t := e.OccurredAt
	if t == nil {
		switch {
		case bounds.Complete:
			v.add("occurred_at", "is required behind the emitter")
		case e.IdempotencyKey != "":
			v.add("occurred_at", "is required with idempotency_key: a retry would get another id")
		}
		return
	}
	if bounds.Complete && e.IdempotencyKey == "" {
		v.add("idempotency_key", "is required behind the emitter")
	}
	if err := t.CheckValid(); err != nil {
		v.add("occurred_at", "is not a valid timestamp")
		return
	}
	future := bounds.MaxFuture
	if future == 0 {
		future = DefaultMaxFuture
	}
	at := t.AsTime()
	if at.Before(MinOccurredAt) {
		v.add("occurred_at", fmt.Sprintf("is %s; not before %s", at.Format(time.RFC3339), MinOccurredAt.Format(time.RFC3339)))
	}
	if at.After(bounds.Now.Add(future)) {
		v.add("occurred_at", fmt.Sprintf("is %s, %s after the time of receipt; at most %s",
			at.Format(time.RFC3339), at.Sub(bounds.Now).Round(time.Second), future))
	}
}

func (v *validator) enum(field string, value int32, names map[int32]string) {
	if value == 0 { // the common cases without a look-up
		return
	}
	if _, ok := names[value]; !ok {
		v.add(field, fmt.Sprintf("has the unknown value %d", value))
	}
}

func (v *validator) actor(a *audittrailv1.Actor) {
	v.text("actor.type", a.Type, MaxActorType)
	v.text("actor.id", a.Id, MaxActorID)
	v.text("actor.name", a.Name, MaxActorName)
	v.text("actor.session", a.Session, MaxActorSession)
	v.text("actor.auth_method", a.AuthMethod, MaxActorAuthMethod)
	if n := len(a.OnBehalfOf); n > MaxOnBehalfOf {
		v.add("actor.on_behalf_of", fmt.Sprintf("has %d entries; at most %d", n, MaxOnBehalfOf))
		return
	}
	for i, o := range a.OnBehalfOf {
		v.item("actor.on_behalf_of", i, "type", o.GetType(), MaxActorType)
		v.item("actor.on_behalf_of", i, "id", o.GetId(), MaxActorID)
		v.item("actor.on_behalf_of", i, "name", o.GetName(), MaxActorName)
	}
}

func (v *validator) item(list string, i int, field, s string, limit int) {
	if !textOK(s, limit) {
		v.text(list+"["+strconv.Itoa(i)+"]."+field, s, limit)
	}
}

func (v *validator) resources(list []*audittrailv1.Resource) {
	if n := len(list); n > MaxResources {
		v.add("resources", fmt.Sprintf("has %d entries; at most %d", n, MaxResources))
		return
	}
	for i, r := range list {
		v.item("resources", i, "type", r.GetType(), MaxResourceType)
		v.item("resources", i, "id", r.GetId(), MaxResourceID)
		v.item("resources", i, "name", r.GetName(), MaxResourceName)
	}
}

func (v *validator) changes(list []*audittrailv1.Change) {
	if n := len(list); n > MaxChanges {
		v.add("changes", fmt.Sprintf("has %d entries; at most %d", n, MaxChanges))
		return
	}
	for i, c := range list {
		if c.GetPath() == "" {
			v.add("changes["+strconv.Itoa(i)+"].path", "is required")
		}
		v.item("changes", i, "path", c.GetPath(), MaxChangePath)
		v.item("changes", i, "old", c.GetOld(), MaxChangeValue)
		v.item("changes", i, "new", c.GetNew(), MaxChangeValue)
	}
}

func (v *validator) origin(c *audittrailv1.Context) {
	if c.Ip != "" {
		addr, err := netip.ParseAddr(clip(c.Ip, MaxIP))
		switch {
		case err != nil:
			v.add("context.ip", fmt.Sprintf("%q is not an IP address", strings.ToValidUTF8(clip(c.Ip, MaxIP), "�")))
		case addr.Zone() != "":
			v.add("context.ip", "has a zone; an address without one is wanted")
		}
	}
	v.text("context.user_agent", c.UserAgent, MaxUserAgent)
	v.text("context.request_id", c.RequestId, MaxRequestID)
	v.text("context.trace_id", c.TraceId, MaxTraceID)
	v.text("context.span_id", c.SpanId, MaxSpanID)
	v.text("context.host", c.Host, MaxHost)
	v.text("context.region", c.Region, MaxRegion)
	v.text("context.service_version", c.ServiceVersion, MaxServiceVersion)
}

func (v *validator) attributes(m map[string]string) {
	if n := len(m); n > MaxAttributes {
		v.add("attributes", fmt.Sprintf("has %d keys; at most %d", n, MaxAttributes))
		return
	}
	for key, value := range m {
		if key == "" {
			v.add("attributes", "has an empty key")
		}
		if !textOK(key, MaxAttributeKey) || !textOK(value, MaxAttributeValue) {
			path := fmt.Sprintf("attributes[%q]", strings.ToValidUTF8(clip(key, MaxAttributeKey), "�"))
			v.text(path+" key", key, MaxAttributeKey)
			v.text(path, value, MaxAttributeValue)
		}
	}
}

func (v *validator) details(s string) {
	switch {
	case s == "":
	case len(s) > MaxDetails:
		v.add("details", fmt.Sprintf("takes %d bytes; at most %d", len(s), MaxDetails))
	case !utf8.ValidString(s):
		v.add("details", "is not valid UTF-8")
	case !strings.HasPrefix(strings.TrimLeft(s, " \t\r\n"), "{") || !json.Valid([]byte(s)):
		v.add("details", "is not a JSON object")
	}
}
