package cloudtrail_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"testing"

	"github.com/maxviazov/audittrail/emitters/cloudtrail"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
)

// TestSample maps 2,122 real records. The counts were taken from the files by other means (Python).
func TestSample(t *testing.T) {
	var records int
	var long int // messages over 512 bytes: within the limit of 1 KiB
	notes := map[cloudtrail.Note]int{}
	outcomes := map[audittrailv1.Outcome]int{}
	kinds := map[audittrailv1.ActionKind]int{}
	types := map[string]int{}
	ids := map[event.ID]bool{}
	for _, name := range sample(t) {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var file struct{ Records []json.RawMessage }
		if err := json.Unmarshal(data, &file); err != nil {
			t.Fatal(err)
		}
		got := read(t, bytes.NewReader(zip(t, data)))
		if len(got) != len(file.Records) {
			t.Fatalf("%s: %d records, want %d", name, len(got), len(file.Records))
		}
		for i, record := range got {
			records++
			if !bytes.Equal(record, file.Records[i]) || !bytes.Contains(data, record) {
				t.Errorf("%s: record %d is not as in the file", name, i)
			}
			e, found := mapped(t, string(record))
			valid(t, e)
			for _, n := range found {
				notes[n]++
			}
			if len(e.Reason) > 512 {
				long++
			}
			outcomes[e.Outcome]++
			kinds[e.Kind]++
			types[e.Actor.Type]++
			ids[event.IDOf(e)] = true
			if e.Actor.Id == "" {
				t.Errorf("%s: record %d has no actor", name, i)
			}
		}
	}
	if records != 2122 || len(ids) != 2122 {
		t.Errorf("%d records, %d ids", records, len(ids))
	}
	if long != 29 {
		t.Errorf("%d long messages", long)
	}
	check(t, "notes", notes, map[cloudtrail.Note]int{
		{Field: "context.ip", Done: cloudtrail.LeftOut}:         284,
		{Field: "actor.type", Done: cloudtrail.Missing}:         20,
		{Field: "context.request_id", Done: cloudtrail.LeftOut}: 18,
	})
	check(t, "outcomes", outcomes, map[audittrailv1.Outcome]int{audittrailv1.Outcome_OUTCOME_SUCCESS: 1904,
		audittrailv1.Outcome_OUTCOME_FAILURE: 177, audittrailv1.Outcome_OUTCOME_DENIED: 41})
	check(t, "types", types, map[string]int{"IAMUser": 2027, "AssumedRole": 55, "AWSService": 20, "unknown": 20})
	check(t, "kinds", kinds, map[audittrailv1.ActionKind]int{audittrailv1.ActionKind_ACTION_KIND_READ: 1685,
		audittrailv1.ActionKind_ACTION_KIND_UPDATE: 142, audittrailv1.ActionKind_ACTION_KIND_DELETE: 128, audittrailv1.ActionKind_ACTION_KIND_CREATE: 89,
		audittrailv1.ActionKind_ACTION_KIND_AUTH: 36, audittrailv1.ActionKind_ACTION_KIND_ADMIN: 30, audittrailv1.ActionKind_ACTION_KIND_OTHER: 12})
}

func check[K comparable](t *testing.T, what string, got, want map[K]int) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}
