package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/maxviazov/audittrail/proto/stream"
)

// Raw is traffic of producers that do without the emitter: one encoded event a message, straight into audit-events.
type Raw struct {
	prepared *Prepared
	brokers  []string
}

// PrepareRaw encodes the traffic of c for the brokers. Conns do not count; each worker is a producer.
func PrepareRaw(c Config, brokers []string) (*Raw, error) {
	c.Batch = 1
	p := &Prepared{config: c.withDefaults(), requests: make([]request, c.Events)}
	return &Raw{p, brokers}, p.each(func(r *request) (err error) {
		e := p.events(r)[0]
		r.method = e.GetSource() // the key
		r.body, err = e.MarshalVT()
		return err
	})
}

// Run writes everything and returns when all of it is acknowledged by all replicas or ctx ends.
func (w *Raw) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	workers := w.prepared.config.Workers
	errs := make([]error, workers)
	for i := range workers {
		wg.Go(func() { errs[i] = w.produce(ctx, i, workers) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// produce writes every request whose number is i modulo n.
func (w *Raw) produce(ctx context.Context, i, n int) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(w.brokers...), kgo.DefaultProduceTopic(stream.Events), // idempotent, acks=all, murmur2
		kgo.ProducerLinger(5*time.Millisecond), kgo.ProducerBatchMaxBytes(int32(stream.MaxProducerMessageBytes(stream.Events))),
		kgo.ProducerBatchCompression(kgo.SnappyCompression()))
	if err != nil {
		return fmt.Errorf("make a producer: %w", err)
	}
	defer client.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for ; i < len(w.prepared.requests) && ctx.Err() == nil; i += n {
		r := &w.prepared.requests[i]
		client.Produce(ctx, &kgo.Record{Key: []byte(r.method), Value: r.body}, func(_ *kgo.Record, err error) {
			if err != nil {
				cancel(fmt.Errorf("produce event %d: %w", r.first, err))
			}
		})
	}
	if err := client.Flush(ctx); err != nil {
		return context.Cause(ctx)
	}
	return context.Cause(ctx)
}
