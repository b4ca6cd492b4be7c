package cloudtrail

import (
	"strings"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
)

// actor maps userIdentity. The identity of an assumed role is the role: its session has another ARN each time, and would be a new actor
// each time.
func (m *mapper) actor(r, identity fields) *audittrailv1.Actor {
	text := func(name string) string { return m.text(identity, name, "actor") }
	a := &audittrailv1.Actor{
		Type: m.shorten("actor.type", m.text(identity, "type", "actor.type"), event.MaxActorType),
		Name: text("userName"),
	}
	if a.Type == "" {
		a.Type = "unknown"
		m.note("actor.type", Missing)
	}
	candidates := []string{text("arn"), text("principalId"), text("invokedBy"), text("userName"), text("accountId")}
	session := m.object(identity, "sessionContext", "actor")
	if a.Type == "AssumedRole" || a.Type == "FederatedUser" {
		issuer := m.object(session, "sessionIssuer", "actor")
		if a.Type == "AssumedRole" {
			candidates = append([]string{m.text(issuer, "arn", "actor.id")}, candidates...)
		}
		if a.Name == "" {
			a.Name = m.text(issuer, "userName", "actor.name")
		}
		_, name, _ := strings.Cut(text("principalId"), ":")
		a.Session = m.identifier("actor.session", name, event.MaxActorSession)
	}
	a.Id = m.first("actor.id", candidates, event.MaxActorID)
	a.Name = m.shorten("actor.name", a.Name, event.MaxActorName)
	if m.secondFactor(r, session) {
		a.AuthMethod = "mfa"
	}
	behalf := m.object(identity, "onBehalfOf", "actor.on_behalf_of")
	if id := m.identifier("actor.on_behalf_of", m.text(behalf, "userId", "actor.on_behalf_of"), event.MaxActorID); id != "" {
		a.OnBehalfOf = []*audittrailv1.ActorReference{{Type: "IdentityCenterUser", Id: id}}
	}
	return a
}

// secondFactor looks where a session and where a sign-in say it.
func (m *mapper) secondFactor(r, session fields) bool {
	attributes := m.object(session, "attributes", "actor.auth_method")
	if m.text(attributes, "mfaAuthenticated", "actor.auth_method") == "true" {
		return true
	}
	additional := m.object(r, "additionalEventData", "actor.auth_method")
	return m.text(additional, "MFAUsed", "actor.auth_method") == "Yes"
}

// first returns the first candidate that is there and fits.
func (m *mapper) first(field string, candidates []string, limit int) string {
	for _, c := range candidates {
		if c = m.identifier(field, c, limit); c != "" {
			return c
		}
	}
	return ""
}
