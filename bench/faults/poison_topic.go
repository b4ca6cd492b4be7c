package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	pipelinev1 "github.com/maxviazov/audittrail/proto/audittrail/pipeline/v1"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// accountTopic compares the topic of dead letters with the table: at least once each, and nothing else.
func (b *badInput) accountTopic(t *T, rows []storedLetter) {
	t.Helper()
	type slot struct {
		partition int32
		offset    int64
		index     uint32
	}
	inTopic := map[slot]*pipelinev1.DeadLetter{}
	for _, r := range readTopic(t, b.Brokers, "audit-deadletters") {
		value, ok := bytes.CutPrefix(r.Value, []byte("\x00ATD\x01"))
		d := &pipelinev1.DeadLetter{}
		if err := proto.Unmarshal(value, d); !ok || err != nil {
			t.Errorf("message %d@%d of the dead-letter topic is no dead letter: %v", r.Partition, r.Offset, err)
			continue
		}
		inTopic[slot{d.Partition, d.Offset, d.Index}] = d
	}
	for _, row := range rows {
		at := slot{int32(row.Partition), row.Offset, uint32(row.Index)}
		d := inTopic[at]
		if d == nil {
			t.Errorf("dead letter %+v is not in the topic", at)
		} else if d.Reason != row.Reason || !bytes.Equal(d.Original, row.Original) || !bytes.Equal(d.OriginalSha256, row.SHA256) || !bytes.Equal(d.Key, row.Key) || d.WholeMessage != row.Whole {
			t.Errorf("dead letter %+v is another in the topic: %s", at, d.Reason)
		}
		delete(inTopic, at)
	}
	for at := range inTopic {
		t.Errorf("dead letter %+v of the topic is not in the table", at)
	}
}

// readTopic reads all that is in a topic now.
func readTopic(t *T, brokers []string, topic string) []*kgo.Record {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ends := endOffsets(t, cl, topic)
	var records []*kgo.Record
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for len(ends) > 0 {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			records = append(records, r)
			if r.Offset+1 >= ends[r.Partition] {
				delete(ends, r.Partition)
			}
		})
	}
	return records
}

// accountCLI compares what `audittrail deadletters list` says with the table.
func (b *badInput) accountCLI(t *T, rows []storedLetter) {
	t.Helper()
	out, err := b.Run(t.Context(), "deadletters", "list", "--limit", "0", "-o", "jsonl", "--addr", b.gatewayAddrs[0])
	if err != nil {
		t.Fatal(err)
	}
	listed := map[int64]*audittrailv1.DeadLetter{}
	for line := range strings.Lines(out) {
		d := &audittrailv1.DeadLetter{}
		if !json.Valid([]byte(line)) {
			t.Fatalf("line of deadletters list is no JSON: %q", line)
		}
		if err := protojson.Unmarshal([]byte(line), d); err != nil {
			t.Fatalf("line of deadletters list: %v: %q", err, line)
		}
		listed[d.Id] = d
	}
	for _, row := range rows {
		d := listed[row.ID]
		if d == nil {
			t.Errorf("deadletters list leaves %d out", row.ID)
		} else if d.Reason != row.Reason || d.Detail != row.Detail || d.Partition != int32(row.Partition) || d.Offset != row.Offset ||
			int32(d.Index) != row.Index || d.OriginalSize != row.Size || !bytes.Equal(d.Original, row.Original) {
			t.Errorf("deadletters list shows %d differently: %v", row.ID, d)
		}
		delete(listed, row.ID)
	}
	if len(listed) > 0 {
		t.Errorf("deadletters list shows %d that are not in the table", len(listed))
	}
}
