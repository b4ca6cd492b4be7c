package views

import (
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/segment"
)

// valueKind is what the values of a field are, and with it how they are written, read and compared.
type valueKind uint8

const (
	kindText     valueKind = iota
	kindEnum               // a number with a name
	kindNumber             // a whole number, not negative
	kindBool               //
	kindTime               // google.protobuf.Timestamp
	kindDuration           // google.protobuf.Duration
	kindAddress            // text that is an IP address
	kindKeys               // the keys of a map
	kindValue              // the value of one key of a map
	kindID                 // computed from source, key and time
	kindLog                // of the position
	kindIndex              // of the position
)

// field is one row of the table of fields.
type field struct {
	name string
	kind valueKind
	path []protowire.Number // where it stands in the record; none: it is computed
	list int                // how many numbers of path lead to a list, 0: none does; then a restriction holds if it does for one element
	flag fieldFlags
	// values of an enumeration; what is not said reads as silent.
	values map[string]int32
	prefix string
	silent string
	// term is what a segment holds when a record has this value; nil: nothing.
	term func(value string) uint64
	// column of `events` that answers it.
	column string
	doc    string
}

type fieldFlags uint8

const (
	// spoken: free text looks here.
	spoken fieldFlags = 1 << iota
	// faceted: few enough values to be counted one by one.
	faceted
)

// fields is the table: what a filter may ask for. It drives parsing, narrowing, evaluation, completion and docs/filters.md (written by
// a test from it); another test holds it against the descriptor of Event.
var fields = []field{
	{name: "id", kind: kindID, column: "id", doc: "identity of the event, a UUID"},
	{name: "source", path: path(2), flag: spoken | faceted, term: segment.TermSource, column: "source_id", doc: "path of the producing service"},
	{name: "idempotency_key", path: path(3), doc: "the producer's key"},
	{name: "occurred_at", kind: kindTime, path: path(4), column: "id", doc: "when it happened, by the producer's clock"},
	{name: "actor.type", path: path(5, 1), flag: faceted, term: segment.TermActorType, doc: "what did it, e.g. user"},
	{name: "actor.id", path: path(5, 2), flag: spoken | faceted, term: segment.TermActorID, doc: "who did it"},
	{name: "actor.name", path: path(5, 3), flag: spoken | faceted, doc: "who did it, for people"},
	{name: "actor.session", path: path(5, 4), flag: faceted, term: segment.TermSession, doc: "session of the actor"},
	{name: "actor.auth_method", path: path(5, 5), flag: faceted, doc: "how the actor proved who it is"},
	{name: "actor.on_behalf_of.type", path: path(5, 6, 1), list: 2, flag: faceted, doc: "for what the actor acted"},
	{name: "actor.on_behalf_of.id", path: path(5, 6, 2), list: 2, flag: spoken | faceted, doc: "for whom the actor acted"},
	{name: "actor.on_behalf_of.name", path: path(5, 6, 3), list: 2, flag: spoken | faceted, doc: "for whom the actor acted, for people"},
	{name: "action", path: path(6), flag: spoken | faceted, term: segment.TermAction, column: "action_id", doc: "what was done"},
	{name: "kind", kind: kindEnum, path: path(7), flag: faceted, values: kinds, prefix: "ACTION_KIND_", silent: "other",
		term: func(v string) uint64 { return segment.TermKind(audittrailv1.ActionKind(kinds[v])) }, doc: "kind of the action"},
	{name: "outcome", kind: kindEnum, path: path(8), flag: faceted, values: outcomes, prefix: "OUTCOME_", silent: "unknown",
		term: func(v string) uint64 { return segment.TermOutcome(audittrailv1.Outcome(outcomes[v])) }, column: "outcome", doc: "how it ended"},
	{name: "resources.type", path: path(9, 1), list: 1, flag: faceted, term: segment.TermResourceType, doc: "what it was done to, e.g. invoice"},
	{name: "resources.id", path: path(9, 2), list: 1, flag: spoken | faceted, term: segment.TermResourceID, doc: "identity of what it was done to"},
	{name: "resources.name", path: path(9, 3), list: 1, flag: spoken | faceted, doc: "what it was done to, for people"},
	{name: "changes.path", path: path(10, 1), list: 1, flag: spoken | faceted, doc: "where a changed value stands"},
	{name: "changes.old", path: path(10, 2), list: 1, flag: spoken, doc: "a value before the change"},
	{name: "changes.new", path: path(10, 3), list: 1, flag: spoken, doc: "a value after the change"},
	{name: "context.ip", kind: kindAddress, path: path(11, 1), flag: spoken | faceted, doc: "the address it came from"},
	{name: "context.user_agent", path: path(11, 2), flag: spoken | faceted, doc: "the program it came from"},
	{name: "context.request_id", path: path(11, 3), flag: spoken, term: segment.TermRequest, doc: "the request it was part of"},
	{name: "context.trace_id", path: path(11, 4), flag: spoken, term: segment.TermTrace, doc: "the trace it was part of"},
	{name: "context.span_id", path: path(11, 5), doc: "the span it was part of"},
	{name: "context.host", path: path(11, 6), flag: spoken | faceted, doc: "the host it came from"},
	{name: "context.region", path: path(11, 7), flag: faceted, doc: "the region it came from"},
	{name: "context.service_version", path: path(11, 8), flag: faceted, doc: "version of the producing service"},
	{name: "attributes", kind: kindKeys, path: path(12, 1), list: 1, flag: faceted, doc: "the keys of the attributes: `attributes:key` asks whether it is there"},
	{name: "attributes.KEY", kind: kindValue, path: path(12, 2), list: 1, flag: spoken | faceted, doc: "the attribute KEY; in quotes where it is no plain word, as in `attributes.\"a key\"`"},
	{name: "details", path: path(13), flag: spoken, doc: "the JSON text of the event"},
	{name: "reason_code", path: path(14), flag: spoken | faceted, doc: "short code of the reason for the outcome"},
	{name: "reason", path: path(15), flag: spoken, doc: "the reason for the outcome"},
	{name: "received_at", kind: kindTime, path: path(20), doc: "when the emitter received it"},
	{name: "principal", path: path(21), flag: spoken | faceted, doc: "who sent it to AuditTrail"},
	{name: "enrichment.owner", path: path(22, 1), flag: spoken | faceted, doc: "owner of the source"},
	{name: "enrichment.environment", path: path(22, 2), flag: faceted, doc: "environment of the source"},
	{name: "enrichment.classification", path: path(22, 3), flag: faceted, doc: "classification of the source's data"},
	{name: "enrichment.retention_days", kind: kindNumber, path: path(22, 4), flag: faceted, doc: "days it is kept, 0: the default"},
	{name: "enrichment.actor_new", kind: kindBool, path: path(22, 5), flag: faceted, doc: "the source had not seen the actor before"},
	{name: "enrichment.since_previous", kind: kindDuration, path: path(22, 6), doc: "time since the source's previous event"},
	{name: "enrichment.actor_failures", kind: kindNumber, path: path(22, 7), flag: faceted, doc: "failures of the actor in a row"},
	{name: "enrichment.lateness", kind: kindDuration, path: path(22, 8), doc: "how late it reached the pipeline"},
	{name: "enrichment.ingested_at", kind: kindTime, path: path(22, 9), doc: "when the broker appended it"},
	{name: "position.log", kind: kindLog, flag: faceted, column: "log_id", doc: "the log it stands in"},
	{name: "position.index", kind: kindIndex, column: "log_index", doc: "its index in the log"},
}

func path(numbers ...protowire.Number) []protowire.Number { return numbers }

// Fields that code refers to.
var (
	fieldSource     = byName("source")
	fieldKey        = byName("idempotency_key")
	fieldAction     = byName("action")
	fieldOutcome    = byName("outcome")
	fieldOccurredAt = byName("occurred_at")
	fieldAttribute  = byName("attributes.KEY")
)

// byName returns a row of the table; nil when there is none.
func byName(name string) *field {
	for i := range fields {
		if fields[i].name == name {
			return &fields[i]
		}
	}
	return nil
}

// findField reads the name of a field as a filter writes it; key is that of an attribute. Nil: there is no such field.
func findField(name string) (f *field, key string) {
	if key, ok := strings.CutPrefix(name, "attributes."); ok && key != "" {
		return fieldAttribute, key
	}
	return byName(name), ""
}

// kinds and outcomes are the values of the enumerations in a filter.
var (
	kinds    = enumValues(audittrailv1.ActionKind_value, "ACTION_KIND_")
	outcomes = enumValues(audittrailv1.Outcome_value, "OUTCOME_")
)

// enumValues maps the lower-case names without their prefix to numbers, the unspecified one left out.
func enumValues(numbers map[string]int32, prefix string) map[string]int32 {
	values := make(map[string]int32, len(numbers))
	for name, number := range numbers {
		if number != 0 {
			values[strings.ToLower(strings.TrimPrefix(name, prefix))] = number
		}
	}
	return values
}

// names lists the keys of a table for error messages.
func names[V any](table map[string]V) string {
	return strings.Join(slices.Sorted(maps.Keys(table)), ", ")
}

// operators of a field, as they are written.
func (f *field) operators() []string {
	switch f.kind {
	case kindText, kindValue, kindAddress, kindEnum:
		return []string{"=", "!=", ":"}
	case kindBool, kindID:
		return []string{"=", "!="}
	case kindKeys:
		return []string{":"}
	case kindTime, kindDuration:
		return []string{"=", "!=", "<", "<=", ">", ">=", ":"}
	default:
		return []string{"=", "!=", "<", "<=", ">", ">="}
	}
}
