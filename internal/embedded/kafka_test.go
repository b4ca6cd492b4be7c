package embedded

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const partitions = 3

func newClient(t *testing.T, addr string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(addr), kgo.RecordPartitioner(kgo.ManualPartitioner())}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func createTopic(t *testing.T, admin *kadm.Client, name string, config map[string]string) {
	t.Helper()
	configs := make(map[string]*string)
	for key, value := range config {
		configs[key] = &value
	}
	if _, err := admin.CreateTopic(t.Context(), partitions, 1, configs, name); err != nil {
		t.Fatal(err)
	}
}

// ledger is what the broker acknowledged: value by partition and offset.
type ledger struct {
	sync.Mutex
	acked map[string]string
}

func at(partition int32, offset int64) string { return fmt.Sprintf("%d/%d", partition, offset) }

// produce sends records to all partitions until ctx ends and notes those acknowledged.
func (l *ledger) produce(ctx context.Context, client *kgo.Client, topic string, round int) {
	for n := 0; ctx.Err() == nil; n++ {
		record := &kgo.Record{Topic: topic, Partition: int32(n % partitions), Value: fmt.Appendf(nil, "round %d record %d", round, n)}
		client.Produce(ctx, record, func(r *kgo.Record, err error) {
			if err == nil {
				l.Lock()
				defer l.Unlock()
				l.acked[at(r.Partition, r.Offset)] = string(r.Value)
			}
		})
		if n%50 == 0 {
			client.Flush(ctx)
		}
	}
}

func (l *ledger) size() int {
	l.Lock()
	defer l.Unlock()
	return len(l.acked)
}

// readAll returns everything in the topic by partition and offset.
func readAll(t *testing.T, addr, topic string) map[string]string {
	t.Helper()
	client := newClient(t, addr, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer client.Close()
	ends, err := kadm.NewClient(client).ListEndOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	starts, err := kadm.NewClient(client).ListStartOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	var want int64
	ends.Each(func(end kadm.ListedOffset) {
		start, _ := starts.Lookup(topic, end.Partition)
		want += end.Offset - start.Offset
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	read := make(map[string]string)
	for int64(len(read)) < want {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("read %d of %d records of %s: %v", len(read), want, topic, err)
		}
		fetches.EachRecord(func(r *kgo.Record) { read[at(r.Partition, r.Offset)] = string(r.Value) })
	}
	return read
}

// identity is what must stay the same while topics live: ids, log starts.
func identity(t *testing.T, addr string) map[string]string {
	t.Helper()
	admin := kadm.NewClient(newClient(t, addr))
	topics, err := admin.ListTopics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	starts, err := admin.ListStartOffsets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]string)
	for name, topic := range topics {
		seen[name] = fmt.Sprintf("%s %d", topic.ID, len(topic.Partitions))
	}
	starts.Each(func(o kadm.ListedOffset) { seen[o.Topic+" "+fmt.Sprint(o.Partition)] = fmt.Sprint(o.Offset) })
	return seen
}

func TestKafkaKeepsWhatItAcknowledgedAcrossKills(t *testing.T) {
	dirs := newDirs(t)
	var ids map[string]string
	written := &ledger{acked: make(map[string]string)}
	committed := int64(-1)
	for round := range 4 {
		broker := startChild(t, "kafka", dirs)
		client := newClient(t, broker.Kafka, kgo.RecordRetries(2))
		admin := kadm.NewClient(client)
		if round == 0 {
			createTopic(t, admin, "events", map[string]string{"segment.bytes": "65536"}) // small: kills meet segments being rolled
			createTopic(t, admin, "empty", map[string]string{"cleanup.policy": "compact"})
			ids = identity(t, broker.Kafka)
		}
		if got := identity(t, broker.Kafka); !maps.Equal(got, ids) {
			t.Fatalf("round %d: topics\n%v\nbefore\n%v", round, got, ids)
		}
		read := readAll(t, broker.Kafka, "events")
		lost := 0
		for place, value := range written.acked {
			if read[place] != value {
				lost++
			}
		}
		if lost > 0 {
			t.Fatalf("round %d: %d of %d acknowledged records lost or changed", round, lost, len(written.acked))
		}
		if round > 0 {
			offsets, err := admin.FetchOffsets(t.Context(), "group")
			if err != nil {
				t.Fatal(err)
			}
			if got, ok := offsets.Lookup("events", 1); !ok || got.At != committed {
				t.Fatalf("round %d: committed offset %v, want %d", round, got.At, committed)
			}
		}

		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		before := written.size()
		go func() { defer close(done); written.produce(ctx, client, "events", round) }()
		target := before + 300 + rand.IntN(1500)
		waitFor(t, "records to be acknowledged", func() bool { return written.size() >= target })
		committed = int64(100*round + 7)
		if err := admin.CommitAllOffsets(t.Context(), "group", kadm.OffsetsFromRecords(kgo.Record{Topic: "events", Partition: 1, Offset: committed - 1, LeaderEpoch: -1})); err != nil {
			t.Fatal(err)
		}
		broker.kill() // with records in flight
		cancel()
		<-done
		client.Close()
	}
}

func TestKafkaExpiresWholeOldSegmentsOnlyAtTheStart(t *testing.T) {
	dir := filepath.Join(newDirs(t).base, "data")
	data := openData(t, dir)
	start := func() *Kafka {
		kafka, err := StartKafka(data, KafkaConfig{Log: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		return kafka
	}
	kafka := start()
	client := newClient(t, kafka.Addrs()[0])
	admin := kadm.NewClient(client)
	old := map[string]string{"segment.bytes": "2000", "retention.ms": "60000"}
	createTopic(t, admin, "expiring", old)
	createTopic(t, admin, "compacted", map[string]string{"segment.bytes": "2000", "retention.ms": "60000", "cleanup.policy": "compact"})
	createTopic(t, admin, "kept", map[string]string{"segment.bytes": "2000"})
	for n := range 40 {
		for _, topic := range []string{"expiring", "compacted", "kept"} {
			record := &kgo.Record{Topic: topic, Key: []byte("k"), Value: []byte(strings.Repeat("x", 150) + fmt.Sprint(n))}
			if err := client.ProduceSync(t.Context(), record).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	client.Close()
	kafka.Close()
	ages, err := filepath.Glob(filepath.Join(dir, "kafka", "partitions", "*", "*.dat"))
	if err != nil || len(ages) < 6 {
		t.Fatalf("segments %v, %v", ages, err)
	}
	for _, segment := range ages {
		long := time.Now().Add(-time.Hour)
		if err := os.Chtimes(segment, long, long); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // what one start removed, the next one need not
		kafka = start()
		admin = kadm.NewClient(newClient(t, kafka.Addrs()[0]))
		starts, err := admin.ListStartOffsets(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ends, err := admin.ListEndOffsets(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for topic, expires := range map[string]bool{"expiring": true, "compacted": false, "kept": false} {
			first, _ := starts.Lookup(topic, 0)
			end, _ := ends.Lookup(topic, 0)
			if end.Offset != 40 || (first.Offset > 0) != expires || first.Offset >= 40 {
				t.Errorf("%s: log from %d to %d", topic, first.Offset, end.Offset)
			}
		}
		kafka.Close()
	}
}

// A producer in another process lives on while the broker is restarted, in order and then by a kill.
func TestAProducerOutlivesTheBroker(t *testing.T) {
	dirs := newDirs(t)
	broker := startChild(t, "kafka", dirs)
	dirs.listen = broker.Kafka
	client := newClient(t, broker.Kafka, kgo.RecordRetries(20), kgo.StopProducerOnDataLossDetected()) // fails once a sequence number is refused
	createTopic(t, kadm.NewClient(client), "events", nil)
	for round := range 4 {
		for n := range 5 {
			if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: "events", Value: fmt.Appendf(nil, "%d/%d", round, n)}).FirstErr(); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
		}
		if round == 0 {
			broker.stop(t)
		} else {
			broker.kill()
		}
		broker = startChild(t, "kafka", dirs)
	}
	if got := len(readAll(t, broker.Kafka, "events")); got != 20 {
		t.Errorf("%d records, want 20", got)
	}
}

// Members that were there when the broker stopped lived in its process; the next start must not wait for them.
func TestMembersOfTheFormerRunAreForgotten(t *testing.T) {
	data := openData(t, newDirs(t).data)
	for round := range 2 {
		kafka, err := StartKafka(data, KafkaConfig{Log: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		client := newClient(t, kafka.Addrs()[0], kgo.ConsumeTopics("events"), kgo.ConsumerGroup("group"))
		if round == 0 {
			createTopic(t, kadm.NewClient(client), "events", nil)
			client.ForceMetadataRefresh()
		}
		if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: "events", Value: []byte("x")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second) // the member's session is 45 s
		if fetches := client.PollFetches(ctx); fetches.Err() != nil {
			t.Errorf("round %d: %v", round, fetches.Err())
		}
		cancel()
		kafka.Close() // before the member can leave
	}
}

func TestKafkaTakenPortAndBadAddress(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	data := openData(t, t.TempDir())
	_, err = StartKafka(data, KafkaConfig{Listen: ln.Addr().String()})
	if !errors.Is(err, ErrPortTaken) || !strings.Contains(err.Error(), ln.Addr().String()) || !strings.Contains(err.Error(), "--kafka-listen") {
		t.Errorf("error %v", err)
	}
	for _, listen := range []string{"0.0.0.0:0", "10.1.2.3:9092", "localhost", "127.0.0.1"} {
		if _, err := StartKafka(data, KafkaConfig{Listen: listen}); err == nil || !strings.Contains(err.Error(), "--kafka-listen") {
			t.Errorf("%s: error %v", listen, err)
		}
	}
}
