package event_test

import (
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
)

// update writes the golden files again. They are a contract with clients in other languages: a change
// of an existing line is a breaking change.
var update = flag.Bool("update", false, "write the golden files of proto/testdata again")

type goldenID struct {
	Source     string `json:"source"`
	Key        string `json:"idempotency_key"`
	OccurredAt string `json:"occurred_at"`
	ID         string `json:"id"`
}

func TestGoldenIDs(t *testing.T) {
	inputs := []goldenID{
		{Source: "acme/payments/api", Key: "order-4711", OccurredAt: "2026-03-01T12:00:00Z"},
		{Source: "acme/payments/api", Key: "order-4711", OccurredAt: "2026-03-01T12:00:00.000999999Z"},
		{Source: "acme/payments/api", Key: "order-4711", OccurredAt: "2026-03-01T12:00:00.001Z"},
		{Source: "acme/payments/ap", Key: "iorder-4711", OccurredAt: "2026-03-01T12:00:00Z"},
		{Source: "a", Key: "k", OccurredAt: "2000-01-01T00:00:00Z"},
		{Source: "acme/hr", Key: "Schlüssel-7", OccurredAt: "2038-01-19T03:14:08.5Z"},
		{Source: "A-Z.a_z/0-9", Key: string(make([]byte, event.MaxIdempotencyKey)), OccurredAt: "2106-02-07T06:28:16Z"},
	}
	path := filepath.Join("..", "testdata", "ids.json")
	for i := range inputs {
		at, err := time.Parse(time.RFC3339Nano, inputs[i].OccurredAt)
		if err != nil {
			t.Fatal(err)
		}
		inputs[i].ID = event.NewID(inputs[i].Source, inputs[i].Key, at).String()
	}
	var want []goldenID
	compareGolden(t, path, inputs, &want)
	for i := range want {
		if inputs[i] != want[i] {
			t.Errorf("id %d: got %+v, want %+v", i, inputs[i], want[i])
		}
	}
}

type goldenFingerprint struct {
	Event       json.RawMessage `json:"event"`
	Canonical   string          `json:"canonical_hex"`
	Fingerprint string          `json:"fingerprint"`
	ID          string          `json:"id"`
}

func TestGoldenFingerprints(t *testing.T) {
	events := []string{
		`{"source":"acme/payments/api","idempotencyKey":"order-4711","occurredAt":"2026-03-01T12:00:00.250Z","action":"order.create"}`,
		`{"source":"acme/payments/api","idempotencyKey":"order-4712","occurredAt":"2026-03-01T12:00:01Z","action":"order.refund","kind":"ACTION_KIND_UPDATE","outcome":"OUTCOME_DENIED",
		  "reasonCode":"LIMIT","reason":"über dem Limit","actor":{"type":"user","id":"u-1","name":"Ann","session":"s","authMethod":"password+totp","onBehalfOf":[{"type":"user","id":"u-2","name":"Bob"}]},
		  "resources":[{"type":"order","id":"4712","name":"Order 4712"},{"type":"customer","id":"c-9"}],
		  "changes":[{"path":"status","old":"paid","new":"refunded"},{"path":"note","new":""},{"path":"gone","old":"x"}],
		  "context":{"ip":"2001:db8::1","userAgent":"curl/8","requestId":"r-1","traceId":"4bf92f3577b34da6a3ce929d0e0e4736","spanId":"00f067aa0ba902b7","host":"h1","region":"eu-west-1","serviceVersion":"1.2.3"},
		  "attributes":{"zeta":"1","alpha":"2","":""},"details":"{\"a\": 1}"}`,
		`{"source":"acme/hr","idempotencyKey":"k","occurredAt":"2000-01-01T00:00:00Z","action":"a","actor":{},"context":{},"resources":[{}]}`,
	}
	got := make([]goldenFingerprint, len(events))
	for i, text := range events {
		e := &audittrailv1.Event{}
		if err := protojson.Unmarshal([]byte(text), e); err != nil {
			t.Fatal(err)
		}
		short, _ := event.Fingerprint(e)
		compact, err := compactJSON(text)
		if err != nil {
			t.Fatal(err)
		}
		got[i] = goldenFingerprint{Event: compact, Canonical: hex.EncodeToString(event.Canonical(nil, e)),
			Fingerprint: fmt.Sprintf("%016x", short), ID: event.IDOf(e).String()}
	}
	var want []goldenFingerprint
	compareGolden(t, filepath.Join("..", "testdata", "fingerprints.json"), got, &want)
	for i := range want {
		if got[i].Canonical != want[i].Canonical || got[i].Fingerprint != want[i].Fingerprint || got[i].ID != want[i].ID {
			t.Errorf("event %d:\n got %+v\nwant %+v", i, got[i], want[i])
		}
	}
}

func compactJSON(s string) (json.RawMessage, error) {
	var v any
	if err := json.Unmarshal([]byte(s), &v); err != nil {
		return nil, err
	}
	return json.Marshal(v)
}

func compareGolden[T any](t *testing.T, path string, got []T, want *[]T) {
	t.Helper()
	if *update {
		b, err := json.MarshalIndent(got, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, want); err != nil {
		t.Fatal(err)
	}
	if len(*want) != len(got) {
		t.Fatalf("%s has %d entries, want %d: run go test ./proto/event -update and read the difference", path, len(*want), len(got))
	}
}
