package group

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

// consumerGroup is what goka drives: sarama's group, with Consume going on from session to session by itself.
type consumerGroup struct {
	sarama.ConsumerGroup
	wrapper *Wrapper
	kafka   *positions

	errors  chan error // goka listens here; it stays empty, because goka only logs what it gets
	drained chan struct{}
	closing sync.Once
}

func newConsumerGroup(w *Wrapper, inner sarama.ConsumerGroup, kafka *positions) *consumerGroup {
	g := &consumerGroup{ConsumerGroup: inner, wrapper: w, kafka: kafka, errors: make(chan error), drained: make(chan struct{})}
	go g.drain()
	return g
}

func (g *consumerGroup) Errors() <-chan error { return g.errors }

// drain logs what sarama reports beside its calls, until Close. Repetitions go to debug: a broker that is down repeats
// itself.
func (g *consumerGroup) drain() {
	defer close(g.drained)
	var last string
	for err := range g.ConsumerGroup.Errors() {
		g.wrapper.metrics.errors.Inc()
		event := g.wrapper.log.Warn()
		if err.Error() == last {
			event = g.wrapper.log.Debug()
		}
		last = err.Error()
		event.Err(err).Msg("consumer group reports an error")
	}
}

func (g *consumerGroup) Close() (err error) {
	g.closing.Do(func() {
		err = errors.Join(g.ConsumerGroup.Close(), g.kafka.close())
		<-g.drained
		close(g.errors)
	})
	return err
}

// Consume lives through one session after the other. It returns nil when ctx is done, the Refusal after one,
// sarama.ErrClosedConsumerGroup after Close, and the error of a session when RebuildAfter sessions in a row failed; every
// error it returns kills the processor.
//
// Several sessions in one call are sound: sarama calls Setup and Cleanup once for each session, and goka's Cleanup leaves
// the processor as it was before Setup, also when either failed.
func (g *consumerGroup) Consume(ctx context.Context, topics []string, goka sarama.ConsumerGroupHandler) error {
	w := g.wrapper
	joins := retries{min: w.config.RetryMin, max: w.config.RetryMax}
	sessions := joins
	var lastError string
	for {
		how, progress, err := g.session(ctx, topics, goka)
		if how != joinFailed {
			joins.reset()
			lastError = ""
		}
		if how == rebalanced || progress {
			sessions.reset()
		}
		var delay time.Duration
		switch how {
		case stopped:
			return nil
		case refused:
			w.refuse(asRefusal(err))
			return w.Err()
		case closed:
			return err
		case joinFailed:
			delay = joins.next()
			w.metrics.joins.Inc()
			event := w.log.Warn()
			if err.Error() == lastError {
				event = w.log.Debug()
			}
			event.Err(err).Dur("retry_in", delay).Msg("cannot get a session")
			lastError = err.Error()
		case failed, byOwner:
			if how == failed && err != nil && sessions.count+1 >= w.config.RebuildAfter {
				return fmt.Errorf("%d sessions failed without progress: %w", sessions.count+1, err)
			}
			delay = sessions.nextAfterFree()
		}
		if delay > 0 && !sleep(ctx, delay) {
			return nil
		}
	}
}

// session gets one session and lives through it. The error belongs to the ending: a refusal has one.
func (g *consumerGroup) session(ctx context.Context, topics []string, goka sarama.ConsumerGroupHandler) (how ending, progress bool, err error) {
	w := g.wrapper
	attempt, end := context.WithCancelCause(ctx)
	defer end(nil)
	w.setAttempt(end)
	defer w.setAttempt(nil)
	if w.Err() != nil {
		return refused, false, w.Err()
	}
	h := &handler{group: g, goka: goka, end: end}
	err = g.ConsumerGroup.Consume(attempt, topics, h)
	o := outcome{err: err, contextDone: ctx.Err() != nil, refusal: w.Err()}
	s := h.session
	if s != nil {
		o.session, o.cause = true, context.Cause(s.ctx)
		if p := s.cause.Load(); p != nil {
			if o.owner = *p; s.broken.Load() {
				o.owner, err = nil, errors.Join(*p, err)
			}
		}
		progress = s.progress.Load()
	}
	how = o.ending()
	if s != nil {
		w.sessionEnded(s, how, err)
	}
	return how, progress, errors.Join(err, o.fenced())
}
