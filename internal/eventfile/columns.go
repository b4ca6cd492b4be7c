package eventfile

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// Column is one column of CSV and Parquet.
type Column struct {
	Name string
	// Doc says what it holds.
	Doc string
	// text is the value as CSV has it.
	text func(*audittrailv1.Event) string
}

// Columns are those of every file, in their order. New ones come at the end.
var Columns = []Column{
	{"id", "Identity of the event, a UUID", (*audittrailv1.Event).GetId},
	{"occurred_at", "When it happened; RFC 3339 in UTC, in Parquet a timestamp in nanoseconds", func(e *audittrailv1.Event) string { return timeText(e.OccurredAt) }},
	{"received_at", "When the emitter received it; as occurred_at", func(e *audittrailv1.Event) string { return timeText(e.ReceivedAt) }},
	{"source", "Path of the producing service", (*audittrailv1.Event).GetSource},
	{"principal", "Who sent it to AuditTrail", (*audittrailv1.Event).GetPrincipal},
	{"action", "What was done", (*audittrailv1.Event).GetAction},
	{"kind", "Kind of the action: create, read, update, delete, auth, admin or other", kindText},
	{"outcome", "How it ended: success, failure, denied or unknown", outcomeText},
	{"reason_code", "Short code of the reason for the outcome", (*audittrailv1.Event).GetReasonCode},
	{"reason", "The reason for people", (*audittrailv1.Event).GetReason},
	{"actor_type", "What did it", func(e *audittrailv1.Event) string { return e.GetActor().GetType() }},
	{"actor_id", "Who did it", func(e *audittrailv1.Event) string { return e.GetActor().GetId() }},
	{"actor_name", "Who did it, for people", func(e *audittrailv1.Event) string { return e.GetActor().GetName() }},
	{"actor_session", "Session of the actor", func(e *audittrailv1.Event) string { return e.GetActor().GetSession() }},
	{"actor_auth_method", "How the actor proved who it is", func(e *audittrailv1.Event) string { return e.GetActor().GetAuthMethod() }},
	{"actor_on_behalf_of", "For whom it acted: JSON array of type, id, name; in Parquet a list", func(e *audittrailv1.Event) string { return jsonText(onBehalfOf(e)) }},
	{"resources", "What it was done to, the main one first: JSON array of type, id, name; in Parquet a list", func(e *audittrailv1.Event) string { return jsonText(resources(e)) }},
	{"changes", "Changed values: JSON array of path, old, new; in Parquet a list", func(e *audittrailv1.Event) string { return jsonText(changes(e)) }},
	{"ip", "The address it came from", func(e *audittrailv1.Event) string { return e.GetContext().GetIp() }},
	{"user_agent", "The program it came from", func(e *audittrailv1.Event) string { return e.GetContext().GetUserAgent() }},
	{"request_id", "The request it was part of", func(e *audittrailv1.Event) string { return e.GetContext().GetRequestId() }},
	{"trace_id", "The trace it was part of", func(e *audittrailv1.Event) string { return e.GetContext().GetTraceId() }},
	{"span_id", "The span it was part of", func(e *audittrailv1.Event) string { return e.GetContext().GetSpanId() }},
	{"host", "The host it came from", func(e *audittrailv1.Event) string { return e.GetContext().GetHost() }},
	{"region", "The region it came from", func(e *audittrailv1.Event) string { return e.GetContext().GetRegion() }},
	{"service_version", "Version of the producing service", func(e *audittrailv1.Event) string { return e.GetContext().GetServiceVersion() }},
	{"attributes", "Anything else: JSON object of texts; in Parquet a map", func(e *audittrailv1.Event) string { return jsonText(e.GetAttributes()) }},
	{"details", "JSON text of the producer, byte for byte", (*audittrailv1.Event).GetDetails},
	{"owner", "Owner of the source, as registered when it was enriched", func(e *audittrailv1.Event) string { return e.GetEnrichment().GetOwner() }},
	{"environment", "Environment of the source", func(e *audittrailv1.Event) string { return e.GetEnrichment().GetEnvironment() }},
	{"classification", "Classification of the source's data", func(e *audittrailv1.Event) string { return e.GetEnrichment().GetClassification() }},
	{"retention_days", "Days it is kept; empty (Parquet: 0) for the default", func(e *audittrailv1.Event) string { return numberText(int64(e.GetEnrichment().GetRetentionDays())) }},
	{"actor_new", "true when the source had not seen the actor before", func(e *audittrailv1.Event) string { return strconv.FormatBool(e.GetEnrichment().GetActorNew()) }},
	{"actor_failures", "Failures of the actor in a row; empty (Parquet: 0) for none", func(e *audittrailv1.Event) string { return numberText(int64(e.GetEnrichment().GetActorFailures())) }},
	{"lateness_seconds", "How late it reached the pipeline, in seconds; empty (Parquet: 0) for not late", func(e *audittrailv1.Event) string { return secondsText(e.GetEnrichment().GetLateness()) }},
	{"ingested_at", "When the broker appended it; as occurred_at", func(e *audittrailv1.Event) string { return timeText(e.GetEnrichment().GetIngestedAt()) }},
	{"idempotency_key", "The producer's key", (*audittrailv1.Event).GetIdempotencyKey},
	{"log", "Log that it stands in", func(e *audittrailv1.Event) string { return strconv.Itoa(int(e.GetPosition().GetLog())) }},
	{"log_index", "Its index in the log", func(e *audittrailv1.Event) string { return strconv.FormatInt(e.GetPosition().GetIndex(), 10) }},
}

func timeText(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().Format(time.RFC3339Nano)
}

func numberText(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

func secondsText(d *durationpb.Duration) string {
	if d == nil {
		return ""
	}
	return strconv.FormatFloat(d.AsDuration().Seconds(), 'f', -1, 64)
}

// kindText and outcomeText give what was not said its name, as filters do.
func kindText(e *audittrailv1.Event) string {
	if e.GetKind() == audittrailv1.ActionKind_ACTION_KIND_UNSPECIFIED {
		return "other"
	}
	return strings.ToLower(strings.TrimPrefix(e.GetKind().String(), "ACTION_KIND_"))
}

func outcomeText(e *audittrailv1.Event) string {
	if e.GetOutcome() == audittrailv1.Outcome_OUTCOME_UNSPECIFIED {
		return "unknown"
	}
	return strings.ToLower(strings.TrimPrefix(e.GetOutcome().String(), "OUTCOME_"))
}

// thing and change are parts of a row, in JSON and in Parquet.
type thing struct {
	Type string `json:"type,omitempty" parquet:"type,dict"`
	ID   string `json:"id,omitempty" parquet:"id"`
	Name string `json:"name,omitempty" parquet:"name"`
}

type change struct {
	Path string  `json:"path" parquet:"path,dict"`
	Old  *string `json:"old,omitempty" parquet:"old,optional"`
	New  *string `json:"new,omitempty" parquet:"new,optional"`
}

func onBehalfOf(e *audittrailv1.Event) []thing {
	var out []thing
	for _, a := range e.GetActor().GetOnBehalfOf() {
		out = append(out, thing{a.GetType(), a.GetId(), a.GetName()})
	}
	return out
}

func resources(e *audittrailv1.Event) []thing {
	var out []thing
	for _, r := range e.GetResources() {
		out = append(out, thing{r.GetType(), r.GetId(), r.GetName()})
	}
	return out
}

func changes(e *audittrailv1.Event) []change {
	var out []change
	for _, c := range e.GetChanges() {
		out = append(out, change{c.GetPath(), c.Old, c.New})
	}
	return out
}

// jsonText is empty for nothing.
func jsonText[V []thing | []change | map[string]string](v V) string {
	if len(v) == 0 {
		return ""
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(fmt.Sprintf("encode %T: %v", v, err)) // texts always encode
	}
	return strings.TrimSuffix(b.String(), "\n")
}
