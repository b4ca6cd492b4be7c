package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/google/uuid"

	"github.com/maxviazov/audittrail/bench/load"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

var poisonScenarios = []Scenario{
	{ID: "F18-19-bad-input", Title: "every limit at it and beyond it, bytes at random, wrong keys, oversize, conflicts, transactions: refused or a dead letter, each accounted for",
		Quick: true, Run: badInputs},
}

// badInputs holds clauses 2 and 3 of the contract (rejected means nothing happened, and the reply names the field; nothing is
// dropped silently) and R1, R4, R5, R8, R9, R16: whatever is sent to the front door or written straight into audit-events, the
// answer is clear, what cannot be processed is a dead letter with its reason, and everything around it is stored. Each part
// sends; then everything is accounted for, one by one, and judged.
func badInputs(t *T) {
	s := startSystem(t, systemConfig{cluster: t.kafka(), partitions: badPartitions, emitters: 1, enrichers: 1, sinks: 1, gateways: 1})
	s.allReady(30 * time.Second)
	b := newBadInput(t, s)
	for _, part := range []struct {
		name string
		send func(*T)
	}{
		{"limits, one event a call", b.limitsSingly},
		{"limits, in a batch", b.limitsInBatch},
		{"limits, in a stream", b.limitsInStream},
		{"requests", b.requests},
		{"http", b.http},
		{"limits, raw", b.limitsRaw},
		{"stamps", b.stamps},
		{"bytes", b.bytes},
		{"keys", b.keys},
		{"oversize", b.oversize},
		{"same key, other content", b.conflicts},
		{"transactions", b.transactions},
	} {
		t.part(part.name, part.send)
	}
	if t.Failed() {
		t.FailNow()
	}
	b.settled(t)
	rows := b.account(t)
	b.accountTopic(t, rows)
	b.accountCLI(t, rows)
	t.Logf("%d good events, %d dead letters", b.good, len(rows))
	t.part("redrive", b.redrive)

	v := s.judge()
	t.Logf("verdict: %s", v)
	if !v.OK() || v.Acked != b.good || v.Stored != b.good || v.DeadLetters != len(b.storedLetters(t)) {
		t.Errorf("the contract is broken: %d good events: %s", b.good, v)
	}
}

func (b *badInput) settled(t *T) {
	t.Helper()
	if err := b.settle(time.Minute); err != nil {
		t.Fatal(err)
	}
}

// refused checks that a status refuses for good and names the field.
func refused(t *T, st *status.Status, field string) {
	t.Helper()
	if st.Code() != codes.InvalidArgument {
		t.Errorf("%s: answered %s %q, want INVALID_ARGUMENT", field, st.Code(), st.Message())
		return
	}
	var named []string
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.BadRequest:
			for _, v := range d.FieldViolations {
				named = append(named, v.Field)
				if v.Description == "" {
					t.Errorf("%s: violation without a description", field)
				}
			}
		case *errdetails.RetryInfo:
			t.Errorf("%s: a refusal for good has RetryInfo", field)
		}
	}
	if !slices.Contains(named, field) {
		t.Errorf("%s is not named; %q are", field, named)
	}
}

func path(event string, l limit) string {
	if l.field == "" {
		return event
	}
	return event + "." + l.field
}

// bad lists all that is wrong with a single event.
func bad() []limit { return append(append(limits(), wrongs()...), notUTF8()...) }

func (b *badInput) limitsSingly(t *T) {
	for _, l := range limits() {
		e := b.broken("bad/single/prod", l, 0)
		response, err := b.emitter.EmitEvent(t.Context(), &audittrailv1.EmitEventRequest{Event: e})
		if err != nil {
			t.Errorf("%s at its limit: %v", l.field, err)
			continue
		}
		b.acked(t, e, response.GetId())
	}
	for _, l := range bad() {
		_, err := b.emitter.EmitEvent(t.Context(), &audittrailv1.EmitEventRequest{Event: b.broken("bad/single/prod", l, 1)})
		refused(t, status.Convert(err), path("event", l))
	}
}

// acked enters an acknowledged event; the id is derived from what was sent.
func (b *badInput) acked(t *T, e *audittrailv1.Event, id string) {
	t.Helper()
	if want := uuid.UUID(load.ID(e)).String(); id != want {
		t.Errorf("acknowledged as %q, want %s", id, want)
	}
	b.store(t, e)
}

// A call with good and bad events answers OK, each event for itself; one with bad events only is refused as a whole.
func (b *badInput) limitsInBatch(t *T) {
	all := bad()
	req := &audittrailv1.BatchEmitEventsRequest{}
	for _, l := range all {
		req.Events = append(req.Events, b.event("bad/batch/prod"), b.broken("bad/batch/prod", l, 1))
	}
	req.Events = append(req.Events, b.event("bad/batch/prod"))
	response, err := b.emitter.BatchEmitEvents(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if len(response.Results) != len(req.Events) {
		t.Fatalf("%d results for %d events", len(response.Results), len(req.Events))
	}
	for i, r := range response.Results {
		if i%2 == 0 {
			b.acked(t, req.Events[i], r.GetId())
			continue
		}
		refused(t, status.FromProto(r.GetStatus()), path(fmt.Sprintf("events[%d]", i), all[i/2]))
	}

	onlyBad := &audittrailv1.BatchEmitEventsRequest{}
	for _, l := range all[:10] {
		onlyBad.Events = append(onlyBad.Events, b.broken("bad/batch/prod", l, 1))
	}
	_, err = b.emitter.BatchEmitEvents(t.Context(), onlyBad)
	for i, l := range all[:10] {
		refused(t, status.Convert(err), path(fmt.Sprintf("events[%d]", i), l))
	}
}

func (b *badInput) limitsInStream(t *T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	stream, err := b.emitter.StreamEvents(ctx)
	if err != nil {
		t.Fatal(err)
	}
	all := bad()
	var sent []*audittrailv1.Event
	for _, l := range all {
		sent = append(sent, b.event("bad/stream/prod"), b.broken("bad/stream/prod", l, 1))
	}
	sent = append(sent, b.event("bad/stream/prod"))
	for i, e := range sent {
		if err := stream.Send(&audittrailv1.StreamEventsRequest{Sequence: int64(1000 + i), Event: e}); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	answered := map[int64]bool{}
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range response.GetAcks() {
			i := int(a.GetSequence() - 1000)
			if answered[a.GetSequence()] || i < 0 || i >= len(sent) {
				t.Fatalf("acknowledgement of %d, which was not sent or answered before", a.GetSequence())
			}
			answered[a.GetSequence()] = true
			if i%2 == 0 {
				b.acked(t, sent[i], a.GetResult().GetId())
				continue
			}
			refused(t, status.FromProto(a.GetResult().GetStatus()), path("event", all[i/2]))
		}
	}
	if len(answered) != len(sent) {
		t.Errorf("%d of %d events of the stream were answered", len(answered), len(sent))
	}
}

// What is wrong with a request as a whole.
func (b *badInput) requests(t *T) {
	many := func(n int) (events []*audittrailv1.Event) {
		for range n {
			events = append(events, b.event("bad/request/prod"))
		}
		return events
	}
	for _, c := range []struct {
		field string
		req   *audittrailv1.BatchEmitEventsRequest
	}{
		{"events", &audittrailv1.BatchEmitEventsRequest{}},
		{"events", &audittrailv1.BatchEmitEventsRequest{Events: many(1001)}},
		{"request_id", &audittrailv1.BatchEmitEventsRequest{Events: many(1), RequestId: chars(129)}},
		{"request_id", &audittrailv1.BatchEmitEventsRequest{Events: many(1), RequestId: "\xff"}},
		{"events[0].idempotency_key", &audittrailv1.BatchEmitEventsRequest{RequestId: "r", Events: []*audittrailv1.Event{{Source: "bad/request/prod", Action: "a.b"}}}},
	} {
		_, err := b.emitter.BatchEmitEvents(t.Context(), c.req)
		refused(t, status.Convert(err), c.field)
	}
	_, err := b.emitter.EmitEvent(t.Context(), &audittrailv1.EmitEventRequest{})
	refused(t, status.Convert(err), "event")

	// Over 4 MiB gRPC itself refuses: clients see that a retry is of no use by the missing RetryInfo.
	large := many(100)
	for _, e := range large {
		e.Details, e.Reason = jsonOf(32<<10), chars(1<<10)
		changes(e, 3).New = proto.String(chars(4 << 10))
		e.Changes[0].New, e.Changes[1].New = e.Changes[2].New, e.Changes[2].New
	}
	_, err = b.emitter.BatchEmitEvents(t.Context(), &audittrailv1.BatchEmitEventsRequest{Events: large})
	st := status.Convert(err)
	if st.Code() != codes.ResourceExhausted || retryDelay(st.Proto()) != 0 {
		t.Errorf("a request over 4 MiB is answered with %v", st)
	}
	// What a request may be at most goes through.
	most := many(1000)
	response, err := b.emitter.BatchEmitEvents(t.Context(), &audittrailv1.BatchEmitEventsRequest{Events: most, RequestId: chars(128)})
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range response.GetResults() {
		b.acked(t, most[i], r.GetId())
	}
}

// retryDelay is the delay of RetryInfo; 0: there is none.
func retryDelay(st *spb.Status) time.Duration {
	for _, d := range status.FromProto(st).Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok {
			return info.GetRetryDelay().AsDuration()
		}
	}
	return 0
}

func (b *badInput) http(t *T) {
	event := func() []byte {
		body, err := protojson.Marshal(b.event("bad/http/prod"))
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	wrong := b.event("bad/http/prod")
	wrong.Actor.Id = chars(129)
	wrongBody, err := protojson.Marshal(wrong)
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + b.emitterHTTP[0] + "/v1/events"
	post := func(url string, header http.Header, body []byte) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		for k, v := range header {
			req.Header[k] = v
			if k == "Host" {
				req.Host = v[0]
			}
		}
		response, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(text)
	}
	for _, c := range []struct {
		name   string
		header http.Header
		body   []byte
		status int
		says   string
	}{
		{"malformed JSON", nil, []byte(`{"source":"bad/http/prod",`), 400, ""},
		{"no JSON", nil, []byte("source=bad"), 400, ""},
		{"empty body", nil, nil, 400, ""},
		{"a misspelt field", nil, []byte(`{"source":"bad/http/prod","action":"a.b","actr":{"id":"x"}}`), 400, "actr"},
		{"a value of the wrong type", nil, []byte(`{"source":"bad/http/prod","action":7}`), 400, ""},
		{"text that is not UTF-8", nil, []byte("{\"source\":\"bad/http/prod\",\"action\":\"a.b\",\"reason\":\"\xff\"}"), 400, ""},
		{"an event over a limit", nil, wrongBody, 400, "event.actor.id"},
		{"wrong Content-Type", http.Header{"Content-Type": {"text/plain"}}, event(), 415, "application/json"},
		{"a form", http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, event(), 415, "application/json"},
		{"no Content-Type", http.Header{"Content-Type": nil}, event(), 415, "application/json"},
		{"compressed body", http.Header{"Content-Encoding": {"gzip"}}, event(), 415, ""},
		{"foreign Origin", http.Header{"Origin": {"https://evil.example"}}, event(), 403, "origin"},
		{"no real Origin", http.Header{"Origin": {"null"}}, event(), 403, "origin"},
		{"cross-site fetch", http.Header{"Sec-Fetch-Site": {"cross-site"}}, event(), 403, "origin"},
		{"foreign Host", http.Header{"Host": {"evil.example"}}, event(), 403, "Host"},
		{"body over 4 MiB", nil, []byte(`{"source":"bad/http/prod","action":"a.b","details":"` + chars(4<<20) + `"}`), 413, "4 MiB"},
	} {
		code, text := post(url, c.header, c.body)
		if code != c.status || !strings.Contains(text, c.says) {
			t.Errorf("%s: answered %d %.200s; want %d with %q", c.name, code, text, c.status, c.says)
		}
		var body struct {
			Code    int
			Message string
		}
		if err := json.Unmarshal([]byte(text), &body); err != nil || body.Message == "" || body.Code == 0 {
			t.Errorf("%s: the answer is no error in JSON: %.200q", c.name, text)
		}
	}
	// And what is right goes through the same door, also from a page of its own.
	for _, header := range []http.Header{nil, {"Origin": {"http://" + b.emitterHTTP[0]}}} {
		e := b.event("bad/http/prod")
		body, err := protojson.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		code, text := post(url, header, body)
		var answer struct{ ID string }
		if err := json.Unmarshal([]byte(text), &answer); code != 200 || err != nil {
			t.Fatalf("a good event is answered with %d %s", code, text)
		}
		b.acked(t, e, answer.ID)
	}
}

// Producers that write straight into the topic, single events and batches: the enricher checks every limit again (R9).
func (b *badInput) limitsRaw(t *T) {
	source := "bad/raw/prod"
	for _, l := range limits() {
		at := b.broken(source, l, 0)
		b.store(t, at)
		b.raw(t, []byte(at.Source), encode(t, at))
	}
	missing := limit{field: "idempotency_key", set: func(e *audittrailv1.Event, _ int) { e.IdempotencyKey = "" }}
	for _, l := range append(bad(), missing) { // without the emitter nobody makes a key
		e := b.broken(source, l, 1)
		want := letter{reason: "INVALID_EVENT", says: l.field}
		if l.says != "" {
			want.says = l.says
		}
		alone := want
		if l.reason != "" {
			alone.reason, alone.whole = l.reason, l.whole
			// An output's key takes at most what a source may.
			alone.key = []byte(e.Source[:256])
		}
		b.rawBad(t, []byte(e.Source), encode(t, e), alone)

		before, behind := b.event(source), b.event(source)
		b.store(t, before, behind)
		if e.Source != source {
			want = letter{reason: "WRONG_SOURCE"}
		}
		want.index, want.original = 1, encode(t, e)
		b.expect(b.raw(t, []byte(source), envelope(t, encode(t, before), want.original, encode(t, behind))), want)
	}
}

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

// bytes that are no event at all.
func (b *badInput) bytes(t *T) {
	source := []byte("bad/bytes/prod")
	b.rawBad(t, source, nil, letter{reason: "EMPTY", whole: true})
	b.rawBad(t, source, []byte{}, letter{reason: "EMPTY", whole: true})
	b.rawBad(t, source, envelope(t), letter{reason: "EMPTY", whole: true})
	b.rawBad(t, source, []byte{0}, letter{reason: "UNDECODABLE", whole: true})
	b.rawBad(t, source, []byte("\x00ATE"), letter{reason: "UNDECODABLE", whole: true})
	b.rawBad(t, source, []byte("\x00ATR\x01"), letter{reason: "UNDECODABLE", whole: true}) // of another topic
	b.rawBad(t, source, []byte("\x00ATE\x01\xff\xff"), letter{reason: "UNDECODABLE", whole: true})
	b.rawBad(t, source, []byte(`{"source":"bad/bytes/prod","action":"a.b"}`), letter{reason: "UNDECODABLE"})

	whole := encode(t, b.event(string(source)))
	for cut := 1; cut < len(whole); cut += 7 {
		// A cut between two fields leaves a shorter event, which lacks something or says nothing wrong.
		if proto.Unmarshal(whole[:cut], &audittrailv1.Event{}) == nil {
			continue
		}
		b.rawBad(t, source, whole[:cut], letter{reason: "UNDECODABLE"})
		before, behind := b.event(string(source)), b.event(string(source))
		b.store(t, before, behind)
		b.expect(b.raw(t, source, envelope(t, encode(t, before), whole[:cut], encode(t, behind))), letter{reason: "UNDECODABLE", index: 1, original: whole[:cut]})
	}
	// A batch that is cut: nobody can say where an event begins.
	message := envelope(t, whole, whole)
	b.rawBad(t, source, message[:len(message)-9], letter{reason: "UNDECODABLE", whole: true})

	r := rand.New(rand.NewPCG(7, 7))
	for range 60 {
		value := make([]byte, 1+r.IntN(3000))
		for i := range value {
			value[i] = byte(r.Uint32())
		}
		key := make([]byte, 1+r.IntN(40))
		for i := range key {
			key[i] = byte(r.Uint32())
		}
		b.rawBad(t, key, value, letter{whole: value[0] == 0})
	}
	// An event in an event of another type: a field that protobuf knows, with another wire type.
	b.rawBad(t, source, []byte{0x10, 0x01}, letter{reason: "UNDECODABLE"})
}

// keys that are not the source, and partitions that are not the key's (R8).
func (b *badInput) keys(t *T) {
	source := []byte("bad/keys/prod")
	right := partitionOf(source)
	for p := range int32(badPartitions) {
		if p == right {
			continue
		}
		e := b.event(string(source))
		r := produce(t, b.placed, &kgo.Record{Key: source, Value: encode(t, e), Partition: p})
		b.expect(r, letter{reason: "WRONG_PARTITION", whole: true, event: e, original: r.Value})
	}
	// A key is missing.
	for p := range int32(badPartitions) {
		want := letter{reason: "WRONG_PARTITION", whole: true, key: []byte{}}
		if p == partitionOf([]byte{}) {
			want = letter{reason: "WRONG_SOURCE", key: []byte{}}
		}
		r := produce(t, b.placed, &kgo.Record{Value: encode(t, b.event(string(source))), Partition: p})
		b.expect(r, want)
	}
	other := b.event("bad/keys/other")
	b.rawBad(t, source, encode(t, other), letter{reason: "WRONG_SOURCE"})
	before, behind := b.event(string(source)), b.event(string(source))
	b.store(t, before, behind)
	wrong := encode(t, other) // once: protobuf encodes a map in another order each time
	b.expect(b.raw(t, source, envelope(t, encode(t, before), wrong, encode(t, behind))), letter{reason: "WRONG_SOURCE", index: 1, original: wrong})
	b.rawBad(t, []byte("bad/keys/PROD"), encode(t, b.event(string(source))), letter{reason: "WRONG_SOURCE"}) // case counts
	long := []byte("bad/" + chars(5000))
	b.rawBad(t, long, encode(t, b.event(string(source))), letter{reason: "WRONG_SOURCE", whole: true, key: long[:256]})
}

// oversize: a message over 500 events or 256 KiB is one dead letter as a whole (R5), however small it is on the wire.
func (b *badInput) oversize(t *T) {
	source := "bad/oversize/prod"
	key := []byte(source)
	tiny := make([][]byte, 50_000)
	b.rawBad(t, key, envelope(t, tiny...), letter{reason: "OVERSIZE", says: "50000 events", whole: true})
	b.rawBad(t, key, envelope(t, tiny[:501]...), letter{reason: "OVERSIZE", says: "501 events", whole: true})

	// As much as there may be: 500 events, and 256 KiB.
	var most [][]byte
	for range 500 {
		e := b.event(source)
		b.store(t, e)
		most = append(most, encode(t, e))
	}
	b.raw(t, key, envelope(t, most...))
	sized := func(sizes ...int) (events []*audittrailv1.Event, raw [][]byte) {
		for _, size := range sizes {
			e := b.event(source)
			e.Details = jsonOf(20_000)
			e.Details = jsonOf(20_000 + size - proto.Size(e))
			events, raw = append(events, e), append(raw, encode(t, e))
		}
		return events, raw
	}
	sizes := slices.Repeat([]int{32 << 10}, 8)
	events, raw := sized(sizes...)
	b.store(t, events...)
	b.raw(t, key, envelope(t, raw...))
	sizes[7]++
	_, raw = sized(sizes...)
	// Compressible, so that it is small on the wire: what counts is the length after decompression.
	squeezed := b.client(t, kgo.ProducerBatchCompression(kgo.GzipCompression()), kgo.ProducerBatchMaxBytes(64<<20))
	for _, c := range []struct {
		value []byte
		says  string
	}{
		{envelope(t, raw...), "bytes"},
		{make([]byte, 20<<20), "20971520 bytes"}, // a bomb: 20 KiB on the wire
		{bytes.Repeat(encode(t, b.event(source)), 2000), "bytes"},
	} {
		b.rawGood(t, source)
		b.expect(produce(t, squeezed, &kgo.Record{Key: key, Value: c.value}), letter{reason: "OVERSIZE", says: c.says, whole: true})
		b.rawGood(t, source)
	}
}

// conflicts: the same source, key and time with other content is a dead letter at its own place; the first content stays (R16).
// The same content again is a retry and is dropped.
func (b *badInput) conflicts(t *T) {
	source := "bad/conflict/prod"
	key := []byte(source)
	other := func(e *audittrailv1.Event) *audittrailv1.Event {
		o := proto.CloneOf(e)
		o.Reason = "something else"
		return o
	}
	// Within one message: first, the same again, another, and that other once more.
	first := b.event(source)
	b.store(t, first)
	raw, rawOther := encode(t, first), encode(t, other(first))
	r := b.raw(t, key, envelope(t, raw, raw, rawOther, rawOther))
	b.expect(r, letter{reason: "CONFLICT", index: 2, original: rawOther})
	b.expect(r, letter{reason: "CONFLICT", index: 3, original: rawOther})
	// Beyond one message, at once and after it was stored.
	b.expect(b.raw(t, key, rawOther), letter{reason: "CONFLICT", original: rawOther})
	b.settled(t)
	b.raw(t, key, raw)
	b.expect(b.raw(t, key, rawOther), letter{reason: "CONFLICT", original: rawOther})
	// Through the front door both are acknowledged: the second one is accounted for as a dead letter.
	front := b.event(source)
	for i, e := range []*audittrailv1.Event{front, front, other(front)} {
		response, err := b.emitter.EmitEvent(t.Context(), &audittrailv1.EmitEventRequest{Event: e})
		if err != nil {
			t.Fatal(err)
		}
		switch i {
		case 0:
			b.acked(t, e, response.GetId())
		case 2:
			b.expected = append(b.expected, letter{partition: -1, reason: "CONFLICT", key: key, event: e})
		}
	}
}

// transactions of raw producers: committed events are stored, aborted ones are nowhere, and neither stops what is around them
// (R1: read-committed; R4: a hole is covered by the output behind it).
func (b *badInput) transactions(t *T) {
	source := "bad/transaction/prod"
	key := []byte(source)
	txn := b.client(t, kgo.TransactionalID("bad-input"))
	begin := func() {
		t.Helper()
		if err := txn.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
	}
	end := func(how kgo.TransactionEndTry) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := txn.EndTransaction(ctx, how); err != nil {
			t.Fatal(err)
		}
	}
	within := func(stored bool) {
		t.Helper()
		for range 3 {
			e := b.event(source)
			if stored {
				b.store(t, e)
			}
			produce(t, txn, &kgo.Record{Key: key, Value: encode(t, e)})
		}
		message := b.event(source)
		if stored {
			b.store(t, message)
		}
		produce(t, txn, &kgo.Record{Key: key, Value: envelope(t, encode(t, message))})
	}
	b.rawGood(t, source)
	begin()
	within(false)
	end(kgo.TryAbort)
	b.rawGood(t, source)
	begin()
	within(true)
	end(kgo.TryCommit)
	begin()
	within(false)
	b.rawGood(t, source) // between the events of an aborted transaction
	within(false)
	end(kgo.TryAbort)
	b.settled(t) // a marker is the last thing in the log

	// While a transaction is open, what is behind it waits; other partitions do not. After the abort it is stored.
	begin()
	within(false)
	behind := b.event(source)
	b.store(t, behind)
	b.raw(t, key, encode(t, behind))
	elsewhere := b.event("bad/elsewhere/prod")
	for n := 0; partitionOf([]byte(elsewhere.Source)) == partitionOf(key); n++ {
		elsewhere.Source = fmt.Sprintf("bad/elsewhere%d/prod", n)
	}
	response, err := b.emitter.EmitEvent(t.Context(), &audittrailv1.EmitEventRequest{Event: elsewhere})
	if err != nil {
		t.Fatal(err)
	}
	b.acked(t, elsewhere, response.GetId())
	get := func(e *audittrailv1.Event) codes.Code {
		_, err := b.query.GetEvent(t.Context(), &audittrailv1.GetEventRequest{Id: uuid.UUID(load.ID(e)).String()})
		return status.Code(err)
	}
	waitFor(t, "the event of another partition is stored", 20*time.Second, func() bool { return get(elsewhere) == codes.OK })
	if code := get(behind); code != codes.NotFound {
		t.Errorf("an event behind an open transaction: %s", code)
	}
	end(kgo.TryAbort)
	b.settled(t)
	if code := get(behind); code != codes.OK {
		t.Errorf("an event behind an aborted transaction: %s", code)
	}
}

// waitFor waits for a condition.
func waitFor(t *T, what string, within time.Duration, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !done(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", within, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// redrive sends every dead letter once more through the front door: what was mended is stored, what cannot be sent is named with
// its reason, and all else comes back as a new dead letter.
func (b *badInput) redrive(t *T) {
	// One that time mends: it was too far in the future when it came.
	early := b.event("bad/early/prod")
	due := time.Now().Add(6*time.Minute + 3*time.Second)
	early.OccurredAt = timestamppb.New(due)
	b.expect(b.raw(t, []byte(early.Source), encode(t, early)), letter{reason: "INVALID_EVENT", says: "occurred_at"})
	b.settled(t)
	rows := b.account(t)
	waitFor(t, "the event's time is near enough", 10*time.Second, func() bool { return time.Now().Add(6 * time.Minute).After(due) })

	mended, back, cannot := 0, 0, 0
	again := map[string]int{} // SHA-256 of originals that must come back → how often
	for _, row := range rows {
		switch {
		case row.Size == 0 || row.Size > int64(len(row.Original)):
			cannot++
		case row.Reason == "WRONG_PARTITION" && len(row.Key) > 0, row.Source == early.Source:
			mended++
		default:
			back++
			again[string(row.SHA256)]++
		}
	}
	for _, l := range b.expected {
		if l.reason == "WRONG_PARTITION" && l.event != nil {
			b.store(t, l.event) // sent by its key it finds its partition
		}
	}
	b.store(t, early)

	out, err := b.Run(t.Context(), "deadletters", "redrive", "--pending", "--addr", b.gatewayAddrs[0])
	if want := fmt.Sprintf("sent again %d, failed %d", mended+back, cannot); !strings.Contains(out, want) {
		t.Fatalf("redrive: %v, %s; want %q", err, out, want)
	}
	for _, row := range rows {
		line := fmt.Sprintf("dead letter %d: ", row.ID)
		switch {
		case row.Size == 0 && !strings.Contains(out, line+"it has no content"),
			row.Size > int64(len(row.Original)) && !strings.Contains(out, line+fmt.Sprintf("only the first 65536 of %d bytes were kept", row.Size)):
			t.Errorf("redrive does not say why it cannot send %d", row.ID)
		}
	}
	b.settled(t)
	after := b.storedLetters(t)
	if len(after) != len(rows)+back {
		t.Errorf("%d dead letters came back, want %d (%d were mended)", len(after)-len(rows), back, mended)
	}
	for _, row := range after[:len(rows)] {
		if sendable := row.Size > 0 && row.Size == int64(len(row.Original)); row.WasRedriven != sendable {
			t.Errorf("dead letter %d (%s, %d bytes) is marked as re-driven: %v", row.ID, row.Reason, row.Size, row.WasRedriven)
		}
	}
	for _, row := range after[len(rows):] {
		if again[string(row.SHA256)]--; again[string(row.SHA256)] < 0 {
			t.Errorf("dead letter %d came back more often than it was sent: %s: %s", row.ID, row.Reason, row.Detail)
		}
		if row.WasRedriven {
			t.Errorf("dead letter %d is marked as re-driven, and is new", row.ID)
		}
	}
}
