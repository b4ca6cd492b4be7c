package group

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"
	gometrics "github.com/rcrowley/go-metrics"
	"github.com/rs/zerolog"
)

// Wrapper is the group of one goka processor, kept across the processors that Supervise builds one after the other.
type Wrapper struct {
	config     Config
	log        zerolog.Logger
	metrics    *metrics
	heartbeats gometrics.Meter

	refusal atomic.Pointer[error]
	current atomic.Pointer[Session] // from its Setup until Consume is done with it

	mu      sync.Mutex
	attempt context.CancelCauseFunc // ends the session, or the attempt to get one; nil outside of Consume
	ended   time.Time               // end of the last session; zero before the first
}

// New makes a Wrapper; the error lists every problem of the configuration.
func New(c Config) (*Wrapper, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("group %q: %w", c.Group, err)
	}
	c = c.withDefaults()
	settings := *c.Settings
	c.Settings = &settings
	// The wrapper reads the errors of sarama's group itself.
	c.Settings.Consumer.Return.Errors = true
	var heartbeats gometrics.Meter
	c.Settings.MetricRegistry, heartbeats = countHeartbeats()
	m, err := newMetrics(c.Group, c.Registerer)
	if err != nil {
		return nil, fmt.Errorf("group %q: register metrics: %w", c.Group, err)
	}
	return &Wrapper{config: c, metrics: m, heartbeats: heartbeats, log: c.Log.With().Str("group", c.Group).Logger()}, nil
}

// Options returns what a goka processor needs to run on this wrapper: Builder, ContextWrapper, and the given producer
// behind Producer. nil means goka's default producer.
func (w *Wrapper) Options(producer goka.ProducerBuilder) []goka.ProcessorOption {
	if producer == nil {
		producer = goka.DefaultProducerBuilder
	}
	return []goka.ProcessorOption{
		goka.WithConsumerGroupBuilder(w.Builder()),
		goka.WithContextWrapper(w.ContextWrapper()),
		goka.WithProducerBuilder(w.Producer(producer)),
	}
}

// Builder makes the consumer group, with the wrapper's settings and goka's client id.
func (w *Wrapper) Builder() goka.ConsumerGroupBuilder {
	return func(brokers []string, group, clientID string) (sarama.ConsumerGroup, error) {
		if group != w.config.Group {
			return nil, fmt.Errorf("goka's group is %q, the wrapper's %q", group, w.config.Group)
		}
		settings := *w.config.Settings
		settings.ClientID = clientID
		inner, err := sarama.NewConsumerGroup(brokers, group, &settings)
		if err != nil {
			return nil, err
		}
		return newConsumerGroup(w, inner, &positions{brokers: brokers, group: group, config: &settings}), nil
	}
}

// Err returns the Refusal that stopped the group for good, or nil.
func (w *Wrapper) Err() error {
	if p := w.refusal.Load(); p != nil {
		return *p
	}
	return nil
}

// EndSession ends the session that runs now, as Session.End does; without one only a Refusal has an effect. Whoever works
// for a certain session uses its End instead, so as not to end the next one.
func (w *Wrapper) EndSession(err error) {
	if isRefusal(err) {
		w.refuse(err)
	}
	if s := w.current.Load(); s != nil {
		s.End(err)
	}
}

// Ready says whether messages are delivered now, with tables recovered: for the readiness of a role. It is true for a
// member without claims. False during every rebalance.
func (w *Wrapper) Ready() bool {
	s := w.current.Load()
	return s != nil && s.running.Load() && s.ctx.Err() == nil
}

// refuse records the first refusal and ends whatever Consume does.
func (w *Wrapper) refuse(err error) {
	if w.refusal.CompareAndSwap(nil, &err) {
		w.log.Error().Err(err).Msg("group refuses to run")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.attempt != nil {
		w.attempt(err)
	}
}

// setAttempt makes refuse reach the attempt; nil when Consume is done with it.
func (w *Wrapper) setAttempt(end context.CancelCauseFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.attempt = end
}

func (w *Wrapper) sessionBegins(s *Session) {
	w.mu.Lock()
	ended := w.ended
	w.mu.Unlock()
	if !ended.IsZero() {
		s.onFirst = func() { w.metrics.stall.Observe(time.Since(ended).Seconds()) }
	}
	context.AfterFunc(s.ctx, func() { s.over <- time.Now() })
	s.watching.Go(func() { w.watchHeartbeats(s) })
	w.current.Store(s)
	w.log.Info().Int32("generation", s.Generation()).Str("member", s.MemberID()).Int("claims", len(s.Claims())).Msg("session begins")
}

func (w *Wrapper) sessionRuns(s *Session) {
	w.mu.Lock()
	ended := w.ended
	w.mu.Unlock()
	if !ended.IsZero() {
		w.metrics.rejoining.Observe(time.Since(ended).Seconds())
	}
	s.running.Store(true)
	w.metrics.running.Set(1)
	w.metrics.claims.Set(float64(len(s.Claims())))
}

// sessionEnded is called when sarama is done with the session, so its context is over. It ended when its context did, not
// when goka had stopped its callbacks.
func (w *Wrapper) sessionEnded(s *Session, how ending, err error) {
	at := <-s.over
	s.watching.Wait()
	w.metrics.running.Set(0)
	w.metrics.claims.Set(0)
	w.current.CompareAndSwap(s, nil)
	w.mu.Lock()
	w.ended = at
	w.mu.Unlock()
	w.metrics.sessions.WithLabelValues(how.String()).Inc()
	w.metrics.duration.Observe(at.Sub(s.began).Seconds())
	log := w.log.Info()
	if how == failed || how == byOwner {
		log = w.log.Warn()
	}
	log.Err(err).AnErr("cause", context.Cause(s.ctx)).Int32("generation", s.Generation()).Stringer("ended", how).
		Dur("lasted", at.Sub(s.began)).Msg("session ended")
}
