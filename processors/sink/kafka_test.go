package sink

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/maxviazov/audittrail/internal/embedded/embeddedtest"
	pipelinev1 "github.com/maxviazov/audittrail/proto/audittrail/pipeline/v1"
	"github.com/maxviazov/audittrail/proto/stream"
)

// kafka is a broker with the topics of AuditTrail, in which the test plays the emitter and the enricher.
type kafka struct {
	t       *testing.T
	addrs   []string
	cluster *kfake.Cluster
	client  *kgo.Client
	admin   *kadm.Client
	topicID [16]byte
}

func startKafka(t *testing.T) *kafka {
	t.Helper()
	k := &kafka{t: t, cluster: embeddedtest.KafkaCluster(t, embeddedtest.KafkaOpts(kfake.GroupMinSessionTimeout(100*time.Millisecond)))}
	k.addrs = k.cluster.ListenAddrs()
	k.makeTopics()
	return k
}

func (k *kafka) settings() stream.Settings { return stream.Settings{Brokers: k.addrs} }

func (k *kafka) makeTopics() {
	k.t.Helper()
	if err := stream.Apply(k.t.Context(), k.settings(), stream.SingleBrokerLayout(), zerolog.Nop()); err != nil {
		k.t.Fatal(err)
	}
	// A client of its own for these topics: clients remember topic ids.
	var err error
	k.client, err = kgo.NewClient(kgo.SeedBrokers(k.addrs...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(k.client.Close)
	k.admin = kadm.NewClient(k.client)
	topics, err := k.admin.ListTopics(k.t.Context(), stream.Events)
	if err != nil {
		k.t.Fatal(err)
	}
	k.topicID = topics[stream.Events].ID
}

// input makes audit-events of the partition reach to offset end.
func (k *kafka) input(partition int32, end int64) {
	k.t.Helper()
	ends, err := k.admin.ListEndOffsets(k.t.Context(), stream.Events)
	if err != nil {
		k.t.Fatal(err)
	}
	o, _ := ends.Lookup(stream.Events, partition)
	var records []*kgo.Record
	for range end - o.Offset {
		records = append(records, &kgo.Record{Topic: stream.Events, Partition: partition, Value: []byte("x")})
	}
	if err := k.client.ProduceSync(k.t.Context(), records...).FirstErr(); err != nil {
		k.t.Fatal(err)
	}
}

// expire deletes audit-events before an offset, as retention does.
func (k *kafka) expire(topic string, partition int32, before int64) {
	k.t.Helper()
	var offsets kadm.Offsets
	offsets.AddOffset(topic, partition, before, -1)
	responses, err := k.admin.DeleteRecords(k.t.Context(), offsets)
	if err == nil {
		err = responses.Error()
	}
	if err != nil {
		k.t.Fatal(err)
	}
}

// outputs appends outputs, in the notation of the scenarios, to audit-records. Input for them is made, unless they claim more.
func (k *kafka) outputs(partition int32, lines ...string) {
	k.t.Helper()
	for _, line := range lines {
		o := parseOutput(k.t, line)
		k.input(partition, o.Offset+1)
		k.append(partition, o)
	}
}

func (k *kafka) append(partition int32, o *pipelinev1.RecordBatch) {
	k.t.Helper()
	o.TopicId = k.topicID[:]
	k.value(partition, stream.EncodeRecords(o))
}

func (k *kafka) value(partition int32, value []byte) {
	k.t.Helper()
	r := &kgo.Record{Topic: stream.Records, Partition: partition, Key: []byte("acme/app"), Value: value}
	if err := k.client.ProduceSync(k.t.Context(), r).FirstErr(); err != nil {
		k.t.Fatal(err)
	}
}

// deadLetters reads the topic, without those that came twice.
func (k *kafka) deadLetters(n int) (letters []*pipelinev1.DeadLetter) {
	k.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(k.addrs...), kgo.ConsumeTopics(stream.DeadLetters), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		k.t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(k.t.Context(), 20*time.Second)
	defer cancel()
	for len(letters) < n {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			k.t.Fatalf("%d of %d dead letters: %v", len(letters), n, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			d, err := stream.DecodeDeadLetter(slices.Clone(r.Value))
			if err != nil {
				k.t.Error(err)
				return
			}
			if !slices.ContainsFunc(letters, func(x *pipelinev1.DeadLetter) bool {
				return x.Partition == d.Partition && x.Offset == d.Offset && x.Index == d.Index
			}) {
				letters = append(letters, d)
			}
		})
	}
	return letters
}

// commits the enricher group's position.
func (k *kafka) enricherCommit(partition int32, offset int64) {
	k.t.Helper()
	var o kadm.Offsets
	o.AddOffset(stream.Events, partition, offset, -1)
	if err := k.admin.CommitAllOffsets(k.t.Context(), string(stream.EnricherGroup), o); err != nil {
		k.t.Fatal(err)
	}
}

// replica is a running sink.
type replica struct {
	*Sink
	t    *testing.T
	stop func() error // waits for the end
	reg  *prometheus.Registry
	log  *logBuffer
}

// logBuffer keeps the log of a sink.
type logBuffer struct{ lines chan string }

func (b *logBuffer) Write(p []byte) (int, error) {
	select {
	case b.lines <- string(p):
	default: // nobody looks
	}
	return len(p), nil
}

// await waits for a line of the log that holds the text.
func (b *logBuffer) await(t *testing.T, text string) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		select {
		case line := <-b.lines:
			if strings.Contains(line, text) {
				return
			}
		case <-deadline:
			t.Fatalf("the log never said %q", text)
		}
	}
}

func startSink(t *testing.T, k *kafka, dsn string, change ...func(*Config)) *replica {
	t.Helper()
	cfg := Config{Kafka: k.settings(), DSN: dsn, BatchAge: 20 * time.Millisecond, Tick: 100 * time.Millisecond, WatchInterval: 100 * time.Millisecond,
		Group: stream.GroupTuning{Heartbeat: 100 * time.Millisecond, Session: 2 * time.Second, Rebalance: 3 * time.Second}}
	for _, c := range change {
		c(&cfg)
	}
	r := &replica{t: t, reg: prometheus.NewRegistry(), log: &logBuffer{make(chan string, 10_000)}}
	log := zerolog.New(r.log)
	if testing.Verbose() {
		log = zerolog.New(zerolog.MultiLevelWriter(r.log, zerolog.ConsoleWriter{Out: os.Stderr, NoColor: true, TimeFormat: "05.000"})).With().Timestamp().Logger()
	}
	var err error
	if r.Sink, err = New(cfg, log, r.reg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	var result error
	ended := false
	r.stop = func() error {
		if !ended {
			cancel()
			select {
			case result = <-done:
			case <-time.After(70 * time.Second):
				t.Error("the sink does not end")
			}
			ended = true
		}
		return result
	}
	t.Cleanup(func() { r.stop() })
	return r
}

// ended waits until Run returns by itself.
func (r *replica) ended() error {
	r.t.Helper()
	waitFor(r.t, "the sink ends", func() bool { return r.wrapper.Err() != nil })
	return r.stop()
}

func (r *replica) metric(name string) (sum float64) {
	r.t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "audittrail_sink_"+name {
			continue
		}
		for _, m := range f.Metric {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// observer looks into PostgreSQL beside the sinks.
func observer(t *testing.T, dsn string) *store {
	t.Helper()
	s, err := openStore(dsn, time.Minute, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.db.Close)
	return s
}

// awaitNext waits until a log has come to a slot.
func awaitNext(t *testing.T, s *store, log int16, want slot) {
	t.Helper()
	waitFor(t, "log "+string('0'+rune(log))+" comes to "+want.String(), func() bool {
		var at slot
		err := s.db.QueryRow(context.Background(), "SELECT next_offset, next_index FROM audittrail.heads WHERE log_id = $1", log).Scan(&at.offset, &at.index)
		return err == nil && !at.before(want)
	})
}

// awaitPosition waits until a log has taken audit-records up to a position.
func awaitPosition(t *testing.T, s *store, log int16, want int64) {
	t.Helper()
	waitFor(t, "the position", func() bool {
		var at int64
		err := s.db.QueryRow(context.Background(), "SELECT records_position FROM audittrail.heads WHERE log_id = $1", log).Scan(&at)
		return err == nil && at >= want
	})
}

// logNames are the entries of a log, as the scenarios write them.
func logNames(t *testing.T, s *store, log int16) string {
	t.Helper()
	var out []string
	for _, e := range readLog(t, s, log) {
		out = append(out, entryName(t, e))
	}
	return strings.Join(out, " ")
}
