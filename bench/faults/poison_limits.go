package faults

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// limit is one limit of event.proto. The numbers stand here as they stand there, not as the service's constants.
type limit struct {
	field string // as violations name it, below the event; empty: the event as a whole
	// set brings the event to the limit when over is 0, and beyond it when over is 1.
	set func(e *audittrailv1.Event, over int)
	// says must stand in the detail of the dead letter of a raw event; empty: field.
	says string
	// reason of that dead letter; empty: INVALID_EVENT.
	reason string
	whole  bool // and it is of the whole message
}

func chars(n int) string { return strings.Repeat("x", n) }

// text is a limit on the length of one text.
func text(field string, length int, at func(e *audittrailv1.Event) *string) limit {
	return limit{field: field, set: func(e *audittrailv1.Event, over int) { *at(e) = chars(length + over) }}
}

func actor(e *audittrailv1.Event) *audittrailv1.Actor {
	if e.Actor == nil {
		e.Actor = &audittrailv1.Actor{}
	}
	return e.Actor
}

func origin(e *audittrailv1.Event) *audittrailv1.Context {
	if e.Context == nil {
		e.Context = &audittrailv1.Context{}
	}
	return e.Context
}

func grow[T any](list []*T, n int) []*T {
	for len(list) < n {
		list = append(list, new(T))
	}
	return list
}

func behalf(e *audittrailv1.Event) *audittrailv1.ActorReference {
	actor(e).OnBehalfOf = grow(e.Actor.OnBehalfOf, 4)
	return e.Actor.OnBehalfOf[3]
}

func resource(e *audittrailv1.Event) *audittrailv1.Resource {
	e.Resources = grow(e.Resources, 32)
	return e.Resources[31]
}

func changes(e *audittrailv1.Event, n int) *audittrailv1.Change {
	e.Changes = grow(e.Changes, n)
	for _, c := range e.Changes {
		c.Path = "spec.replicas"
	}
	return e.Changes[len(e.Changes)-1]
}

// limits lists every limit that has a "by one": exactly at it an event is accepted, one beyond it is refused.
func limits() []limit {
	list := []limit{
		{field: "source", reason: "WRONG_SOURCE", says: "257 bytes", whole: true, set: func(e *audittrailv1.Event, over int) {
			e.Source = "bad/" + chars(252+over)
		}},
		{field: "idempotency_key", set: func(e *audittrailv1.Event, over int) {
			e.IdempotencyKey += "-" + chars(128+over-1-len(e.IdempotencyKey))
		}},
		{field: "occurred_at", set: func(e *audittrailv1.Event, over int) {
			e.OccurredAt = timestamppb.New(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Add(-time.Duration(over) * time.Nanosecond))
		}},
		// The future has no "by one" for a test: clocks go on.
		{field: "occurred_at", set: func(e *audittrailv1.Event, over int) {
			e.OccurredAt = timestamppb.New(time.Now().Add(4*time.Minute + time.Duration(over)*time.Hour))
		}},
		text("actor.type", 64, func(e *audittrailv1.Event) *string { return &actor(e).Type }),
		text("actor.id", 128, func(e *audittrailv1.Event) *string { return &actor(e).Id }),
		text("actor.name", 256, func(e *audittrailv1.Event) *string { return &actor(e).Name }),
		text("actor.session", 128, func(e *audittrailv1.Event) *string { return &actor(e).Session }),
		text("actor.auth_method", 64, func(e *audittrailv1.Event) *string { return &actor(e).AuthMethod }),
		{field: "actor.on_behalf_of", set: func(e *audittrailv1.Event, over int) { actor(e).OnBehalfOf = grow(e.Actor.OnBehalfOf, 4+over) }},
		text("actor.on_behalf_of[3].type", 64, func(e *audittrailv1.Event) *string { return &behalf(e).Type }),
		text("actor.on_behalf_of[3].id", 128, func(e *audittrailv1.Event) *string { return &behalf(e).Id }),
		text("actor.on_behalf_of[3].name", 256, func(e *audittrailv1.Event) *string { return &behalf(e).Name }),
		text("action", 128, func(e *audittrailv1.Event) *string { return &e.Action }),
		{field: "kind", set: func(e *audittrailv1.Event, over int) {
			e.Kind = audittrailv1.ActionKind_ACTION_KIND_OTHER + audittrailv1.ActionKind(over)
		}},
		{field: "outcome", set: func(e *audittrailv1.Event, over int) {
			e.Outcome = audittrailv1.Outcome_OUTCOME_UNKNOWN + audittrailv1.Outcome(over)
		}},
		text("reason_code", 64, func(e *audittrailv1.Event) *string { return &e.ReasonCode }),
		text("reason", 1<<10, func(e *audittrailv1.Event) *string { return &e.Reason }),
		{field: "resources", set: func(e *audittrailv1.Event, over int) { e.Resources = grow(e.Resources, 32+over) }},
		text("resources[31].type", 128, func(e *audittrailv1.Event) *string { return &resource(e).Type }),
		text("resources[31].id", 1<<10, func(e *audittrailv1.Event) *string { return &resource(e).Id }),
		text("resources[31].name", 256, func(e *audittrailv1.Event) *string { return &resource(e).Name }),
		{field: "changes", set: func(e *audittrailv1.Event, over int) { changes(e, 128+over) }},
		text("changes[127].path", 256, func(e *audittrailv1.Event) *string { return &changes(e, 128).Path }),
		{field: "changes[127].old", set: func(e *audittrailv1.Event, over int) { changes(e, 128).Old = proto.String(chars(4<<10 + over)) }},
		{field: "changes[127].new", set: func(e *audittrailv1.Event, over int) { changes(e, 128).New = proto.String(chars(4<<10 + over)) }},
		text("context.user_agent", 512, func(e *audittrailv1.Event) *string { return &origin(e).UserAgent }),
		text("context.request_id", 128, func(e *audittrailv1.Event) *string { return &origin(e).RequestId }),
		text("context.trace_id", 64, func(e *audittrailv1.Event) *string { return &origin(e).TraceId }),
		text("context.span_id", 64, func(e *audittrailv1.Event) *string { return &origin(e).SpanId }),
		text("context.host", 256, func(e *audittrailv1.Event) *string { return &origin(e).Host }),
		text("context.region", 64, func(e *audittrailv1.Event) *string { return &origin(e).Region }),
		text("context.service_version", 128, func(e *audittrailv1.Event) *string { return &origin(e).ServiceVersion }),
		{field: "attributes", set: func(e *audittrailv1.Event, over int) {
			e.Attributes = map[string]string{}
			for i := range 64 + over {
				e.Attributes[fmt.Sprint("key", i)] = "v"
			}
		}},
		{field: "attributes[\"" + chars(64) + "…\"] key", set: func(e *audittrailv1.Event, over int) {
			e.Attributes = map[string]string{chars(64 + over): "v"}
		}},
		{field: `attributes["k"]`, set: func(e *audittrailv1.Event, over int) { e.Attributes = map[string]string{"k": chars(1<<10 + over)} }},
		{field: "details", set: func(e *audittrailv1.Event, over int) { e.Details = jsonOf(32<<10 + over) }},
		{field: "", says: "61441 bytes encoded", set: func(e *audittrailv1.Event, over int) {
			changes(e, 8)
			for _, c := range e.Changes {
				c.New = proto.String(chars(4 << 10))
			}
			e.Details = jsonOf(20_000)
			e.Details = jsonOf(len(e.Details) + 60<<10 + over - proto.Size(e))
		}},
	}
	return list
}

// jsonOf is a JSON object of n bytes.
func jsonOf(n int) string { return `{"pad":"` + chars(n-10) + `"}` }

// wrongs lists what is wrong without a limit to be at: set with over 1 only.
func wrongs() []limit {
	wrong := func(field string, set func(e *audittrailv1.Event)) limit {
		return limit{field: field, set: func(e *audittrailv1.Event, _ int) { set(e) }}
	}
	var list []limit
	for _, source := range []string{"", "/bad", "bad/", "bad//x", "bad/./x", "bad/../x", "bad/ x", "bad/é", "bad/x\x00", "bad/x\xff"} {
		list = append(list, wrong("source", func(e *audittrailv1.Event) { e.Source = source }))
	}
	for _, action := range []string{"", ".a", "a.", "a..b", "user login", "a\x00b", "a.b\xff"} {
		list = append(list, wrong("action", func(e *audittrailv1.Event) { e.Action = action }))
	}
	for _, ip := range []string{"AWS Internal", "1.2.3", "1.2.3.256", "fe80::1%eth0", "10.0.0.0/8", "\xff"} {
		list = append(list, wrong("context.ip", func(e *audittrailv1.Event) { origin(e).Ip = ip }))
	}
	for _, details := range []string{"[]", "{", "null", `"x"`, "{}{}", "{\"a\":\x00}", "{\"a\":\"\xff\"}"} {
		list = append(list, wrong("details", func(e *audittrailv1.Event) { e.Details = details }))
	}
	for _, t := range []*timestamppb.Timestamp{
		{Seconds: 9_403_766_323_200},              // the year 300000: no year of protobuf's, and none of PostgreSQL's
		{Seconds: 1 << 62}, {Seconds: -(1 << 62)}, // beyond what time arithmetic holds
		{Seconds: 1_700_000_000, Nanos: 1_000_000_000},
		{Seconds: 1_700_000_000, Nanos: -1},
	} {
		list = append(list, wrong("occurred_at", func(e *audittrailv1.Event) { e.OccurredAt = t }))
	}
	return append(list,
		wrong("occurred_at", func(e *audittrailv1.Event) { e.OccurredAt = nil }), // with a key (R20)
		wrong("kind", func(e *audittrailv1.Event) { e.Kind = -1 }),
		wrong("outcome", func(e *audittrailv1.Event) { e.Outcome = -1 }),
		wrong("attributes", func(e *audittrailv1.Event) { e.Attributes = map[string]string{"": "v"} }),
		wrong(`attributes["�"] key`, func(e *audittrailv1.Event) { e.Attributes = map[string]string{"\xff": "v"} }),
		wrong(`attributes["k"]`, func(e *audittrailv1.Event) { e.Attributes = map[string]string{"k": "\xff"} }),
		wrong("changes[0].path", func(e *audittrailv1.Event) { e.Changes = []*audittrailv1.Change{{}} }),
	)
}

// notUTF8 makes a case of every other text of an event, found by the descriptor: a field that is added is tested.
func notUTF8() []limit {
	var list []limit
	var walk func(md protoreflect.MessageDescriptor, path string, reach func(protoreflect.Message) protoreflect.Message)
	walk = func(md protoreflect.MessageDescriptor, path string, reach func(protoreflect.Message) protoreflect.Message) {
		for i := range md.Fields().Len() {
			fd := md.Fields().Get(i)
			field := path + string(fd.Name())
			switch {
			case path == "" && (fd.Number() == 1 || fd.Number() >= 20): // output only
			case fd.IsMap() || field == "source" || field == "action" || field == "details" || field == "context.ip":
				// These have cases of their own above.
			case fd.Kind() == protoreflect.StringKind:
				list = append(list, limit{field: field, set: func(e *audittrailv1.Event, _ int) {
					reach(e.ProtoReflect()).Set(fd, protoreflect.ValueOfString("a\xffb"))
				}})
			case fd.Kind() == protoreflect.MessageKind && fd.IsList():
				walk(fd.Message(), field+"[0].", func(m protoreflect.Message) protoreflect.Message {
					l := reach(m).Mutable(fd).List()
					if l.Len() == 0 {
						l.Append(l.NewElement())
					}
					return l.Get(0).Message()
				})
			case fd.Kind() == protoreflect.MessageKind && fd.Message().FullName() != "google.protobuf.Timestamp":
				walk(fd.Message(), field+".", func(m protoreflect.Message) protoreflect.Message { return reach(m).Mutable(fd).Message() })
			}
		}
	}
	walk((&audittrailv1.Event{}).ProtoReflect().Descriptor(), "", func(m protoreflect.Message) protoreflect.Message { return m })
	return list
}
