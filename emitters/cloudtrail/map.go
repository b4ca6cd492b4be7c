package cloudtrail

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
)

// What a Note says was done with a value.
const (
	Shortened = "shortened"         // text for people, over its limit
	LeftOut   = "left out"          // an identifier over its limit, or a value of a wrong type or form
	Replaced  = "replaced"          // characters that the field does not take
	Missing   = "not in the record" // and something else stands for it
)

// Note says that a field of the event is not quite what the record says.
type Note struct {
	Field string // of the event, e.g. context.ip
	Done  string // Shortened, LeftOut, Replaced or Missing
}

// ErrTooLarge is the error of a record over 32 KiB.
var ErrTooLarge = errors.New("record is too large for details, which are never shortened")

// Map returns the event of one record, with a note on each value that is not as in the record. The event is valid, but for a time in the
// future, which only the emitter can judge. Errors: ErrTooLarge; no JSON object; no usable eventTime. The event shares no memory
// with the record.
func Map(record []byte) (*audittrailv1.Event, []Note, error) {
	if len(record) > event.MaxDetails {
		return nil, nil, fmt.Errorf("%d bytes, at most %d: %w", len(record), event.MaxDetails, ErrTooLarge)
	}
	if !utf8.Valid(record) {
		return nil, nil, errors.New("record is not valid UTF-8")
	}
	var m mapper
	r, ok := object(record)
	if !ok {
		return nil, nil, errors.New("record is not a JSON object")
	}
	at, err := time.Parse(time.RFC3339, m.text(r, "eventTime", "occurred_at"))
	if err != nil {
		return nil, nil, fmt.Errorf("eventTime: %w", err)
	}
	if at.Before(event.MinOccurredAt) {
		return nil, nil, fmt.Errorf("eventTime %s is before %s", at.Format(time.RFC3339), event.MinOccurredAt.Format(time.RFC3339))
	}
	e := &audittrailv1.Event{OccurredAt: timestamppb.New(at), Details: string(record)}
	if err := e.OccurredAt.CheckValid(); err != nil { // the year 10000, by its zone
		return nil, nil, fmt.Errorf("eventTime: %w", err)
	}
	service := strings.TrimSuffix(m.text(r, "eventSource", "source"), ".amazonaws.com")
	name := m.text(r, "eventName", "action")
	identity := m.object(r, "userIdentity", "actor")

	e.Source = m.source(r, identity, service)
	e.Action = m.action(service, name)
	e.IdempotencyKey = m.identifier("idempotency_key", m.text(r, "eventID", "idempotency_key"), event.MaxIdempotencyKey)
	if e.IdempotencyKey == "" {
		sum := sha256.Sum256(record)
		e.IdempotencyKey = "sha256:" + hex.EncodeToString(sum[:])
		m.note("idempotency_key", Missing)
	}
	code := m.text(r, "errorCode", "reason_code")
	e.ReasonCode = m.shorten("reason_code", code, event.MaxReasonCode)
	e.Reason = m.shorten("reason", m.text(r, "errorMessage", "reason"), event.MaxReason)
	e.Outcome = outcome(code, m.signInFailed(r, name))
	e.Kind = kind(m.text(r, "eventType", "kind"), service, name, m.flag(r, "readOnly", "kind"))
	e.Actor = m.actor(r, identity)
	e.Resources = m.resources(r)
	e.Context = m.origin(r)
	for _, a := range []struct{ key, from string }{{"access_key_id", "accessKeyId"}, {"invoked_by", "invokedBy"}} {
		field := "attributes." + a.key
		if v := m.identifier(field, m.text(identity, a.from, field), event.MaxAttributeValue); v != "" {
			if e.Attributes == nil {
				e.Attributes = make(map[string]string, 2)
			}
			e.Attributes[a.key] = v
		}
	}
	return e, m.notes, nil
}

// mapper collects the notes on one record.
type mapper struct{ notes []Note }

// note adds a note; a field has one of each kind at most.
func (m *mapper) note(field, done string) {
	n := Note{Field: field, Done: done}
	for _, have := range m.notes {
		if have == n {
			return
		}
	}
	m.notes = append(m.notes, n)
}

func (m *mapper) source(r, identity fields, service string) string {
	account := m.text(r, "recipientAccountId", "source")
	if account == "" {
		account = m.text(identity, "accountId", "source")
	}
	parts := []string{"aws", account, service}
	for i, part := range parts {
		clean := strings.Map(func(c rune) rune {
			if word(c) || c == '.' {
				return c
			}
			return '-'
		}, part)
		if len(clean) > 100 {
			clean = clean[:100]
		}
		if clean == "" || clean == "." || clean == ".." {
			clean = "unknown"
		}
		if clean != part {
			m.note("source", Replaced)
		}
		parts[i] = clean
	}
	return strings.Join(parts, "/")
}

func (m *mapper) action(service, name string) string {
	var segments []string
	for _, s := range strings.Split(service+"."+name, ".") {
		clean := strings.Map(func(c rune) rune {
			if word(c) {
				return c
			}
			return '_'
		}, s)
		if clean == "" {
			clean = "unknown"
		}
		if clean != s {
			m.note("action", Replaced)
		}
		segments = append(segments, clean)
	}
	action := strings.Join(segments, ".")
	if len(action) > event.MaxAction {
		action = strings.TrimRight(action[:event.MaxAction], ".")
		m.note("action", Shortened)
	}
	return action
}

func word(c rune) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

func (m *mapper) resources(r fields) []*audittrailv1.Resource {
	raw, ok := r["resources"]
	if !ok || isNull(raw) {
		return nil
	}
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		m.note("resources", LeftOut)
		return nil
	}
	var all []*audittrailv1.Resource
	for _, item := range list {
		f, ok := object(item)
		if !ok || len(all) == event.MaxResources {
			m.note("resources", LeftOut)
			continue
		}
		resource := &audittrailv1.Resource{
			Type: m.shorten("resources.type", m.text(f, "type", "resources.type"), event.MaxResourceType),
			Id:   m.identifier("resources.id", m.text(f, "ARN", "resources.id"), event.MaxResourceID),
		}
		if resource.Type != "" || resource.Id != "" {
			all = append(all, resource)
		}
	}
	return all
}

func (m *mapper) origin(r fields) *audittrailv1.Context {
	c := &audittrailv1.Context{
		UserAgent: m.shorten("context.user_agent", m.text(r, "userAgent", "context.user_agent"), event.MaxUserAgent),
		RequestId: m.identifier("context.request_id", m.text(r, "requestID", "context.request_id"), event.MaxRequestID),
		Region:    m.identifier("context.region", m.text(r, "awsRegion", "context.region"), event.MaxRegion),
	}
	if ip := m.text(r, "sourceIPAddress", "context.ip"); ip != "" {
		if addr, err := netip.ParseAddr(ip); err == nil && addr.Zone() == "" {
			c.Ip = ip
		} else { // a name: AWS Internal, or that of a service
			m.note("context.ip", LeftOut)
		}
	}
	return c
}

// outcome decides by errorCode.
func outcome(code string, signInFailed bool) audittrailv1.Outcome {
	switch {
	case code == "" && signInFailed:
		return audittrailv1.Outcome_OUTCOME_FAILURE
	case code == "":
		return audittrailv1.Outcome_OUTCOME_SUCCESS
	}
	code = strings.TrimPrefix(strings.TrimPrefix(code, "Client."), "Server.")
	for _, denied := range []string{"AccessDenied", "Unauthorized", "NotAuthorized", "AuthorizationError", "Forbidden"} {
		if strings.HasPrefix(code, denied) {
			return audittrailv1.Outcome_OUTCOME_DENIED
		}
	}
	return audittrailv1.Outcome_OUTCOME_FAILURE
}

// signInFailed says that responseElements has Failure under the name of the event, which is all that a failed sign-in may say.
func (m *mapper) signInFailed(r fields, name string) bool {
	raw, ok := r["responseElements"]
	if !ok {
		return false
	}
	response, ok := object(raw)
	if !ok {
		return false
	}
	var result string
	return json.Unmarshal(response[name], &result) == nil && result == "Failure"
}
