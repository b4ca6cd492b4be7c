package main

import (
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// company makes the traffic of an imaginary company: people who work in a few systems, machines that deploy, and now and then somebody who tries
// doors. The same seed gives the same traffic but for times and keys.
type company struct {
	rnd    *rand.Rand
	people []person
	attack int // events that are left of the attack under way
}

type person struct{ id, name, team, ip, session string }

// habit is something that people of a team do in a system, as often as its weight.
type habit struct {
	weight   int
	team     string // empty: everybody
	source   string
	action   string
	kind     audittrailv1.ActionKind
	resource string // type of what it is done to; empty: none
	denied   int    // in 1,000
	failed   int    // in 1,000
}

const (
	kindCreate = audittrailv1.ActionKind_ACTION_KIND_CREATE
	kindRead   = audittrailv1.ActionKind_ACTION_KIND_READ
	kindUpdate = audittrailv1.ActionKind_ACTION_KIND_UPDATE
	kindDelete = audittrailv1.ActionKind_ACTION_KIND_DELETE
	kindAuth   = audittrailv1.ActionKind_ACTION_KIND_AUTH
	kindAdmin  = audittrailv1.ActionKind_ACTION_KIND_ADMIN
)

var habits = []habit{
	{140, "", "acme/identity/sso", "user.login", kindAuth, "application", 2, 25},
	{60, "", "acme/identity/sso", "user.logout", kindAuth, "application", 0, 0},
	{25, "", "acme/identity/sso", "user.mfa.verify", kindAuth, "device", 0, 40},
	{4, "", "acme/identity/sso", "user.password.change", kindUpdate, "user", 0, 120},
	{120, "sales", "acme/crm/api", "contact.read", kindRead, "contact", 4, 2},
	{50, "sales", "acme/crm/api", "contact.update", kindUpdate, "contact", 6, 5},
	{3, "sales", "acme/crm/api", "contact.export", kindRead, "list", 60, 0},
	{70, "finance", "acme/payments/api", "invoice.read", kindRead, "invoice", 2, 1},
	{30, "finance", "acme/payments/api", "invoice.approve", kindUpdate, "invoice", 15, 5},
	{12, "finance", "acme/payments/api", "payment.release", kindUpdate, "payment", 25, 10},
	{4, "finance", "acme/payments/api", "refund.issue", kindCreate, "payment", 20, 10},
	{25, "people", "acme/hr/records", "employee.read", kindRead, "employee", 10, 0},
	{4, "people", "acme/hr/records", "salary.update", kindUpdate, "employee", 30, 0},
	{80, "engineering", "acme/infra/git", "repository.push", kindUpdate, "repository", 4, 12},
	{40, "engineering", "acme/infra/kubernetes", "deployment.read", kindRead, "deployment", 8, 2},
	{10, "engineering", "acme/infra/kubernetes", "pod.exec", kindAdmin, "pod", 50, 10},
	{2, "engineering", "acme/infra/kubernetes", "secret.read", kindRead, "secret", 150, 0},
	{35, "engineering", "acme/data/warehouse", "query.run", kindRead, "table", 12, 40},
	{2, "engineering", "acme/data/warehouse", "table.export", kindRead, "table", 80, 10},
	{3, "security", "acme/identity/sso", "role.grant", kindAdmin, "user", 0, 5},
	{1, "security", "acme/identity/sso", "role.revoke", kindAdmin, "user", 0, 5},
	{1, "security", "acme/identity/sso", "user.delete", kindDelete, "user", 0, 0},
}

var (
	firstNames = []string{"Ada", "Bilal", "Chiara", "Diego", "Elif", "Femi", "Greta", "Hana", "Ivo", "Jun", "Kofi", "Lena", "Mei", "Nadia", "Omar", "Priya", "Quinn", "Rosa", "Sven", "Tala"}
	lastNames  = []string{"Adler", "Brandt", "Costa", "Diallo", "Endo", "Fischer", "Gupta", "Haas", "Ito", "Jansen", "Khan", "Lopez", "Moreau", "Novak", "Okafor", "Petrov"}
	teams      = []string{"engineering", "engineering", "engineering", "sales", "sales", "finance", "people", "security"}
	agents     = []string{"Mozilla/5.0 (X11; Linux x86_64) Firefox/131.0", "Mozilla/5.0 (Macintosh) Safari/605.1.15", "Mozilla/5.0 (Windows NT 10.0) Chrome/130.0"}
)

func newCompany(seed uint64) *company {
	c := &company{rnd: rand.New(rand.NewPCG(seed, 1))}
	for i := range 60 {
		first, last := firstNames[c.rnd.IntN(len(firstNames))], lastNames[c.rnd.IntN(len(lastNames))]
		c.people = append(c.people, person{
			id: fmt.Sprintf("u-%04d", 1000+i), name: first + " " + last, team: teams[c.rnd.IntN(len(teams))],
			ip: fmt.Sprintf("10.%d.%d.%d", 20+i%4, c.rnd.IntN(250), 1+c.rnd.IntN(250)), session: fmt.Sprintf("s-%08x", c.rnd.Uint32()),
		})
	}
	return c
}

// next makes the next event, which happens now.
func (c *company) next(now time.Time) *audittrailv1.Event {
	var e *audittrailv1.Event
	switch {
	case c.attack > 0:
		c.attack--
		e = c.attempt()
	case c.rnd.IntN(4000) == 0:
		c.attack = 8 + c.rnd.IntN(20)
		e = c.attempt()
	case c.rnd.IntN(12) == 0:
		e = c.deploy()
	default:
		e = c.work()
	}
	e.OccurredAt = timestamppb.New(now)
	stamp(e)
	return e
}

func (c *company) work() *audittrailv1.Event {
	for {
		p := c.people[c.rnd.IntN(len(c.people))]
		h := c.pick(p.team)
		if h == nil {
			continue
		}
		e := &audittrailv1.Event{
			Source: h.source, Action: h.action, Kind: h.kind,
			Actor:      &audittrailv1.Actor{Type: "user", Id: p.id, Name: p.name, Session: p.session, AuthMethod: "password+totp"},
			Context:    &audittrailv1.Context{Ip: p.ip, UserAgent: agents[c.rnd.IntN(len(agents))], RequestId: fmt.Sprintf("r-%012x", c.rnd.Uint64()>>16), TraceId: fmt.Sprintf("%016x%016x", c.rnd.Uint64(), c.rnd.Uint64())},
			Attributes: map[string]string{"team": p.team},
		}
		if h.resource != "" {
			e.Resources = []*audittrailv1.Resource{{Type: h.resource, Id: fmt.Sprintf("%s-%d", h.resource, 1+c.rnd.IntN(400))}}
		}
		if h.kind == kindUpdate && h.resource == "employee" {
			e.Changes = []*audittrailv1.Change{{Path: "salary.band", Old: ptr("B2"), New: ptr("B3")}}
		}
		c.outcome(e, h)
		return e
	}
}

func ptr(s string) *string { return &s }

// pick draws one habit of a team by weight.
func (c *company) pick(team string) *habit {
	total := 0
	for _, h := range habits {
		if h.team == "" || h.team == team {
			total += h.weight
		}
	}
	n := c.rnd.IntN(total)
	for i, h := range habits {
		if h.team != "" && h.team != team {
			continue
		}
		if n -= h.weight; n < 0 {
			return &habits[i]
		}
	}
	return nil
}

func (c *company) outcome(e *audittrailv1.Event, h *habit) {
	switch n := c.rnd.IntN(1000); {
	case n < h.denied:
		e.Outcome, e.ReasonCode, e.Reason = audittrailv1.Outcome_OUTCOME_DENIED, "NotAllowed", "the role does not allow it"
	case n < h.denied+h.failed:
		e.Outcome, e.ReasonCode = audittrailv1.Outcome_OUTCOME_FAILURE, "Failed"
	default:
		e.Outcome = audittrailv1.Outcome_OUTCOME_SUCCESS
	}
}

// deploy is what the build machine does.
func (c *company) deploy() *audittrailv1.Event {
	service := []string{"web", "payments", "search", "mail"}[c.rnd.IntN(4)]
	return &audittrailv1.Event{
		Source: "acme/infra/ci", Action: "deployment.create", Kind: kindCreate, Outcome: audittrailv1.Outcome_OUTCOME_SUCCESS,
		Actor:     &audittrailv1.Actor{Type: "service", Id: "ci-runner", Name: "CI", AuthMethod: "mtls", OnBehalfOf: []*audittrailv1.ActorReference{{Type: "user", Id: c.people[c.rnd.IntN(len(c.people))].id}}},
		Resources: []*audittrailv1.Resource{{Type: "deployment", Id: "prod/" + service}},
		Context:   &audittrailv1.Context{Ip: "10.9.0.7", Host: "runner-3", ServiceVersion: fmt.Sprintf("1.%d.%d", c.rnd.IntN(40), c.rnd.IntN(10))},
		Changes:   []*audittrailv1.Change{{Path: "image.tag", New: ptr(fmt.Sprintf("%s:%07x", service, c.rnd.Uint32()>>4))}},
	}
}

// attempt is somebody outside who tries passwords of people inside.
func (c *company) attempt() *audittrailv1.Event {
	p := c.people[c.rnd.IntN(3)]
	return &audittrailv1.Event{
		Source: "acme/identity/sso", Action: "user.login", Kind: kindAuth, Outcome: audittrailv1.Outcome_OUTCOME_DENIED,
		ReasonCode: "BadPassword", Reason: "wrong password",
		Actor:   &audittrailv1.Actor{Type: "user", Id: p.id, Name: p.name},
		Context: &audittrailv1.Context{Ip: "203.0.113.66", UserAgent: "python-requests/2.32"},
	}
}
