package views

import (
	"maps"
	"slices"
	"strings"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// field is what a restriction is about.
type field uint8

const (
	fieldSource field = iota
	fieldActorID
	fieldActorType
	fieldActorName
	fieldAction
	fieldKind
	fieldOutcome
	fieldResourceType
	fieldResourceID
	fieldOccurredAt
	fieldTraceID
)

// fields are the names a filter may use.
var fields = map[string]field{
	"source":           fieldSource,
	"actor.id":         fieldActorID,
	"actor.name":       fieldActorName,
	"actor.type":       fieldActorType,
	"action":           fieldAction,
	"kind":             fieldKind,
	"outcome":          fieldOutcome,
	"resources.type":   fieldResourceType,
	"resources.id":     fieldResourceID,
	"occurred_at":      fieldOccurredAt,
	"context.trace_id": fieldTraceID,
}

// kinds and outcomes are the values of the enumerations in a filter; what was not said reads as the last.
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

// enumValue reads a value of an enumeration, with or without its prefix, in any case.
func enumValue(values map[string]int32, prefix, text string) (int32, bool) {
	text = strings.TrimPrefix(strings.ToLower(text), strings.ToLower(prefix))
	number, ok := values[text]
	return number, ok
}

// names lists the keys of a table for error messages.
func names[V any](table map[string]V) string {
	return strings.Join(slices.Sorted(maps.Keys(table)), ", ")
}
