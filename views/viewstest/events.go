package viewstest

import (
	"fmt"
	"math/rand/v2"
	"time"

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
		Details:        fmt.Sprintf(`{"n": %d,  "spaced":true}`, g.n),
		Attributes:     map[string]string{"n": fmt.Sprint(g.n), "b": "2", "a": "1"},
	}
	if g.IntN(4) > 0 {
		e.Actor = &audittrailv1.Actor{Id: g.Pick(ActorIDs), Type: g.Pick(ActorTypes), Name: g.Pick(ActorNames)}
	}
	for range g.IntN(3) {
		e.Resources = append(e.Resources, &audittrailv1.Resource{Type: g.Pick(ResourceTypes), Id: g.Pick(ResourceIDs)})
	}
	if g.IntN(3) > 0 {
		e.Context = &audittrailv1.Context{TraceId: g.Pick(TraceIDs)}
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
	text := func(field string, words []string) string {
		word := g.Pick(words)
		operator := []string{"=", "!=", ":"}[g.IntN(3)]
		if operator == ":" {
			runes := []rune(word)
			word = string(runes[:g.IntN(len(runes)+1)]) + "*"
		}
		return fmt.Sprintf("%s%s%s", field, operator, quote(word))
	}
	switch g.IntN(11) {
	case 0:
		return text("source", Sources)
	case 1:
		return text("actor.id", ActorIDs)
	case 2:
		return text("actor.type", ActorTypes)
	case 3:
		return text("action", Actions)
	case 4:
		return text("resources.type", ResourceTypes)
	case 5:
		return text("resources.id", ResourceIDs)
	case 6:
		return text("context.trace_id", TraceIDs)
	case 9:
		return text("actor.name", ActorNames)
	case 7:
		return "kind = " + g.Pick([]string{"create", "READ", "ACTION_KIND_UPDATE", "other"})
	case 8:
		return "outcome = " + g.Pick([]string{"success", "Failure", "OUTCOME_DENIED", "unknown"})
	default:
		return fmt.Sprintf("occurred_at %s %q", g.Pick([]string{"<", "<=", ">", ">=", "!="}), g.Time().Format(time.RFC3339Nano))
	}
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
