package enricher

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/maxviazov/audittrail/internal/group"
	"github.com/maxviazov/audittrail/proto/stream"
)

// TestMorePartitions (R18): audit-events gets partitions, and producers place by the new number, so that sources stand where they do not belong by the
// old one. The enricher refuses, with both numbers, before it calls any of that wrongly placed; so does its successor.
func TestMorePartitions(t *testing.T) {
	t.Parallel()
	all := []string{stream.Events, stream.Records, stream.Table}
	for name, c := range map[string]struct {
		running bool
		topics  []string
		tick    time.Duration // an hour: it learns of it from a message
	}{
		"running":                 {true, all[:1], 50 * time.Millisecond},
		"running, by a message":   {true, all[:1], time.Hour},
		"running, all topics":     {true, all, time.Hour},
		"stopped":                 {false, all[:1], time.Hour},
		"stopped, all the topics": {false, all, time.Hour},
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); morePartitions(t, c.running, c.topics, c.tick) })
	}
}

func morePartitions(t *testing.T, running bool, topics []string, tick time.Duration) {
	const was, is, sources = 2, 5, 20
	p := newPipe(t, was)
	config := p.config("")
	config.RefillInterval = tick
	e := p.start(config)
	send := func(key string) {
		for i := range sources {
			source := fmt.Sprint("acme/s", i)
			p.sendBatch(source, testEvent(source, key))
		}
	}
	send("old")
	for partition := range int32(was) {
		_, end, err := p.admin.LogRange(testContext(t), stream.Events, partition)
		if err != nil {
			t.Fatal(err)
		}
		p.awaitCommit(partition, end)
	}
	if !running {
		if err := e.stop(); err != nil {
			t.Fatal(err)
		}
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(p.settings.Brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	made, err := kadm.NewClient(client).UpdatePartitions(testContext(t), is, topics...)
	if err == nil {
		err = made.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := p.producer.Close(); err != nil { // it knows the old number
		t.Fatal(err)
	}
	if p.producer, err = sarama.NewSyncProducer(p.settings.Brokers, stream.ProducerConfig(p.settings)); err != nil {
		t.Fatal(err)
	}
	send("new")
	if running {
		refusesCount(t, e, was, is)
	}
	refusesCount(t, p.start(config), was, is)
	records := 0
	for partition := range int32(was) {
		s := p.sink(partition, 0)
		if records += len(s.stored); len(s.dead) > 0 {
			t.Errorf("%d dead letters in partition %d, such as %v", len(s.dead), partition, s.dead)
		}
	}
	if records < sources {
		t.Errorf("%d events of before, want %d", records, sources)
	}
}

func refusesCount(t *testing.T, e *running, was, is int) {
	t.Helper()
	select {
	case err := <-e.done:
		e.done <- err
		var refusal group.Refusal
		want := fmt.Sprintf("topic %s had %d partitions and has %d", stream.Events, was, is)
		if !errors.As(err, &refusal) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want a refusal that says %q", err, want)
		}
	case <-time.After(60 * time.Second):
		t.Error("it goes on")
	}
}
