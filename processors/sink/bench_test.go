package sink

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/stream"
)

// benchValues are values of audit-records of 100 events each, around 300 bytes an event: 200 sources, 50,000 actors, 2.5 attributes. Each log
// gets its own messages; sources are mixed evenly.
func benchValues(logs, messages int) [][][]byte {
	rng := rand.New(rand.NewPCG(1, 2))
	now := time.Now().Add(-time.Hour)
	values := make([][][]byte, logs)
	for log := range logs {
		for m := range messages {
			o := newOutput(slot{int64(m), 0}, slot{int64(m) + 1, 0})
			o.IngestedAtMs = now.UnixMilli()
			for i := range uint32(100) {
				e := &audittrailv1.Event{Source: fmt.Sprintf("acme/team%d/service%d", log, rng.IntN(200)), Action: fmt.Sprintf("invoice.update%d", rng.IntN(50)),
					IdempotencyKey: fmt.Sprintf("%d-%d-%d", log, m, i), Kind: audittrailv1.ActionKind_ACTION_KIND_UPDATE, Outcome: audittrailv1.Outcome(1 + rng.IntN(3)),
					OccurredAt: timestamppb.New(now.Add(time.Duration(m) * time.Millisecond)),
					Actor:      &audittrailv1.Actor{Type: "user", Id: fmt.Sprintf("user-%d", rng.IntN(50_000)), Name: "Some Name"},
					Resources:  []*audittrailv1.Resource{{Type: "invoice", Id: fmt.Sprintf("inv-%d", rng.IntN(1_000_000))}},
					Context:    &audittrailv1.Context{Ip: fmt.Sprintf("10.%d.%d.%d", rng.IntN(9), rng.IntN(99), rng.IntN(250)), TraceId: fmt.Sprintf("%032x", rng.Uint64()), UserAgent: "curl/8.5"},
					Attributes: map[string]string{"region": "eu-west-1", "team": fmt.Sprintf("team-%d", rng.IntN(40))}}
				if i%2 == 0 {
					e.Attributes["tier"] = "gold"
				}
				o.Records = append(o.Records, testRecord(i, e))
			}
			values[log] = append(values[log], stream.EncodeRecords(o))
		}
	}
	return values
}

// BenchmarkItem is the work of a callback, an event.
func BenchmarkItem(b *testing.B) {
	value := benchValues(1, 1)[0][0]
	b.ReportAllocs()
	b.SetBytes(int64(len(value)) / 100)
	defer cpuPerEvent(b)()
	for i := 0; i < b.N; i += 100 {
		if it, err := newItem(0, 0, value); err != nil || it.output == nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLayout is the work of the batcher without PostgreSQL, an event: fold, settle, encode.
func BenchmarkLayout(b *testing.B) {
	items := make([]*item, 200)
	for i, value := range benchValues(1, len(items))[0] {
		items[i], _ = newItem(0, int64(i), value)
	}
	dict := newDictionary()
	for _, it := range items {
		for i := range it.records {
			dict.sources.ids[it.records[i].Source], dict.actions.ids[it.records[i].Action] = 1, 1
		}
	}
	var batch batch
	h := &head{}
	b.ReportAllocs()
	defer cpuPerEvent(b)()
	for n := 0; n < b.N; n += 100 * len(items) {
		batch.reset()
		h.next, h.position, batch.items = slot{}, 0, items
		for _, it := range items {
			h.fold(it, 0, &batch.log(h).folded)
		}
		batch.rows = len(batch.log(h).decisions)
		if err := batch.settle(); err != nil {
			b.Fatal(err)
		}
		batch.encode(dict, 1)
		batch.log(h).committed()
	}
}

// BenchmarkStore is the whole of a sink but Kafka, an event, over 12 logs in batches of 20,000 rows: run it with -benchtime 1x. It says what the program
// and what PostgreSQL used, in CPU-seconds per million events.
func BenchmarkStore(b *testing.B) {
	const logs, messages = 12, 400
	s := testStore(b)
	values := benchValues(logs, messages)
	heads := make([]int32, logs)
	for i := range heads {
		heads[i] = int32(i)
	}
	claimed, err := s.claim(context.Background(), [16]byte{1}, heads, topics{events: testTopic, records: [16]byte{8}, partitions: logs}, anyRange)
	if err != nil {
		b.Fatal(err)
	}
	var pid int
	if err := s.db.QueryRow(context.Background(), "SELECT pg_backend_pid()").Scan(&pid); err != nil {
		b.Fatal(err)
	}
	postmaster := parent(b, pid)
	b.ResetTimer()
	ownBefore, pgBefore, began := selfCPU(), serverCPU(postmaster), time.Now()
	var batch batch
	dict := newDictionary()
	perBatch := 200 / logs
	for from := 0; from < messages; from += perBatch {
		batch.reset()
		for log := range int32(logs) {
			for m := from; m < min(from+perBatch, messages); m++ {
				it, err := newItem(log, int64(m), values[log][m])
				if err != nil {
					b.Fatal(err)
				}
				batch.items = append(batch.items, it)
			}
		}
		for _, it := range batch.items {
			claimed[it.partition].fold(it, 0, &batch.log(claimed[it.partition]).folded)
		}
		storeBatch(b, s, &batch, dict)
		batch.items = slices.DeleteFunc(batch.items, func(it *item) bool { return it.offset < claimed[it.partition].position })
	}
	events := float64(logs*messages*100) / 1e6
	b.ReportMetric((selfCPU()-ownBefore)/events, "own-s/Mevent")
	b.ReportMetric((serverCPU(postmaster)-pgBefore)/events, "pg-s/Mevent")
	b.ReportMetric(events/time.Since(began).Seconds(), "Mevent/s")
	b.ReportMetric(0, "ns/op")
	var bytes, tail int64
	if err := s.db.QueryRow(context.Background(), `SELECT sum(pg_total_relation_size(c.oid)), pg_total_relation_size('audittrail.tail') FROM pg_class c
		WHERE relnamespace = 'audittrail'::regnamespace AND relkind = 'r' AND relname <> 'tail'`).Scan(&bytes, &tail); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(bytes)/events/1e6, "B/event")
	b.ReportMetric(float64(tail)/events/1e6, "tail-B/event")
}

func storeBatch(b *testing.B, s *store, batch *batch, dict *dictionary) {
	b.Helper()
	ctx := context.Background()
	for _, l := range batch.logs {
		batch.rows += len(l.decisions)
	}
	if err := batch.settle(); err != nil {
		b.Fatal(err)
	}
	for _, d := range batch.firsts {
		dict.sources.want(d.item.records[d.at].Source)
		dict.actions.want(d.item.records[d.at].Action)
	}
	if err := dict.fetch(ctx, s.db); err != nil {
		b.Fatal(err)
	}
	day, err := s.extendLeaves(ctx, [16]byte{})
	if err != nil {
		b.Fatal(err)
	}
	batch.encode(dict, day)
	if err := s.write(ctx, [16]byte{1}, testTopic, batch, func(context.Context) error { return nil }); err != nil {
		b.Fatal(err)
	}
	for _, l := range batch.logs {
		l.committed()
	}
}

// cpuPerEvent reports what the process used: on a shared machine time says little.
func cpuPerEvent(b *testing.B) func() {
	before := selfCPU()
	b.ResetTimer()
	return func() { b.ReportMetric((selfCPU()-before)*1e9/float64(b.N), "cpu-ns/event") }
}

func selfCPU() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

func stat(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+2:]))
}

func parent(b *testing.B, pid int) int {
	b.Helper()
	f := stat(pid)
	if f == nil {
		b.Skip("needs /proc")
	}
	n, err := strconv.Atoi(f[1])
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// serverCPU is what a PostgreSQL and all its processes used so far, those that have ended included.
func serverCPU(postmaster int) (seconds float64) {
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	for _, d := range dirs {
		pid, err := strconv.Atoi(d.Name())
		if err != nil {
			continue
		}
		f := stat(pid)
		if f == nil || pid != postmaster && f[1] != strconv.Itoa(postmaster) {
			continue
		}
		fields := f[11:13] // utime, stime
		if pid == postmaster {
			fields = f[11:15] // and of children that were waited for
		}
		for _, x := range fields {
			ticks, _ := strconv.ParseFloat(x, 64)
			seconds += ticks / 100
		}
	}
	return seconds
}
