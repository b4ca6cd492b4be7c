package faults

import (
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// endOffsets returns, for each partition that holds anything readable, the offset behind the last one that a read-committed
// consumer may see. A marker at the end of a log is not counted: topics that only we write have none.
func endOffsets(t *T, cl *kgo.Client, topic string) map[int32]int64 {
	t.Helper()
	admin := kadm.NewClient(cl)
	start, err := admin.ListStartOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	end, err := admin.ListCommittedOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	ends := map[int32]int64{}
	end.Each(func(o kadm.ListedOffset) {
		if s, ok := start.Lookup(topic, o.Partition); ok && o.Offset > s.Offset {
			ends[o.Partition] = o.Offset
		}
	})
	return ends
}
