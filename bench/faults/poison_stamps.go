package faults

import (
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// What only AuditTrail may say: the emitter clears it, a raw event with it is a dead letter. And what PostgreSQL dislikes but
// the contract allows is stored (R16).
func (b *badInput) stamps(t *T) {
	source := "bad/stamps/prod"
	forge := map[string]func(*audittrailv1.Event){
		"enrichment": func(e *audittrailv1.Event) { e.Enrichment = &audittrailv1.Enrichment{Owner: "mallory"} },
		"id":         func(e *audittrailv1.Event) { e.Id = "01890000-0000-7000-8000-000000000000" },
		"position":   func(e *audittrailv1.Event) { e.Position = &audittrailv1.Position{Log: 1, Index: 2} },
	}
	all := b.event(source)
	for field, set := range forge {
		set(all)
		e := b.event(source)
		set(e)
		b.rawBad(t, []byte(source), encode(t, e), letter{reason: "UNEXPECTED_ENRICHMENT", says: field})
	}
	all.Principal, all.ReceivedAt = "root", timestamppb.New(time.Unix(1, 0))
	response, err := b.emitter.EmitEvent(t.Context(), &audittrailv1.EmitEventRequest{Event: all})
	if err != nil {
		t.Fatal(err)
	}
	b.acked(t, all, response.GetId())
	b.settled(t)
	got, err := b.query.GetEvent(t.Context(), &audittrailv1.GetEventRequest{Id: response.GetId()})
	if err != nil {
		t.Fatal(err)
	}
	if e := got.GetEvent(); e.GetPrincipal() != "anonymous" || time.Since(e.GetReceivedAt().AsTime()) > time.Hour || e.GetEnrichment().GetOwner() != "" || e.GetId() != response.GetId() {
		t.Errorf("what the producer forged was not cleared: %v", e)
	}

	nul := b.event(source)
	nul.Actor = &audittrailv1.Actor{Type: "user\x00", Id: "\x00", Name: "a\x00b"}
	nul.Resources = []*audittrailv1.Resource{{Type: "t\x00", Id: "\x00\x00", Name: "\x00"}}
	nul.Context, nul.Reason, nul.ReasonCode = &audittrailv1.Context{TraceId: "\x00", RequestId: "x\x00", UserAgent: "\x00"}, "why\x00", "\x00"
	nul.Attributes, nul.IdempotencyKey = map[string]string{"\x00": "\x00"}, nul.IdempotencyKey+"\x00"
	nul.Changes = []*audittrailv1.Change{{Path: "\x00", Old: proto.String("\x00"), New: proto.String("")}}
	raw := proto.CloneOf(nul)
	raw.IdempotencyKey += "raw"
	response, err = b.emitter.EmitEvent(t.Context(), &audittrailv1.EmitEventRequest{Event: nul})
	if err != nil {
		t.Fatal(err)
	}
	b.acked(t, nul, response.GetId())
	b.store(t, raw)
	b.raw(t, []byte(source), encode(t, raw))

	// The stamps of a raw producer are checked, too: they become part of the record.
	for says, set := range map[string]func(*audittrailv1.Event){
		"received_at":             func(e *audittrailv1.Event) { e.ReceivedAt = &timestamppb.Timestamp{Seconds: 9_403_766_323_200} },
		"principal takes":         func(e *audittrailv1.Event) { e.Principal = chars(1<<10 + 1) },
		"principal is not valid ": func(e *audittrailv1.Event) { e.Principal = "\xff" },
	} {
		e := b.event(source)
		set(e)
		b.rawBad(t, []byte(source), encode(t, e), letter{reason: "INVALID_EVENT", says: says})
	}
}
