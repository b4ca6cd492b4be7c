package enricher

import (
	"context"
	"errors"
	"fmt"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"

	"github.com/maxviazov/audittrail/internal/group"
	"github.com/maxviazov/audittrail/proto/stream"
)

// recovered runs when goka's tables have recovered, before the first delivery. It writes the states again whose last value
// in the changelog is older than what was found before it: compaction would keep the older one (R7). If the process dies
// here, the next recovery finds them again, since no snapshot is saved before they are written.
func (e *Enricher) recovered(ctx context.Context, s *group.Session) error {
	g := e.generation.Load()
	var producer goka.Producer
	for p, l := range g.lanes {
		stale := l.store.staleStates()
		if len(stale) == 0 {
			continue
		}
		if producer == nil {
			var err error
			if producer, err = e.newProducer(); err != nil {
				return fmt.Errorf("rewrite states: %w", err)
			}
			// Closing waits for what is still on its way; after a failure nobody waits for that.
			defer func() { go func() { _ = producer.Close() }() }()
		}
		if err := rewrite(ctx, producer, l, stale); err != nil {
			return fmt.Errorf("rewrite states of %s/%d: %w", stream.Table, p, err)
		}
		e.metrics.rewritten.Add(float64(len(stale)))
		e.log.Warn().Int32("partition", p).Int("states", len(stale)).Msg("states rewritten that a zombie had overwritten")
	}
	return context.Cause(ctx)
}

// rewrite sends the states and waits for every acknowledgement.
func rewrite(ctx context.Context, producer goka.Producer, l *lane, stale map[string][]byte) error {
	type ack struct {
		key    string
		offset int64
		err    error
	}
	acks := make(chan ack, len(stale))
	for key, value := range stale {
		producer.EmitWithHeaders(stream.Table, key, value, l.headers).ThenWithMessage(func(m *sarama.ProducerMessage, err error) {
			a := ack{key: key, err: err}
			if m != nil {
				a.offset = m.Offset
			}
			acks <- a
		})
	}
	var errs []error
	for range stale {
		select {
		case a := <-acks:
			if a.err != nil {
				errs = append(errs, a.err)
				continue
			}
			l.store.rewritten(a.key, a.offset)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return errors.Join(errs...)
}

// staleStates returns the values to write again.
func (s *store) staleStates() map[string][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	stale := make(map[string][]byte, len(s.stale))
	for key := range s.stale {
		stale[key] = s.states[key].value
	}
	return stale
}

// rewritten notes that the changelog ends with the state that is here, at offset.
func (s *store) rewritten(key string, offset int64) {
	s.mu.Lock()
	delete(s.stale, key)
	s.mu.Unlock()
	_ = s.SetOffset(offset)
}
