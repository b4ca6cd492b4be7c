package enricher

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/lovoo/goka"
	"github.com/lovoo/goka/storage"
	"github.com/rs/zerolog"

	"github.com/maxviazov/audittrail/internal/group"
	"github.com/maxviazov/audittrail/processors/enricher/table"
	"github.com/maxviazov/audittrail/proto/stream"
)

// idleAfter is how long the content of a partition that went to another replica stays in memory.
const idleAfter = 5 * time.Minute

// life is what the keeper of the stores knows of one.
type life struct {
	loaded  bool      // the snapshot was looked for
	open    bool      // goka uses it
	closed  time.Time // when goka last closed it
	changes uint64    // counts changes
	saved   uint64    // changes when the last snapshot was made
	savedAt time.Time
}

// stores keeps the stores of all partitions, across goka's generations and processors.
type stores struct {
	config  Config
	log     zerolog.Logger
	metrics *metrics

	mu      sync.Mutex // guards all and refusal
	all     map[int32]*store
	refusal error // a value in the table that this program does not know
}

func newStores(c Config, log zerolog.Logger, m *metrics) *stores {
	return &stores{config: c, log: log, metrics: m, all: make(map[int32]*store)}
}

// builder is goka's storage builder. The joined registry is small and read anew each time.
func (s *stores) builder(topic string, partition int32) (storage.Storage, error) {
	if topic != stream.Table {
		return table.NewStorage(), nil
	}
	return s.get(partition), nil
}

// update is goka's update callback of the processor: it gets each value that is read from a table's changelog, the joined
// registry's included. What it is given as the storage is goka's own wrapping.
func (s *stores) update(ctx goka.UpdateContext, to storage.Storage, key string, value []byte) error {
	if ctx.Topic() == stream.Table {
		return s.get(ctx.Partition()).recover(ctx.Offset(), key, value)
	}
	return goka.DefaultUpdate(ctx, to, key, value)
}

func (s *stores) get(partition int32) *store {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, ok := s.all[partition]
	if !ok {
		st = newStore(partition, s.config, s.log, s.metrics)
		st.refuse = s.refuse
		s.all[partition] = st
	}
	return st
}

// refuse records that the program must not run; goka flattens the error that the store returns.
func (s *stores) refuse(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusal = errors.Join(s.refusal, err)
}

func (s *stores) refused() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refusal == nil {
		return nil
	}
	return group.Refusal{Err: s.refusal}
}

// prepare makes the store of a partition ready before goka opens it: what belongs to other topics, or lies
// beyond the end of the changelog, is thrown away (the topic was recreated or rolled back), and a snapshot is
// loaded where there is nothing in memory.
func (s *stores) prepare(partition int32, ids topicIDs, changelog group.LogRange) *store {
	st := s.get(partition)
	st.mu.Lock()
	defer st.mu.Unlock()
	st.life.closed = time.Now() // not to be forgotten before goka opens it
	if st.life.loaded && st.fits(ids, changelog) != nil {
		st.log.Warn().AnErr("reason", st.fits(ids, changelog)).Msg("table in memory thrown away")
		st.reset()
		st.life.loaded = false
	}
	st.ids = ids
	if st.life.loaded {
		return st
	}
	st.life.loaded = true
	if s.config.SnapshotDir == "" {
		return st
	}
	began := time.Now()
	err := st.load(s.config.SnapshotDir)
	if err == nil {
		err = st.fits(ids, changelog)
	}
	switch {
	case errors.Is(err, errNoSnapshot):
		st.log.Info().Msg("no snapshot; the whole changelog is read")
	case err != nil:
		st.reset()
		st.ids = ids
		st.log.Warn().Err(err).Msg("snapshot ignored; the whole changelog is read")
	default:
		st.life.saved, st.life.savedAt = st.life.changes, began
		st.log.Info().Dur("took", time.Since(began)).Int("sources", len(st.states)).Int("window_ids", st.window.len()).
			Int64("offset", st.offset).Int64("end", changelog.End).Msg("snapshot loaded")
	}
	return st
}

// fits says whether the content belongs to these topics and this changelog.
func (s *store) fits(ids topicIDs, changelog group.LogRange) error {
	if s.ids != ids {
		return errors.New("it belongs to topics that were there before")
	}
	if s.offset >= changelog.End {
		return fmt.Errorf("its offset %d is not below the end %d of the changelog", s.offset, changelog.End)
	}
	return nil
}

// keep saves snapshots when they are due, and forgets partitions that went elsewhere, until ctx is done.
func (s *stores) keep(ctx context.Context) {
	s.sweep()
	tick := time.NewTicker(min(s.config.SnapshotInterval, 10*time.Second))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for _, st := range s.list() {
				s.tend(ctx, st)
			}
		}
	}
}

// sweep removes half-written snapshots of processes that were killed.
func (s *stores) sweep() {
	if s.config.SnapshotDir == "" {
		return
	}
	left, _ := filepath.Glob(filepath.Join(s.config.SnapshotDir, "enricher-*.tmp")) // fails on a bad pattern only
	for _, path := range left {
		if info, err := os.Stat(path); err == nil && time.Since(info.ModTime()) > time.Hour {
			if err := os.Remove(path); err != nil {
				s.log.Warn().Err(err).Msg("half-written snapshot not removed")
			}
		}
	}
}

func (s *stores) tend(ctx context.Context, st *store) {
	st.mu.Lock()
	l := st.life
	ids := st.window.len()
	st.mu.Unlock()
	if l.open {
		s.metrics.windowIDs.WithLabelValues(label(st.partition)).Set(float64(ids))
	}
	if st.due() && (time.Since(l.savedAt) >= s.config.SnapshotInterval || !l.open && time.Since(l.closed) >= idleAfter) {
		s.save(ctx, st)
	}
	if !l.open && !l.closed.IsZero() && time.Since(l.closed) >= idleAfter {
		s.forget(st)
	}
}

// due says whether there is something to save. Not while a state must be written again: the next recovery would not find it
// behind the snapshot's offset (R7).
func (s *store) due() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.life.changes != s.life.saved && len(s.stale) == 0 && s.life.loaded
}

// forget frees the memory of a partition, unless goka has opened it meanwhile.
func (s *stores) forget(st *store) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.life.open || !st.life.loaded {
		return
	}
	st.reset()
	st.life = life{closed: st.life.closed}
	s.metrics.windowIDs.DeleteLabelValues(label(st.partition))
	s.metrics.snapshotAt.DeleteLabelValues(label(st.partition))
}

// close saves what changed since the last snapshots, for at most ten seconds: what is missing makes the next
// start longer and nothing else.
func (s *stores) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, st := range s.list() {
		if st.due() {
			s.save(ctx, st)
		}
	}
}

func (s *stores) save(ctx context.Context, st *store) {
	if s.config.SnapshotDir == "" {
		return
	}
	began := time.Now()
	info, err := st.save(ctx, s.config.SnapshotDir)
	if err != nil {
		if ctx.Err() == nil {
			st.log.Warn().Err(err).Msg("snapshot not saved")
		}
		return
	}
	s.metrics.snapshotAt.WithLabelValues(label(st.partition)).Set(float64(began.UnixMilli()) / 1000)
	st.log.Info().Dur("took", time.Since(began)).Int64("offset", info.offset).Int("sources", info.sources).Int("window_ids", info.ids).
		Int64("bytes", info.bytes).Msg("snapshot saved")
}

func (s *stores) list() []*store {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.all))
}
