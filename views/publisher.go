package views

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"github.com/maxviazov/audittrail/proto/stream"
)

// Publisher writes to Kafka. KafkaPublisher is the real one.
type Publisher interface {
	// Publish returns when the broker has acknowledged the message. After an error it may have been written all the same.
	Publish(ctx context.Context, topic string, key, value []byte) error
}

// KafkaPublisher publishes registrations and re-driven dead letters: seldom, one at a time. It connects at the
// first call. It is safe for concurrent use.
type KafkaPublisher struct {
	settings stream.Settings

	mu       sync.Mutex
	producer sarama.SyncProducer // nil: not connected
	closed   bool
}

// NewKafkaPublisher connects to nothing yet.
func NewKafkaPublisher(settings stream.Settings) *KafkaPublisher {
	return &KafkaPublisher{settings: settings}
}

// Publish implements Publisher. Sarama's calls cannot be cancelled: when ctx ends, the message is left to it and may still be written.
func (p *KafkaPublisher) Publish(ctx context.Context, topic string, key, value []byte) error {
	done := make(chan error, 1)
	go func() {
		producer, err := p.connect()
		if err == nil {
			_, _, err = producer.SendMessage(&sarama.ProducerMessage{Topic: topic, Key: sarama.ByteEncoder(key), Value: sarama.ByteEncoder(value)})
		}
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("publish to %s: %w", topic, err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("publish to %s: %w", topic, ctx.Err())
	}
}

func (p *KafkaPublisher) connect() (sarama.SyncProducer, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return nil, sarama.ErrClosedClient
	case p.producer != nil:
		return p.producer, nil
	}
	producer, err := sarama.NewSyncProducer(p.settings.Brokers, stream.ProducerConfig(p.settings, stream.Events, stream.Sources))
	if err != nil {
		return nil, err
	}
	p.producer = producer
	return producer, nil
}

// closeWait is how long Close waits for messages that are still being sent.
const closeWait = 5 * time.Second

// Close ends the connections. Messages that are still being sent get a few seconds; while Kafka is away, sarama would try for minutes.
func (p *KafkaPublisher) Close() error {
	done := make(chan error, 1)
	go func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.closed = true
		if p.producer == nil {
			done <- nil
			return
		}
		done <- p.producer.Close()
	}()
	select {
	case err := <-done:
		return err
	case <-time.After(closeWait):
		return errors.New("close publisher: messages that were still being sent are given up")
	}
}
