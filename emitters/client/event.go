package client

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
)

// Builder builds one event. Its methods return it, to be chained. It checks nothing: Emit does.
type Builder struct{ event *audittrailv1.Event }

// NewEvent begins an event of the source, e.g. acme/payments/api, that records the action, e.g. user.login.
func NewEvent(source, action string) *Builder {
	return &Builder{&audittrailv1.Event{Source: source, Action: action}}
}

// Build returns the event. The builder must not be used any more.
func (b *Builder) Build() *audittrailv1.Event { return b.event }

// At sets when it happened. Without it, Emit takes the time of its call.
func (b *Builder) At(t time.Time) *Builder {
	b.event.OccurredAt = timestamppb.New(t)
	return b
}

// Key sets the idempotency key, for events that a program may emit twice, after a restart for example: source, key and time make the
// identity. It needs At. Without it, Emit makes a random one.
func (b *Builder) Key(key string) *Builder {
	b.event.IdempotencyKey = key
	return b
}

// Actor sets who did it.
func (b *Builder) Actor(kind, id string) *Builder {
	a := b.actor()
	a.Type, a.Id = kind, id
	return b
}

// ActorName sets the actor's name for people.
func (b *Builder) ActorName(name string) *Builder {
	b.actor().Name = name
	return b
}

// Session sets the actor's session and how it proved who it is.
func (b *Builder) Session(id, authMethod string) *Builder {
	a := b.actor()
	a.Session, a.AuthMethod = id, authMethod
	return b
}

// OnBehalfOf adds one for whom the actor acted, nearest first.
func (b *Builder) OnBehalfOf(kind, id, name string) *Builder {
	a := b.actor()
	a.OnBehalfOf = append(a.OnBehalfOf, &audittrailv1.ActorReference{Type: kind, Id: id, Name: name})
	return b
}

// Kind sets the coarse kind of the action.
func (b *Builder) Kind(kind audittrailv1.ActionKind) *Builder {
	b.event.Kind = kind
	return b
}

// Success says that it was done.
func (b *Builder) Success() *Builder {
	b.event.Outcome = audittrailv1.Outcome_OUTCOME_SUCCESS
	return b
}

// Failure says that it went wrong, with a short code and the reason for people.
func (b *Builder) Failure(code, reason string) *Builder {
	b.event.Outcome, b.event.ReasonCode, b.event.Reason = audittrailv1.Outcome_OUTCOME_FAILURE, code, reason
	return b
}

// Denied says that it was refused for want of rights, with a short code and the reason for people.
func (b *Builder) Denied(code, reason string) *Builder {
	b.event.Outcome, b.event.ReasonCode, b.event.Reason = audittrailv1.Outcome_OUTCOME_DENIED, code, reason
	return b
}

// Outcome sets how it ended.
func (b *Builder) Outcome(o audittrailv1.Outcome) *Builder {
	b.event.Outcome = o
	return b
}

// Resource adds one of the things it was done to; the first is the main one.
func (b *Builder) Resource(kind, id, name string) *Builder {
	b.event.Resources = append(b.event.Resources, &audittrailv1.Resource{Type: kind, Id: id, Name: name})
	return b
}

// Changed adds a value that was replaced by another.
func (b *Builder) Changed(path, before, after string) *Builder {
	return b.change(path, &before, &after)
}

// Added adds a value that was not there before.
func (b *Builder) Added(path, after string) *Builder { return b.change(path, nil, &after) }

// Removed adds a value that is not there any more.
func (b *Builder) Removed(path, before string) *Builder { return b.change(path, &before, nil) }

func (b *Builder) change(path string, before, after *string) *Builder {
	b.event.Changes = append(b.event.Changes, &audittrailv1.Change{Path: path, Old: before, New: after})
	return b
}

// From sets the address it came from and the user agent.
func (b *Builder) From(ip, userAgent string) *Builder {
	c := b.context()
	c.Ip, c.UserAgent = ip, userAgent
	return b
}

// Request sets the identifier of the request.
func (b *Builder) Request(id string) *Builder {
	b.context().RequestId = id
	return b
}

// Trace sets the identifiers of trace and span, e.g. of W3C Trace Context.
func (b *Builder) Trace(traceID, spanID string) *Builder {
	c := b.context()
	c.TraceId, c.SpanId = traceID, spanID
	return b
}

// Host sets host and region it happened on, and the version of the service.
func (b *Builder) Host(host, region, serviceVersion string) *Builder {
	c := b.context()
	c.Host, c.Region, c.ServiceVersion = host, region, serviceVersion
	return b
}

// Attribute sets one of the attributes.
func (b *Builder) Attribute(key, value string) *Builder {
	if b.event.Attributes == nil {
		b.event.Attributes = make(map[string]string)
	}
	b.event.Attributes[key] = value
	return b
}

// Details sets a JSON object as text, kept byte for byte.
func (b *Builder) Details(json string) *Builder {
	b.event.Details = json
	return b
}

func (b *Builder) actor() *audittrailv1.Actor {
	if b.event.Actor == nil {
		b.event.Actor = new(audittrailv1.Actor)
	}
	return b.event.Actor
}

func (b *Builder) context() *audittrailv1.Context {
	if b.event.Context == nil {
		b.event.Context = new(audittrailv1.Context)
	}
	return b.event.Context
}

// ID is the identity that the event will have, known before anything is sent. ok is false while key or time are not set.
func ID(e *audittrailv1.Event) (id event.ID, ok bool) {
	if e.GetIdempotencyKey() == "" || e.GetOccurredAt() == nil {
		return event.ID{}, false
	}
	return event.IDOf(e), true
}
