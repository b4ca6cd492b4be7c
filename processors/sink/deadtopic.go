package sink

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"github.com/maxviazov/audittrail/proto/stream"
)

// deadTopic writes to audit-deadletters, with a producer of its own, made when first needed: callbacks and goka know nothing of it.
type deadTopic struct {
	settings stream.Settings
	turn     chan struct{} // holds a value while a send runs, also one that was given up

	mu       sync.Mutex
	producer sarama.SyncProducer
	closed   bool
}

func newDeadTopic(settings stream.Settings) *deadTopic {
	return &deadTopic{settings: settings, turn: make(chan struct{}, 1)}
}

// send returns when all messages are acknowledged. When ctx ends before, it returns; what was sent by then may arrive, and the next send waits for it:
// the same dead letters come again with each try to store their batch, and must not pile up in a producer that retries for minutes.
func (d *deadTopic) send(ctx context.Context, messages []*sarama.ProducerMessage) error {
	select {
	case d.turn <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("send to %s: an earlier send goes on: %w", stream.DeadLetters, context.Cause(ctx))
	}
	done := make(chan error, 1)
	go func() {
		defer func() { <-d.turn }()
		p, err := d.get()
		if err == nil {
			if err = p.SendMessages(messages); err != nil {
				err = errors.Join(err, d.drop(p))
			}
		}
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("send to %s: %w", stream.DeadLetters, err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("send to %s: %w", stream.DeadLetters, context.Cause(ctx))
	}
}

func (d *deadTopic) get() (sarama.SyncProducer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, sarama.ErrClosedClient
	}
	if d.producer == nil {
		p, err := sarama.NewSyncProducer(d.settings.Brokers, stream.ProducerConfig(d.settings, stream.DeadLetters))
		if err != nil {
			return nil, err
		}
		d.producer = p
	}
	return d.producer, nil
}

// drop closes a producer that failed; the next send makes another. An idempotent producer may never recover from some errors.
func (d *deadTopic) drop(p sarama.SyncProducer) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.producer != p {
		return nil
	}
	d.producer = nil
	return p.Close()
}

// closePatience is how long close waits for a producer that still retries.
const closePatience = 5 * time.Second

// close ends the producer. What a send gave up waiting for may be retried for minutes; that is not waited for.
func (d *deadTopic) close() error {
	d.mu.Lock()
	d.closed = true
	p := d.producer
	d.mu.Unlock()
	if p == nil {
		return nil
	}
	done := make(chan error, 1)
	go func() { done <- p.Close() }()
	select {
	case err := <-done:
		return err
	case <-time.After(closePatience):
		return nil
	}
}

// sendDead sends the dead letters of the batch to their topic and waits for the acks, before COMMIT: a row says that the topic has it. If the process
// dies between the two, the topic gets it again.
func (b *batcher) sendDead(ctx context.Context) error {
	var messages []*sarama.ProducerMessage
	for _, l := range b.batch.logs {
		for i := range l.stored() {
			d := &l.decisions[i]
			if d.dead == nil {
				continue
			}
			m := d.dead.message(int32(l.head.log), d.slot)
			messages = append(messages, &sarama.ProducerMessage{Topic: stream.DeadLetters, Key: sarama.ByteEncoder(m.Key), Value: sarama.ByteEncoder(stream.EncodeDeadLetter(m))})
		}
	}
	if len(messages) == 0 {
		return nil
	}
	return b.sink.dead.send(ctx, messages)
}
