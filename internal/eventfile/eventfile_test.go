package eventfile

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"io"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// full is an event with every field set.
func full(n int) *audittrailv1.Event {
	at := time.Date(2026, 11, 24, 12, 0, 0, 123456789, time.UTC).Add(time.Duration(n) * time.Second)
	old := "1"
	empty := ""
	return &audittrailv1.Event{
		Id: fmt.Sprintf("019312d0-0000-7000-8000-%012d", n), Source: "acme/payments/api", IdempotencyKey: fmt.Sprintf("key-%d", n), OccurredAt: timestamppb.New(at),
		Actor: &audittrailv1.Actor{Type: "user", Id: "alice", Name: `=HYPERLINK("http://evil.example")`, Session: "s1", AuthMethod: "password",
			OnBehalfOf: []*audittrailv1.ActorReference{{Type: "user", Id: "bob"}}},
		Action: "invoice.pay", Kind: audittrailv1.ActionKind_ACTION_KIND_UPDATE, Outcome: audittrailv1.Outcome_OUTCOME_DENIED,
		ReasonCode: "AccessDenied", Reason: "-no, \"really\"\nno",
		Resources:  []*audittrailv1.Resource{{Type: "invoice", Id: "inv-1", Name: "<one>"}, {Type: "bucket", Id: "b"}},
		Changes:    []*audittrailv1.Change{{Path: "status", Old: &old}, {Path: "empty", New: &empty}},
		Context:    &audittrailv1.Context{Ip: "192.0.2.1", UserAgent: "curl/8", RequestId: "r", TraceId: "t", SpanId: "sp", Host: "h", Region: "eu", ServiceVersion: "1.2"},
		Attributes: map[string]string{"b": "2", "a": "@x"}, Details: `{"n": 1,  "spaced":true}`,
		ReceivedAt: timestamppb.New(at.Add(time.Second)), Principal: "spiffe://acme/api",
		Enrichment: &audittrailv1.Enrichment{Owner: "team", Environment: "prod", Classification: "secret", RetentionDays: 30, ActorNew: true,
			ActorFailures: 3, Lateness: durationpb.New(1500 * time.Millisecond), IngestedAt: timestamppb.New(at.Add(2 * time.Second))},
		Position: &audittrailv1.Position{Log: 3, Index: int64(n)},
	}
}

// Every field of an event reaches a column: an event with every field set leaves none empty, and the columns are one list for both formats.
func TestColumnsHoldEverything(t *testing.T) {
	e := full(1)
	for _, c := range Columns {
		if c.text(e) == "" {
			t.Errorf("%s is empty", c.Name)
		}
		if c.Doc == "" {
			t.Errorf("%s says nothing of itself", c.Name)
		}
	}
	kind := reflect.TypeFor[row]()
	if kind.NumField() != len(Columns) {
		t.Fatalf("%d columns of parquet, %d of csv", kind.NumField(), len(Columns))
	}
	value := reflect.ValueOf(rowOf(e))
	for i := range kind.NumField() {
		name, _, _ := strings.Cut(kind.Field(i).Tag.Get("parquet"), ",")
		if name != Columns[i].Name {
			t.Errorf("column %d is %s of parquet, %s of csv", i, name, Columns[i].Name)
		}
		if value.Field(i).IsZero() {
			t.Errorf("%s is empty in parquet", name)
		}
	}
	// A field that is added to the contract must come here, or be left out on purpose (since_previous says nothing that occurred_at does not).
	if n := e.ProtoReflect().Descriptor().Fields().Len() + new(audittrailv1.Actor).ProtoReflect().Descriptor().Fields().Len() +
		new(audittrailv1.Context).ProtoReflect().Descriptor().Fields().Len() + new(audittrailv1.Enrichment).ProtoReflect().Descriptor().Fields().Len() +
		new(audittrailv1.Position).ProtoReflect().Descriptor().Fields().Len(); n != 44 {
		t.Errorf("%d fields in the contract: give new ones a column, and this test the new number", n)
	}
}

func TestCSV(t *testing.T) {
	for _, raw := range []bool{false, true} {
		var out bytes.Buffer
		c := NewCSV(&out, raw)
		e := full(7)
		for _, err := range []error{c.Header(), c.Add(e), c.Flush()} {
			if err != nil {
				t.Fatal(err)
			}
		}
		rows, err := csv.NewReader(&out).ReadAll()
		if err != nil || len(rows) != 2 {
			t.Fatalf("%d rows, %v", len(rows), err)
		}
		got := make(map[string]string)
		for i, name := range rows[0] {
			got[name] = rows[1][i]
			if !raw {
				if strings.ContainsAny(got[name][:min(1, len(got[name]))], "=+-@\t\r\n") {
					t.Errorf("%s would be run: %s", name, got[name])
				}
				got[name] = strings.TrimPrefix(got[name], "'")
			}
		}
		for name, want := range map[string]string{
			"id": e.Id, "occurred_at": "2026-11-24T12:00:07.123456789Z", "actor_name": `=HYPERLINK("http://evil.example")`, "reason": "-no, \"really\"\nno",
			"kind": "update", "outcome": "denied", "resources": `[{"type":"invoice","id":"inv-1","name":"<one>"},{"type":"bucket","id":"b"}]`,
			"changes": `[{"path":"status","old":"1"},{"path":"empty","new":""}]`, "attributes": `{"a":"@x","b":"2"}`, "details": e.Details,
			"lateness_seconds": "1.5", "log": "3", "log_index": "7", "retention_days": "30", "actor_on_behalf_of": `[{"type":"user","id":"bob"}]`,
		} {
			if got[name] != want {
				t.Errorf("raw=%v: %s is %q, want %q", raw, name, got[name], want)
			}
		}
	}
}

func TestCellsAreNoFormulas(t *testing.T) {
	for value, want := range map[string]string{
		"": "", "alice": "alice", "a=1": "a=1", "=1+1": "'=1+1", "+1": "'+1", "-1": "'-1", "@SUM(A1)": "'@SUM(A1)", "\t=1": "'\t=1", "\r=1": "'\r=1", "\n=1": "'\n=1",
		"'quoted": "''quoted", "＝1": "'＝1", "2026": "2026", " =1": " =1",
	} {
		if got := Cell(value); got != want {
			t.Errorf("%q: %q, want %q", value, got, want)
		}
	}
}

func TestJSONLinesAndSpoolLoseNothing(t *testing.T) {
	var lines, spool bytes.Buffer
	j, s := NewJSONLines(&lines), NewSpool(&spool)
	var want []*audittrailv1.Event
	for i := range 20 {
		e := full(i)
		if i == 5 {
			e = &audittrailv1.Event{}
		}
		want = append(want, e)
		if err := j.Add(e); err != nil {
			t.Fatal(err)
		}
		if err := s.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	for i, line := range strings.Split(strings.TrimSuffix(lines.String(), "\n"), "\n") {
		e := new(audittrailv1.Event)
		if err := protojson.Unmarshal([]byte(line), e); err != nil || !proto.Equal(e, want[i]) {
			t.Errorf("line %d: %v %v", i, e, err)
		}
	}
	n := 0
	if err := ReadSpool(bytes.NewReader(spool.Bytes()), func(e *audittrailv1.Event) error {
		if !proto.Equal(e, want[n]) {
			t.Errorf("event %d: %v", n, e)
		}
		n++
		return nil
	}); err != nil || n != len(want) {
		t.Errorf("%d events, %v", n, err)
	}
	for cut := range 40 { // cut off anywhere it is either shorter by whole events or an error
		if err := ReadSpool(bytes.NewReader(spool.Bytes()[:spool.Len()-1-cut]), func(*audittrailv1.Event) error { return nil }); err == nil {
			t.Errorf("cut by %d: no error", cut+1)
		}
	}
	if err := ReadSpool(strings.NewReader("\xff\xff\xff\xff\x7f"), nil); err == nil {
		t.Error("a length of gigabytes is believed")
	}
}

func TestParquetReadsBack(t *testing.T) {
	var out bytes.Buffer
	p := NewParquet(&out)
	const n = 3000
	for i := range n {
		if err := p.Add(full(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	rows, err := parquet.Read[row](bytes.NewReader(out.Bytes()), int64(out.Len()))
	if err != nil || len(rows) != n {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	for i, got := range rows {
		if want := rowOf(full(i)); !reflect.DeepEqual(utc(got), want) {
			t.Fatalf("row %d: got %+v, want %+v", i, got, want)
		}
	}
}

func utc(r row) row {
	for _, at := range []**time.Time{&r.OccurredAt, &r.ReceivedAt, &r.IngestedAt} {
		if *at != nil {
			u := (*at).UTC()
			*at = &u
		}
	}
	return r
}

// What a Parquet file needs of memory is one row group, however long the file is.
func TestParquetTakesTheMemoryOfOneRowGroup(t *testing.T) {
	var out int64
	p := NewParquet(writerFunc(func(b []byte) (int, error) { out += int64(len(b)); return len(b), nil }))
	e := full(1)
	e.Details = `{"text":"` + strings.Repeat("x", 2000) + `"}`
	measure := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := measure()
	var greatest uint64
	var written int
	for i := range 100_000 {
		e.Id = fmt.Sprint(i)
		if err := p.Add(e); err != nil {
			t.Fatal(err)
		}
		if written += e.SizeVT(); i%10_000 == 9_999 {
			greatest = max(greatest, measure())
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if used := int64(greatest) - int64(before); used > 160<<20 {
		t.Errorf("%d MiB of heap for %d MiB of events", used>>20, written>>20)
	}
	if out == 0 {
		t.Error("nothing was written")
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

var _ io.Writer = writerFunc(nil)
