package sink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lovoo/goka"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/maxviazov/audittrail/internal/group"
	"github.com/maxviazov/audittrail/processors/sink/schema"
	"github.com/maxviazov/audittrail/proto/stream"
)

// Sink is one replica. Make one with New, run it once.
type Sink struct {
	cfg     Config
	log     zerolog.Logger
	metrics *metrics
	goka    stream.Goka
	wrapper *group.Wrapper
	store   *store
	dead    *deadTopic

	current atomic.Pointer[batcher] // of the session that runs, or of the last one

	watches sync.WaitGroup // of all sessions

	adminMu sync.Mutex
	admin   *stream.Admin
}

// New makes a sink; nothing is connected yet. The error lists every problem of the configuration. registerer may be nil.
func New(cfg Config, log zerolog.Logger, registerer prometheus.Registerer) (*Sink, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("sink: %w", err)
	}
	s := &Sink{cfg: cfg.withDefaults(), log: log.With().Str("role", "sink").Logger(), dead: newDeadTopic(cfg.Kafka)}
	s.goka = stream.Goka{Settings: cfg.Kafka, Log: s.log}
	var err error
	if s.metrics, err = newMetrics(registerer); err != nil {
		return nil, fmt.Errorf("sink: register metrics: %w", err)
	}
	s.wrapper, err = group.New(group.Config{Group: string(stream.SinkGroup), Settings: stream.GroupConfig(cfg.Kafka, cfg.Group), Log: s.log,
		Registerer: registerer, Positions: s.positions})
	if err != nil {
		return nil, fmt.Errorf("sink: %w", err)
	}
	if s.store, err = openStore(cfg.DSN, s.cfg.TransactionTimeout, cfg.ConfigurePool); err != nil {
		return nil, fmt.Errorf("sink: %w", err)
	}
	return s, nil
}

// Run stores until ctx ends, then finishes the transaction under way and returns nil. Kafka or PostgreSQL may be away at any time. An error is a
// group.Refusal: something that trying again cannot mend.
func (s *Sink) Run(ctx context.Context) error {
	graph := goka.DefineGroup(stream.SinkGroup, goka.Input(stream.Records, stream.BytesCodec{}, group.Guard(s.callback)))
	err := s.wrapper.Supervise(ctx, func() (*goka.Processor, error) {
		options := append(s.goka.ProcessorOptions(stream.DeadLetters), s.wrapper.Options(s.goka.ProducerBuilder(stream.DeadLetters))...)
		return goka.NewProcessor(s.cfg.Kafka.Brokers, graph, options...)
	})
	if b := s.current.Load(); b != nil {
		<-b.done
	}
	s.watches.Wait()
	s.store.db.Close()
	return errors.Join(err, s.dead.close(), s.closeAdmin())
}

// Ready says whether the sink has its partitions and stores what comes.
func (s *Sink) Ready() bool { return s.wrapper.Ready() }

// callback hands a message to the batcher of its session. It is finished when its transaction is.
func (s *Sink) callback(ctx goka.Context, message any) {
	b := s.current.Load()
	if b == nil || b.session != group.SessionFrom(ctx.Context()) {
		ctx.Fail(errStale)
	}
	value, _ := message.([]byte) // nil for a tombstone, which is malformed
	it, err := newItem(ctx.Partition(), ctx.Offset(), value)
	if err != nil {
		ctx.Fail(err)
	}
	it.commit = ctx.DeferCommit()
	if !b.queue.put(b.session.Context(), it) {
		it.commit(errOver)
	}
}

// positions takes the logs of a new session over and sets where they start (R10). It waits for PostgreSQL as long as it takes; heartbeats go on.
func (s *Sink) positions(ctx context.Context, session *group.Session) error {
	if old := s.current.Load(); old != nil {
		select {
		case <-old.done: // its last transaction is finished or given up
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.metrics.forget()
	var logs []int32
	for _, c := range session.Claims() {
		logs = append(logs, c.Partition)
	}
	slices.Sort(logs)
	wait, last := 50*time.Millisecond, ""
	for {
		err := s.takeOver(ctx, session, logs)
		if isLocked(err) {
			err = errors.Join(err, s.store.evict(ctx, logs))
		}
		var refusal group.Refusal
		if err == nil || errors.As(err, &refusal) || ctx.Err() != nil {
			return err
		}
		event := s.log.Warn()
		if err.Error() == last {
			event = s.log.Debug()
		}
		event.Err(err).Dur("retry_in", wait).Msg("cannot take the logs over yet")
		last = err.Error()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		wait = min(2*wait, time.Second)
	}
}

func (s *Sink) takeOver(ctx context.Context, session *group.Session, logs []int32) error {
	if err := schema.Check(ctx, s.store.db); errors.Is(err, schema.ErrNewer) {
		return group.Refusal{Err: err} // in a rolling upgrade: those that are upgraded already take the logs, which would wait here
	} else if err != nil {
		return err
	}
	now, err := s.topics(ctx)
	if err != nil {
		return err
	}
	b := newBatcher(s, session, now)
	heads, err := s.store.claim(ctx, b.owner, logs, now, session.LogRange)
	if err != nil {
		return err
	}
	for log, h := range heads {
		// An enricher that starts meanwhile must know of the gaps; what else is missing the watch finds out.
		session.SetMetadata(stream.Records, log, missing(h.seen(), false, h.gaps.spans(), 0, stream.NoCommit).String())
		position := h.position
		if seekToCommit {
			if commit, ok, err := session.Committed(stream.Records, log); err == nil && ok {
				position = commit
			}
		}
		if err := session.SetPosition(stream.Records, log, position); err != nil {
			return err // the log lost its start in this moment: claim again
		}
	}
	s.current.Store(b)
	b.start(heads)
	s.watches.Go(b.watch)
	return nil
}

// topics asks Kafka for what R18 compares.
func (s *Sink) topics(ctx context.Context) (topics, error) {
	admin, err := s.getAdmin(ctx)
	if err != nil {
		return topics{}, err
	}
	var t topics
	if t.events, t.partitions, err = admin.TopicID(ctx, stream.Events); err != nil {
		return t, err
	}
	var n int32
	if t.records, n, err = admin.TopicID(ctx, stream.Records); err != nil {
		return t, err
	}
	if n != t.partitions {
		return t, group.Refusef("%s has %d partitions, %s has %d: they must be equal", stream.Events, t.partitions, stream.Records, n)
	}
	return t, nil
}

func (s *Sink) getAdmin(ctx context.Context) (*stream.Admin, error) {
	s.adminMu.Lock()
	defer s.adminMu.Unlock()
	if s.admin == nil {
		a, err := stream.NewAdmin(ctx, s.cfg.Kafka)
		if err != nil {
			return nil, err
		}
		s.admin = a
	}
	return s.admin, nil
}

func (s *Sink) closeAdmin() error {
	s.adminMu.Lock()
	defer s.adminMu.Unlock()
	if s.admin == nil {
		return nil
	}
	return s.admin.Close()
}
