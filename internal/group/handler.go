package group

import (
	"context"
	"fmt"

	"github.com/IBM/sarama"
)

// handler stands between sarama and goka's handler for one call of Consume, that is for one session at most.
type handler struct {
	group *consumerGroup
	goka  sarama.ConsumerGroupHandler
	end   context.CancelCauseFunc // ends the session, or the attempt to get one

	session   *Session // set by Setup; Consume reads it after sarama is done
	gokaSetup bool     // goka's Setup was called, so its Cleanup must be
}

// Setup runs on the goroutine of Consume; heartbeats go on meanwhile. A process that dies here has committed nothing but,
// perhaps, positions that Positions set.
func (h *handler) Setup(inner sarama.ConsumerGroupSession) error {
	w := h.group.wrapper
	s := newSession(inner, h.group.kafka, h.end, w.refuse)
	h.session = s
	w.sessionBegins(s)
	if err := w.config.positions(s); err != nil {
		return fmt.Errorf("find positions: %w", err)
	}
	s.started.Store(true)
	// goka's Setup with a context that is done leaves its tables without a storage.
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	h.gokaSetup = true
	if err := h.goka.Setup(gokaSession{inner, s}); err != nil {
		return fmt.Errorf("set up processor: %w", err)
	}
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	if err := w.config.recovered(s); err != nil {
		return fmt.Errorf("after recovery: %w", err)
	}
	w.sessionRuns(s)
	return nil
}

// Cleanup waits until goka's callbacks have stopped; sarama commits one last time after it.
func (h *handler) Cleanup(inner sarama.ConsumerGroupSession) error {
	h.session.running.Store(false)
	if !h.gokaSetup {
		return nil
	}
	return h.goka.Cleanup(gokaSession{inner, h.session})
}

func (h *handler) ConsumeClaim(inner sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	return h.goka.ConsumeClaim(gokaSession{inner, h.session}, claim)
}

// gokaSession is the session as goka sees it. goka binds each message's commit to the session it was set up with.
type gokaSession struct {
	sarama.ConsumerGroupSession
	s *Session
}

func (g gokaSession) Context() context.Context { return g.s.ctx }

// MarkOffset is goka's way to say that the message at offset-1 is finished.
func (g gokaSession) MarkOffset(topic string, partition int32, offset int64, _ string) {
	g.s.finish(topic, partition, offset-1)
}

func (g gokaSession) MarkMessage(m *sarama.ConsumerMessage, _ string) {
	g.s.finish(m.Topic, m.Partition, m.Offset)
}
