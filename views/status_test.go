package views

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/stream"
)

func TestSummarize(t *testing.T) {
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	head := func(next, position int64) headRow {
		return headRow{nextOffset: next, position: position, size: 7, claimed: true}
	}
	for _, c := range []struct {
		name     string
		events   stream.Range
		commit   int64
		note     string
		records  stream.Range
		head     headRow
		first    *Readable
		open     *OpenTransaction
		want     *audittrailv1.PartitionStatus
		caughtUp bool
		alert    string
	}{
		{
			name: "nothing ever", commit: stream.NoCommit,
			want: &audittrailv1.PartitionStatus{EnricherPosition: -1, SinkPosition: -1}, caughtUp: true,
		},
		{
			name: "not claimed", events: stream.Range{End: 10}, commit: 4, records: stream.Range{End: 3}, first: &Readable{0, now.Add(-time.Second)},
			want: &audittrailv1.PartitionStatus{EventsEnd: 10, EnricherPosition: 4, RecordsEnd: 3, SinkPosition: -1, EnricherLag: 6, SinkLag: 3,
				Lag: durationpb.New(time.Second)},
		},
		{
			name: "caught up", events: stream.Range{End: 10}, commit: 10, records: stream.Range{Start: 5, End: 30}, head: head(10, 30), caughtUp: true,
			want: &audittrailv1.PartitionStatus{EventsEnd: 10, EnricherPosition: 10, RecordsEnd: 30, SinkPosition: 30, NextOffset: 10, LogSize: 7},
		},
		{
			name: "only a marker left", events: stream.Range{End: 10}, commit: 9, records: stream.Range{End: 30}, head: head(9, 30), caughtUp: true,
			want: &audittrailv1.PartitionStatus{EventsEnd: 10, EnricherPosition: 9, RecordsEnd: 30, SinkPosition: 30, NextOffset: 9, LogSize: 7},
		},
		{
			name: "behind for long", events: stream.Range{End: 10}, commit: 9, records: stream.Range{End: 30}, head: head(5, 20),
			first: &Readable{5, now.Add(-2 * time.Minute)}, alert: "partition 0 is 2m0s behind",
			want: &audittrailv1.PartitionStatus{EventsEnd: 10, EnricherPosition: 9, RecordsEnd: 30, SinkPosition: 20, NextOffset: 5, LogSize: 7,
				EnricherLag: 1, SinkLag: 10, Lag: durationpb.New(2 * time.Minute)},
		},
		{
			name: "output lost", events: stream.Range{End: 10}, commit: 9, records: stream.Range{End: 30}, head: head(5, 30), first: &Readable{5, now},
			alert: "slot 5 of audit-events, which was enriched, is not in it",
			want: &audittrailv1.PartitionStatus{EventsEnd: 10, EnricherPosition: 9, RecordsEnd: 30, SinkPosition: 30, NextOffset: 5, LogSize: 7,
				EnricherLag: 1},
		},
		{
			name: "marker, then a new message", events: stream.Range{End: 10}, commit: 9, records: stream.Range{End: 30}, head: head(8, 30),
			first: &Readable{9, now},
			want: &audittrailv1.PartitionStatus{EventsEnd: 10, EnricherPosition: 9, RecordsEnd: 30, SinkPosition: 30, NextOffset: 8, LogSize: 7,
				EnricherLag: 1},
		},
		{
			name: "deleted before it was stored", events: stream.Range{Start: 8, End: 10}, commit: 10, records: stream.Range{End: 30}, head: head(5, 20),
			first: &Readable{8, now}, alert: "slots 5 to 7 of audit-events were deleted",
			want: &audittrailv1.PartitionStatus{EventsEnd: 10, EnricherPosition: 10, RecordsEnd: 30, SinkPosition: 20, NextOffset: 5, LogSize: 7,
				SinkLag: 10},
		},
		{
			name: "refill under way", events: stream.Range{End: 10}, commit: 3, note: "answered=2 tries=1 at=5 until=10", records: stream.Range{End: 30},
			head: head(10, 30), caughtUp: true, alert: "a refill is under way: the enricher processes audit-events again and is at 3 of 10",
			want: &audittrailv1.PartitionStatus{EventsEnd: 10, EnricherPosition: 3, RecordsEnd: 30, SinkPosition: 30, NextOffset: 10, LogSize: 7},
		},
		{
			name: "refill done", events: stream.Range{End: 10}, commit: 10, note: "answered=2 tries=1 at=5 until=10", records: stream.Range{End: 30},
			head: head(10, 30), caughtUp: true,
			want: &audittrailv1.PartitionStatus{EventsEnd: 10, EnricherPosition: 10, RecordsEnd: 30, SinkPosition: 30, NextOffset: 10, LogSize: 7},
		},
		{
			name: "held up by a young transaction", events: stream.Range{End: 10}, commit: 10, records: stream.Range{End: 30}, head: head(10, 30),
			open: &OpenTransaction{10, 14, now.Add(-2 * time.Second)},
			want: &audittrailv1.PartitionStatus{EventsEnd: 14, EnricherPosition: 10, RecordsEnd: 30, SinkPosition: 30, NextOffset: 10, LogSize: 7,
				Lag: durationpb.New(2 * time.Second)},
		},
		{
			name: "held up by a hanging transaction", events: stream.Range{End: 10}, commit: 10, records: stream.Range{End: 30}, head: head(10, 30),
			open: &OpenTransaction{10, 14, now.Add(-20 * time.Second)}, alert: "partition 0: an open transaction has held up audit-events at offset 10 since 2026-01-31T11:59:40Z (20s)",
			want: &audittrailv1.PartitionStatus{EventsEnd: 14, EnricherPosition: 10, RecordsEnd: 30, SinkPosition: 30, NextOffset: 10, LogSize: 7,
				Lag: durationpb.New(20 * time.Second)},
		},
		{
			name: "a transaction that has ended since", events: stream.Range{End: 15}, commit: 15, records: stream.Range{End: 30}, head: head(15, 30),
			open: &OpenTransaction{10, 14, now.Add(-20 * time.Second)}, caughtUp: true,
			want: &audittrailv1.PartitionStatus{EventsEnd: 15, EnricherPosition: 15, RecordsEnd: 30, SinkPosition: 30, NextOffset: 15, LogSize: 7},
		},
		{
			name: "topics made again", events: stream.Range{End: 1}, commit: 1, records: stream.Range{End: 1}, head: head(5, 20), caughtUp: true,
			alert: "the store is ahead of Kafka",
			want:  &audittrailv1.PartitionStatus{EventsEnd: 1, EnricherPosition: 1, RecordsEnd: 1, SinkPosition: 20, NextOffset: 5, LogSize: 7},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			pending := map[int32]*Readable{}
			if c.first != nil {
				pending[0] = c.first
			}
			store := storeState{heads: map[int32]headRow{}}
			if c.head.claimed {
				store.heads[0] = c.head
			}
			kafka := kafkaState{events: []stream.Range{c.events}, commits: []stream.Commit{{Offset: c.commit, Metadata: c.note}}, records: []stream.Range{c.records}}
			if c.open != nil {
				kafka.openEvents = map[int32]OpenTransaction{0: *c.open}
			}
			got := summarize(kafka, store, pending, now)
			if c.want.Lag == nil {
				c.want.Lag = durationpb.New(0)
			}
			if !proto.Equal(got.GetPartitions()[0], c.want) || got.GetCaughtUp() != c.caughtUp {
				t.Errorf("caught up %v, got %v\nwant %v", got.GetCaughtUp(), got.GetPartitions()[0], c.want)
			}
			switch alerts := strings.Join(got.GetAlerts(), "; "); {
			case c.alert == "" && alerts != "":
				t.Errorf("alerts: %s", alerts)
			case !strings.Contains(alerts, c.alert):
				t.Errorf("alerts %q do not say %q", alerts, c.alert)
			}
		})
	}
	got := summarize(kafkaState{}, storeState{stored: 1, duplicates: 2, deadLetters: 3, pendingDeadLetters: 2, openGaps: 4}, nil, now)
	if got.GetStoredCount() != 1 || got.GetDuplicateCount() != 2 || got.GetDeadLetterCount() != 3 || got.GetOpenGapCount() != 4 ||
		len(got.GetAlerts()) != 2 {
		t.Errorf("got %v", got)
	}
}
