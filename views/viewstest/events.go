package viewstest

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// Words that random events and random filters are made of: few, so that filters find something, and some of them prefixes of others.
var (
	Sources       = []string{"acme", "acme/payments/api", "acme/payments/batch", "acme/payroll", "acme-test/web", "other/auth", "other"}
	ActorIDs      = []string{"", "alice", "alic", "bob", "carol@example.com", "ünïcode \"quoted\" \\ back"}
	ActorTypes    = []string{"", "user", "service"}
	ActorNames    = []string{"", "Alice", "Ali", "Bob"}
	Actions       = []string{"user.login", "user.logout", "user", "users.list", "invoice.create", "invoice.pay"}
	ResourceTypes = []string{"", "invoice", "bucket"}
	ResourceIDs   = []string{"", "inv-1", "inv-2", "arn:aws:s3:::b/*", "arn:aws:s3:::b/key"}
	TraceIDs      = []string{"", "t1", "t2", "t3"}
	Names         = []string{"", "Ünïcode Straße", "Main ledger", "ledger", "K\u212aelvin", "100%", "x"}
	IPs           = []string{"", "10.1.2.3", "10.1.2.4", "10.1.9.1", "10.2.0.1", "::ffff:10.1.2.3", "2001:db8::1", "2001:db8:0:1::2", "2001:db9::", "192.0.2.1"}
	Networks      = []string{"", "10.1.2.3", "10.1.2.0/24", "10.1.0.0/16", "10.0.0.0/8", "10.1.2.0/25", "0.0.0.0/0", "2001:db8::/32", "2001:db8::/48", "::/0", "::ffff:10.1.2.4", "::ffff:10.1.0.0/112"}
	Keys          = []string{"a", "b", "a b", "tier", "a.b", "ünï"}
	Values        = []string{"", "gold", "Gold", "goldfish", "2", "1 = 1"}
	JSON          = []string{"", `{"n": 1,  "spaced":true}`, `{"secret":"Gold"}`}
	Durations     = []string{"0s", "1ms", "1.5s", "1m", "1d", "1w2d3h"}
)

// Generator makes random events; the same seed makes the same ones.
type Generator struct {
	*rand.Rand
	from time.Time
	span time.Duration
	n    int
}

// NewGenerator makes events that happened within span before now.
func NewGenerator(seed uint64, now time.Time, span time.Duration) *Generator {
	return &Generator{Rand: rand.New(rand.NewPCG(seed, seed)), from: now.Add(-span), span: span}
}

// Pick picks one of the words.
func (g *Generator) Pick(words []string) string { return words[g.IntN(len(words))] }

// Time picks a time.
func (g *Generator) Time() time.Time {
	return g.from.Add(time.Duration(g.Int64N(int64(g.span)))).UTC()
}

// Event makes the next event. Every tenth shares its millisecond with others.
func (g *Generator) Event() *audittrailv1.Event {
	g.n++
	at := g.Time()
	if g.IntN(10) == 0 {
		at = g.from.Add(g.span / 2).Truncate(time.Millisecond).Add(time.Duration(g.IntN(1e6)))
	}
	e := &audittrailv1.Event{
		Source:         g.Pick(Sources),
		IdempotencyKey: fmt.Sprintf("key-%d", g.n),
		OccurredAt:     timestamppb.New(at),
		Action:         g.Pick(Actions),
		Kind:           audittrailv1.ActionKind(g.IntN(8)),
		Outcome:        audittrailv1.Outcome(g.IntN(5)),
		ReceivedAt:     timestamppb.New(at.Add(time.Second)),
		Principal:      "anonymous",
		Details:        g.Pick(JSON),
		Attributes:     map[string]string{"n": fmt.Sprint(g.n)},
	}
	for range g.IntN(4) {
		e.Attributes[g.Pick(Keys)] = g.Pick(Values)
	}
	if g.IntN(3) == 0 {
		e.ReasonCode, e.Reason = g.Pick(Values), g.Pick(Names)
	}
	for range g.IntN(3) {
		c := &audittrailv1.Change{Path: g.Pick(Keys)}
		if g.IntN(2) == 0 {
			old := g.Pick(Values)
			c.Old = &old
		}
		if g.IntN(2) == 0 {
			text := g.Pick(Names)
			c.New = &text
		}
		e.Changes = append(e.Changes, c)
	}
	if g.IntN(3) > 0 {
		e.Enrichment = &audittrailv1.Enrichment{
			Owner: g.Pick(Names), Environment: g.Pick(Values), Classification: g.Pick(Values), RetentionDays: uint32(g.IntN(4)),
			ActorNew: g.IntN(2) == 0, ActorFailures: uint32(g.IntN(4)), Lateness: durationpb.New(time.Duration(g.IntN(3)) * time.Millisecond),
			IngestedAt: timestamppb.New(at.Add(time.Duration(g.IntN(3)) * time.Second)),
		}
		if g.IntN(2) == 0 {
			e.Enrichment.SincePrevious = durationpb.New(time.Duration(g.IntN(4)) * 30 * time.Second)
		}
	}
	if g.IntN(4) > 0 {
		e.Actor = &audittrailv1.Actor{Id: g.Pick(ActorIDs), Type: g.Pick(ActorTypes), Name: g.Pick(ActorNames),
			Session: g.Pick(TraceIDs), AuthMethod: g.Pick(Values)}
		for range g.IntN(3) {
			e.Actor.OnBehalfOf = append(e.Actor.OnBehalfOf, &audittrailv1.ActorReference{Type: g.Pick(ActorTypes), Id: g.Pick(ActorIDs), Name: g.Pick(Names)})
		}
	}
	for range g.IntN(3) {
		e.Resources = append(e.Resources, &audittrailv1.Resource{Type: g.Pick(ResourceTypes), Id: g.Pick(ResourceIDs), Name: g.Pick(Names)})
	}
	if g.IntN(3) > 0 {
		e.Context = &audittrailv1.Context{TraceId: g.Pick(TraceIDs), SpanId: g.Pick(TraceIDs), RequestId: g.Pick(TraceIDs), Ip: g.Pick(IPs),
			UserAgent: g.Pick(Names), Host: g.Pick(Values), Region: g.Pick(Values), ServiceVersion: g.Pick(Values)}
	}
	return e
}

// Events makes n events.
func (g *Generator) Events(n int) []*audittrailv1.Event {
	out := make([]*audittrailv1.Event, n)
	for i := range out {
		out[i] = g.Event()
	}
	return out
}

// Filter makes a random filter of at most depth levels.
func (g *Generator) Filter(depth int) string {
	if depth > 0 {
		switch g.IntN(6) {
		case 0:
			return g.Filter(depth-1) + " AND " + g.Filter(depth-1)
		case 1:
			return "(" + g.Filter(depth-1) + " OR " + g.Filter(depth-1) + ")"
		case 2:
			return "NOT (" + g.Filter(depth-1) + ")"
		case 3:
			return "(" + g.Filter(depth-1) + " )"
		}
	}
	switch g.IntN(14) {
	case 0:
		return "kind = " + g.Pick([]string{"create", "READ", "ACTION_KIND_UPDATE", "other"})
	case 1:
		return "outcome = " + g.Pick([]string{"success", "Failure", "OUTCOME_DENIED", "unknown"})
	case 2, 3:
		field := g.Pick([]string{"occurred_at", "occurred_at", "received_at", "enrichment.ingested_at"})
		if g.IntN(4) == 0 {
			return fmt.Sprintf("%s %s now-%dh", field, g.Pick(Orders), g.IntN(1+int(g.span/time.Hour)))
		}
		return fmt.Sprintf("%s %s %q", field, g.Pick(Orders), g.Time().Format(time.RFC3339Nano))
	case 4:
		return fmt.Sprintf("%s %s %s", g.Pick([]string{"enrichment.lateness", "enrichment.since_previous"}), g.Pick(Orders), g.Pick(Durations))
	case 5:
		return fmt.Sprintf("%s %s %d", g.Pick([]string{"enrichment.retention_days", "enrichment.actor_failures", "position.log", "position.index"}), g.Pick(Orders), g.IntN(4))
	case 6:
		return g.Pick([]string{"enrichment.actor_new = true", "enrichment.actor_new != false", "enrichment.since_previous:*", "received_at:*", "attributes:*"})
	case 7:
		return fmt.Sprintf("context.ip %s %q", g.Pick([]string{"=", "!=", ":"}), g.Pick(Networks))
	case 8:
		return g.words("attributes", Keys, true)
	case 9:
		return g.words("attributes."+quote(g.Pick(Keys)), Values, false)
	case 10: // free text
		runes := []rune(g.Pick(append(append(Names, Values...), ActorNames...)))
		from := g.IntN(len(runes) + 1)
		if part := string(runes[from:]); part != "" {
			return quote(g.Pick([]string{part, strings.ToUpper(part), strings.ToLower(part)}))
		}
		return "ledger"
	case 11:
		return "outcome = (" + g.Pick([]string{"success", "failure"}) + " OR " + g.Pick([]string{"denied", "unknown"}) + ")"
	default:
		f := textFields[g.IntN(len(textFields))]
		return g.words(f.name, f.words, false)
	}
}

// Orders are the comparators of what has an order.
var Orders = []string{"<", "<=", ">", ">=", "!=", "="}

// textFields are fields of text with the words they hold.
var textFields = []struct {
	name  string
	words []string
}{
	{"source", Sources}, {"actor.id", ActorIDs}, {"actor.type", ActorTypes}, {"action", Actions}, {"resources.type", ResourceTypes},
	{"resources.id", ResourceIDs}, {"context.trace_id", TraceIDs}, {"actor.name", ActorNames}, {"actor.session", TraceIDs},
	{"actor.auth_method", Values}, {"actor.on_behalf_of.type", ActorTypes}, {"actor.on_behalf_of.id", ActorIDs}, {"actor.on_behalf_of.name", Names},
	{"resources.name", Names}, {"changes.path", Keys}, {"changes.old", Values}, {"changes.new", Names}, {"context.user_agent", Names},
	{"context.request_id", TraceIDs}, {"context.span_id", TraceIDs}, {"context.host", Values}, {"context.region", Values},
	{"context.service_version", Values}, {"details", JSON}, {"reason_code", Values}, {"reason", Names}, {"principal", []string{"anonymous", "anon"}},
	{"enrichment.owner", Names}, {"enrichment.environment", Values}, {"enrichment.classification", Values}, {"idempotency_key", []string{"key-1", "key-2"}},
}

// words makes a restriction of text.
func (g *Generator) words(field string, words []string, hasOnly bool) string {
	word := g.Pick(words)
	operator := []string{"=", "!=", ":"}[g.IntN(3)]
	if hasOnly {
		operator = ":"
	}
	if operator == ":" {
		runes := []rune(word)
		cut := g.IntN(len(runes) + 1)
		switch g.IntN(5) {
		case 0:
			word = "*" + string(runes[cut:])
		case 1:
			word = "*" + string(runes[cut:]) + "*"
		case 2:
		default:
			word = string(runes[:cut]) + "*"
		}
	}
	return fmt.Sprintf("%s%s%s", field, operator, quote(word))
}

// quote puts a word in quotes, as the filter language does.
func quote(word string) string {
	out := []rune{'"'}
	for _, r := range word {
		if r == '"' || r == '\\' {
			out = append(out, '\\')
		}
		out = append(out, r)
	}
	return string(append(out, '"'))
}
