package enricher

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lovoo/goka/storage"
	"github.com/rs/zerolog"

	"github.com/maxviazov/audittrail/processors/enricher/table"
	"github.com/maxviazov/audittrail/proto/stream"
)

// store is what one partition of the table is in memory: the states by source, and the window folded from all
// accepted ids. It is goka's storage of the partition, and stays when goka's generations go: the next one reads
// only what is behind offset.
//
// Its content may be ahead of the changelog: goka stores a value before the broker has acknowledged it. That is
// safe. What was not acknowledged is not committed, so its message is delivered again, to this process or to
// another; merging by last_offset and by smallest slot makes both come to the same.
type store struct {
	partition int32
	config    Config
	log       zerolog.Logger
	metrics   *metrics

	refuse func(error) // of the stores

	// window is changed under mu, by the goroutine that runs the partition, which alone may read it without.
	window *window

	mu     sync.Mutex // guards everything below
	ids    topicIDs
	states map[string]held
	// offset of the changelog: everything up to it is folded in; noOffset before the first.
	offset int64
	// stale are the sources whose last value in the changelog is older than ours: a zombie wrote it (R7).
	stale map[string]struct{}
	// recovering until goka has read the changelog to its end, since began.
	recovering bool
	began      time.Time
	// foreign says that somebody else wrote behind offset, which therefore stays where it is.
	foreign bool

	life life
}

// topicIDs are the identities of the topics that a store belongs to (R18).
type topicIDs struct {
	events, table [16]byte
}

// held is the latest value of a source, without its accepted ids.
type held struct {
	value   []byte
	version table.Version
}

const noOffset = -1

func newStore(partition int32, c Config, log zerolog.Logger, m *metrics) *store {
	s := &store{partition: partition, config: c, log: log.With().Int32("partition", partition).Logger(), metrics: m}
	s.reset()
	return s
}

// reset empties the store.
func (s *store) reset() {
	s.window = newWindow(s.config.Window.Milliseconds(), s.config.WindowMaxIDs)
	s.states = make(map[string]held)
	s.stale = make(map[string]struct{})
	s.offset = noOffset
	s.life.changes++
}

// Open implements storage.Storage. It is quick: what there is was loaded before (see stores.prepare).
func (s *store) Open() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.life.open = true
	s.recovering, s.foreign, s.began = true, false, time.Now()
	return nil
}

// Close implements storage.Storage. The content stays.
func (s *store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.life.open, s.life.closed = false, time.Now()
	return nil
}

// MarkRecovered implements storage.Storage.
func (s *store) MarkRecovered() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recovering = false
	took := time.Since(s.began)
	s.metrics.recovery.Observe(took.Seconds())
	s.log.Info().Dur("took", took).Int("sources", len(s.states)).Int("window_ids", s.window.len()).Int64("offset", s.offset).
		Int("stale", len(s.stale)).Msg("table recovered")
	return nil
}

// recover folds one value of the changelog.
func (s *store) recover(offset int64, key string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if value == nil {
		// A state is never deleted (R7); a tombstone that somebody wrote is mended like an older value.
		s.markStale(key)
	} else if err := s.recoverValue(key, value); err != nil {
		return err
	}
	s.offset = max(s.offset, offset)
	s.life.changes++
	s.metrics.recovered.Inc()
	return nil
}

func (s *store) recoverValue(key string, value []byte) error {
	next, err := stream.DecodeState(value)
	if err == nil && next.RuleVersion > table.RuleVersion {
		err = fmt.Errorf("rule version %d, this program knows %d: %w", next.RuleVersion, table.RuleVersion, stream.ErrVersion)
	}
	if errors.Is(err, stream.ErrVersion) {
		// A newer program wrote it, and must go on (upgrade order: sink, enricher, emitter).
		err = fmt.Errorf("value of %s/%d: %w", stream.Table, s.partition, err)
		s.refuse(err)
		return err
	}
	if err != nil {
		// An enricher that stops at it would never run again.
		s.metrics.badValues.Inc()
		s.log.Error().Err(err).Msg("value of the table left out")
		s.markStale(key)
		return nil
	}
	version := table.VersionOf(next)
	if version.TopicID == s.ids.events {
		s.fold(next.LastOffset, next.LastIngestedAtMs, next.Accepted)
	}
	if old, ok := s.states[key]; ok && !table.Replaces(old.version, version, s.ids.events) {
		s.stale[key] = struct{}{}
		return nil
	}
	delete(s.stale, key)
	s.put(key, next, version)
	return nil
}

// markStale notes that the changelog does not end with what is here.
func (s *store) markStale(key string) {
	if _, ok := s.states[key]; ok {
		s.stale[key] = struct{}{}
	}
}

func (s *store) put(key string, next *table.State, version table.Version) {
	next.Accepted = nil
	s.states[key] = held{value: stream.EncodeState(next), version: version}
}

// Set implements storage.Storage: a callback writes the state of its source. The window has the accepted ids
// already (see accept).
func (s *store) Set(key string, value []byte) error {
	next, err := stream.DecodeState(value)
	if err != nil {
		return fmt.Errorf("state that was just encoded: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.life.changes++
	s.put(key, next, table.VersionOf(next))
	return nil
}

// accept folds the accepted ids of the message at offset into the window, before the table is written.
func (s *store) accept(offset, ingestedAtMs int64, accepted []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.life.changes++
	s.fold(offset, ingestedAtMs, accepted)
}

func (s *store) fold(offset, ingestedAtMs int64, accepted []byte) {
	s.window.advance(ingestedAtMs)
	for a := range table.AllAccepted(accepted) {
		first := slot{offset, a.Index}
		if entryWithoutSlot {
			first = slot{}
		}
		s.window.add(entry{id: a.ID, fingerprint: a.Fingerprint, first: first, at: ingestedAtMs, enrichment: a.Enrichment})
	}
}

// SetOffset implements storage.Storage. Once the table has recovered goka calls it, on the producer's goroutine,
// for each acknowledged write; what stands at offset is in the store then. In recovery update keeps the offset.
//
// Acknowledgements come in order. One that is not the next one means that somebody else, a zombie, wrote in
// between: the offset then stays below, so that the next recovery reads what that was and can mend it (R7).
func (s *store) SetOffset(offset int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.recovering || s.foreign || offset <= s.offset {
		return nil
	}
	// goka does not report the acknowledgement of a write at offset 0.
	if offset != s.offset+1 && (s.offset != noOffset || offset != 1) {
		s.foreign = true
		s.log.Warn().Int64("offset", s.offset).Int64("acknowledged", offset).Msg("somebody else writes the table; snapshots keep their offset until the next session")
		return nil
	}
	s.offset = offset
	return nil
}

// GetOffset implements storage.Storage.
func (s *store) GetOffset(def int64) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.offset == noOffset {
		return def, nil
	}
	return s.offset, nil
}

// Has implements storage.Storage.
func (s *store) Has(key string) (bool, error) {
	value, err := s.Get(key)
	return value != nil, err
}

// Get implements storage.Storage.
func (s *store) Get(key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.states[key].value, nil
}

// Delete implements storage.Storage. A state is never deleted (R7).
func (s *store) Delete(key string) error {
	return fmt.Errorf("delete the state of %q: states are kept", key)
}

// Iterator implements storage.Storage.
func (s *store) Iterator() (storage.Iterator, error) { return s.IteratorWithRange(nil, nil) }

// IteratorWithRange implements storage.Storage.
func (s *store) IteratorWithRange(start, limit []byte) (storage.Iterator, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	values := make(map[string][]byte, len(s.states))
	for key, h := range s.states {
		values[key] = h.value
	}
	return table.NewIterator(values, start, limit), nil
}
