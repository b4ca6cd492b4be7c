package stream

import (
	"testing"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"

	"github.com/maxviazov/audittrail/internal/embedded/embeddedtest"
)

// TestProducerPutsRecordsWhereTheyBelong produces to a real broker, through the builder that all goka components of ours use.
func TestProducerPutsRecordsWhereTheyBelong(t *testing.T) {
	s, l := cluster(t)
	producer, err := Goka{Settings: s}.ProducerBuilder(Records)(s.Brokers, "test", NewHasher)
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()

	for key := range javaVectors {
		byKey := offsetOf(t, producer.Emit(Records, key, []byte("v")))
		if want := Partition(key, l.Partitions); byKey.Partition != want {
			t.Errorf("key %q went to partition %d, want %d", key, byKey.Partition, want)
		}
		// A wrongly keyed message: the header wins over the key.
		other := (Partition(key, l.Partitions) + 1) % l.Partitions
		byHeader := offsetOf(t, producer.EmitWithHeaders(Records, key, []byte("v"), PartitionHeaders(other)))
		if byHeader.Partition != other {
			t.Errorf("key %q with header %d went to partition %d", key, other, byHeader.Partition)
		}
	}
	for _, header := range []string{"4", "-1", "x", ""} {
		if err := failure(producer.EmitWithHeaders(Records, "k", []byte("v"), goka.Headers{PartitionHeader: []byte(header)})); err == nil {
			t.Errorf("header %q of a topic of %d partitions was accepted", header, l.Partitions)
		}
	}
}

func TestProducerRefusesWhatTheTopicWouldRefuse(t *testing.T) {
	s, _ := cluster(t)
	producer, err := Goka{Settings: s}.ProducerBuilder(Events)(s.Brokers, "test", NewHasher)
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	if err := failure(producer.Emit(Events, "k", make([]byte, MaxBatchBytes+headerLen))); err != nil {
		t.Errorf("the greatest batch was refused: %v", err)
	}
	if err := failure(producer.Emit(Events, "k", make([]byte, MaxEventsMessageBytes))); err == nil {
		t.Error("a message over the topic's limit was sent")
	}
}

func offsetOf(t *testing.T, p *goka.Promise) *sarama.ProducerMessage {
	t.Helper()
	type result struct {
		msg *sarama.ProducerMessage
		err error
	}
	done := make(chan result, 1)
	p.ThenWithMessage(func(msg *sarama.ProducerMessage, err error) { done <- result{msg, err} })
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	return r.msg
}

func failure(p *goka.Promise) error {
	done := make(chan error, 1)
	p.Then(func(err error) { done <- err })
	return <-done
}

// cluster starts a broker with the topics of the single-broker layout.
func cluster(t *testing.T) (Settings, Layout) {
	t.Helper()
	s, l := Settings{Brokers: embeddedtest.Kafka(t)}, SingleBrokerLayout()
	if err := Apply(t.Context(), s, l, logger(t)); err != nil {
		t.Fatal(err)
	}
	return s, l
}
