package stream

import (
	"testing"
	"time"

	"github.com/IBM/sarama"
)

func TestConfigsAreSafeAndValid(t *testing.T) {
	s := Settings{Brokers: []string{"localhost:9092"}}
	for name, c := range map[string]*sarama.Config{
		"client": ClientConfig(s), "producer": ProducerConfig(s, Events), "group": GroupConfig(s, GroupTuning{}),
	} {
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if c.Metadata.AllowAutoTopicCreation || c.Consumer.Group.ResetInvalidOffsets ||
			c.Consumer.Offsets.Initial != sarama.OffsetOldest || c.Consumer.IsolationLevel != sarama.ReadCommitted {
			t.Errorf("%s loses or creates: %+v", name, c.Consumer)
		}
		if c.Consumer.MaxWaitTime > 100*time.Millisecond {
			t.Errorf("%s: an idle fetch delays each rebalance by %s", name, c.Consumer.MaxWaitTime)
		}
	}
	p := ProducerConfig(s, Events)
	if p.Producer.RequiredAcks != sarama.WaitForAll || !p.Producer.Idempotent || p.Net.MaxOpenRequests != 1 {
		t.Errorf("producer is not safe: %+v", p.Producer)
	}
	g := GroupConfig(s, GroupTuning{})
	if g.Net.ReadTimeout <= g.Consumer.Group.Rebalance.Timeout {
		t.Errorf("read time-out %s must be above the rebalance time-out %s", g.Net.ReadTimeout, g.Consumer.Group.Rebalance.Timeout)
	}
}

// What a member holds while its callbacks wait must not grow with the outage: at most some messages of each partition, and sarama's default
// of 256 would be up to 64 MiB of Events and 512 MiB of Records.
func TestGroupHoldsFewMessages(t *testing.T) {
	g := GroupConfig(Settings{Brokers: []string{"localhost:9092"}}, GroupTuning{})
	if held := g.ChannelBufferSize * MaxBatchBytes; held > 16<<20 {
		t.Errorf("%d messages are held for a partition: up to %d MiB", g.ChannelBufferSize, held>>20)
	}
}

func TestProducerFitsTheSmallestTopic(t *testing.T) {
	small, large := MaxProducerMessageBytes(Events), MaxProducerMessageBytes(Records, Table)
	if small >= MaxEventsMessageBytes || large >= MaxMessageBytes || large <= MaxEventsMessageBytes {
		t.Errorf("limits are %d and %d", small, large)
	}
	if got := MaxProducerMessageBytes(Records, Events); got != small {
		t.Errorf("records and events: %d, want %d", got, small)
	}
	if got := MaxProducerMessageBytes(); got != small {
		t.Errorf("unnamed: %d, want %d", got, small)
	}
	if small < MaxBatchBytes+64<<10 {
		t.Errorf("%d leaves no room for a batch of %d", small, MaxBatchBytes)
	}
}
