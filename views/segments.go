package views

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/maxviazov/audittrail/proto/segment"
)

// bundleKey names a bundle; where it stands in `segments` one also needs the day.
type bundleKey struct {
	log    int16
	bundle int64
}

// address is where a bundle stands. It is addressed by its day, so that PostgreSQL opens one leaf and not all.
type address struct {
	bundleKey
	day int16
}

// bundle is decoded: the entries from index 256 * bundle on, all 256 or, while it is open, those that were stored.
type bundle struct{ entries []segment.Entry }

func (b *bundle) bytes() int64 {
	n := int64(len(b.entries)) * 32
	for _, e := range b.entries {
		n += int64(len(e.Payload)) + 3
	}
	return n
}

// bundleCache keeps complete bundles, which never change, and filters of bundles. Most of the memory is for the newest bundles of every log,
// which a long search through old ones does not drive out.
type bundleCache struct {
	newest  *lru[bundleKey, *bundle]
	others  *lru[bundleKey, *bundle]
	filters *lru[bundleKey, segment.Filter]
	metrics *metrics

	mu    sync.Mutex
	heads map[int16]int64 // greatest bundle seen of each log
	mean  int64           // about the bytes of a bundle
}

func newBundleCache(budget int64, m *metrics) *bundleCache {
	return &bundleCache{
		newest:  newLRU[bundleKey, *bundle](budget * 5 / 8),
		others:  newLRU[bundleKey, *bundle](budget * 2 / 8),
		filters: newLRU[bundleKey, segment.Filter](budget * 1 / 8),
		metrics: m,
		heads:   make(map[int16]int64),
	}
}

func (c *bundleCache) get(key bundleKey) (*bundle, bool) {
	if b, ok := c.newest.get(key); ok {
		return b, true
	}
	return c.others.get(key)
}

// put keeps a bundle. One of the newest has a place as long as every log has its share of them.
func (c *bundleCache) put(key bundleKey, b *bundle) {
	bytes := b.bytes()
	c.mu.Lock()
	c.heads[key.log] = max(c.heads[key.log], key.bundle)
	if c.mean == 0 {
		c.mean = bytes
	}
	c.mean += (bytes - c.mean) / 64
	share := c.newest.budget / max(c.mean+entryOverhead, 1) / int64(len(c.heads))
	newest := c.heads[key.log]-key.bundle < max(share, 1)
	c.mu.Unlock()
	if newest {
		c.newest.put(key, b, bytes)
	} else {
		c.others.put(key, b, bytes)
	}
	c.metrics.bundleBytes.Set(float64(c.newest.size() + c.others.size() + c.filters.size()))
}

// Statements on bundles. Those of `segments` are sent once for each day.
const (
	tailSQL = `SELECT t.log_id, t.first_index, t.data
		FROM unnest($1::int2[], $2::int8[]) AS want (log_id, bundle)
		JOIN audittrail.tail t ON t.log_id = want.log_id AND t.first_index >= want.bundle * 256 AND t.first_index < want.bundle * 256 + 256
		ORDER BY t.log_id, t.first_index`
	segmentsSQL = `SELECT s.log_id, s.bundle, s.data
		FROM unnest($2::int2[], $3::int8[]) AS want (log_id, bundle)
		JOIN audittrail.segments s ON s.day = $1 AND s.log_id = want.log_id AND s.bundle = want.bundle`
	filtersSQL = `SELECT s.log_id, s.bundle, s.filter
		FROM unnest($2::int2[], $3::int8[]) AS want (log_id, bundle)
		JOIN audittrail.segments s ON s.day = $1 AND s.log_id = want.log_id AND s.bundle = want.bundle`
)

// readBundles returns bundles from memory or PostgreSQL, and how many came from memory; those that are nowhere are missing in the result. With
// keep, complete ones stay in memory.
//
// The tail is read before `segments`, each statement with a snapshot of its own: a bundle that is completed in between is found
// twice at worst, never missed, because its tail rows go in the transaction that brings its segment.
func (s *Server) readBundles(ctx context.Context, want []address, keep bool) (found map[bundleKey]*bundle, cached int, err error) {
	found = make(map[bundleKey]*bundle, len(want))
	missing := want[:0:0]
	for _, a := range want {
		if b, ok := s.bundles.get(a.bundleKey); ok {
			found[a.bundleKey] = b
		} else {
			missing = append(missing, a)
		}
	}
	cached = len(found)
	s.metrics.bundles.WithLabelValues("hit").Add(float64(cached))
	s.metrics.bundles.WithLabelValues("miss").Add(float64(len(missing)))
	if len(missing) == 0 {
		return found, cached, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.StatementTime)
	defer cancel()
	var batch pgx.Batch
	var any addresses
	for _, a := range missing {
		any.add(a)
	}
	batch.Queue(tailSQL, any.logs, any.bundles).Query(func(rows pgx.Rows) error { return s.takeTail(rows, found) })
	queueByDay(&batch, segmentsSQL, missing, func(rows pgx.Rows) error { return s.takeSegments(rows, found, keep) })
	if err := s.db.SendBatch(ctx, &batch).Close(); err != nil {
		return nil, 0, fmt.Errorf("read bundles: %w", err)
	}
	return found, cached, nil
}

// takeTail puts the rows of open bundles together.
func (s *Server) takeTail(rows pgx.Rows, found map[bundleKey]*bundle) error {
	var log int16
	var first int64
	var data []byte
	_, err := pgx.ForEachRow(rows, []any{&log, &first, &data}, func() error {
		entries, err := segment.Decode(data)
		if err != nil {
			return damaged(err, "tail of log %d at %d", log, first)
		}
		key := bundleKey{log, first / segment.BundleSize}
		b := found[key]
		if b == nil {
			b = new(bundle)
			found[key] = b
		}
		if int64(len(b.entries)) != first%segment.BundleSize {
			return damaged(nil, "tail of log %d has a hole before %d", log, first)
		}
		b.entries = append(b.entries, entries...)
		s.metrics.segmentsRead.Inc()
		return nil
	})
	return err
}

func (s *Server) takeSegments(rows pgx.Rows, found map[bundleKey]*bundle, keep bool) error {
	var key bundleKey
	var data []byte
	_, err := pgx.ForEachRow(rows, []any{&key.log, &key.bundle, &data}, func() error {
		entries, err := segment.Decode(data)
		switch {
		case err != nil:
			return damaged(err, "bundle %d of log %d", key.bundle, key.log)
		case len(entries) != segment.BundleSize:
			return damaged(nil, "bundle %d of log %d has %d entries", key.bundle, key.log, len(entries))
		}
		b := &bundle{entries: entries}
		found[key] = b
		if keep {
			s.bundles.put(key, b)
		}
		s.metrics.segmentsRead.Inc()
		return nil
	})
	return err
}

// excluded says which bundles cannot hold what the terms ask for. Bundles without a filter, open ones above all, are not excluded.
func (s *Server) excluded(ctx context.Context, want []address, t terms) (map[bundleKey]bool, error) {
	out := make(map[bundleKey]bool)
	decide := func(key bundleKey, f segment.Filter) {
		if !t.admits(f) {
			out[key] = true
		}
	}
	missing := want[:0:0]
	for _, a := range want {
		if f, ok := s.bundles.filters.get(a.bundleKey); ok {
			decide(a.bundleKey, f)
		} else {
			missing = append(missing, a)
		}
	}
	if len(missing) == 0 {
		return out, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.StatementTime)
	defer cancel()
	var batch pgx.Batch
	queueByDay(&batch, filtersSQL, missing, func(rows pgx.Rows) error {
		var key bundleKey
		var filter []byte
		_, err := pgx.ForEachRow(rows, []any{&key.log, &key.bundle, &filter}, func() error {
			s.bundles.filters.put(key, filter, int64(len(filter)))
			decide(key, filter)
			return nil
		})
		return err
	})
	if err := s.db.SendBatch(ctx, &batch).Close(); err != nil {
		return nil, fmt.Errorf("read filters: %w", err)
	}
	return out, nil
}

// addresses are the arrays that the statements take.
type addresses struct {
	logs    []int16
	bundles []int64
}

func (b *addresses) add(a address) {
	b.logs = append(b.logs, a.log)
	b.bundles = append(b.bundles, a.bundle)
}

func queueByDay(batch *pgx.Batch, sql string, want []address, take func(pgx.Rows) error) {
	days := make(map[int16]*addresses)
	for _, a := range want {
		if days[a.day] == nil {
			days[a.day] = new(addresses)
		}
		days[a.day].add(a)
	}
	for day, d := range days {
		batch.Queue(sql, day, d.logs, d.bundles).Query(take)
	}
}

func damaged(cause error, format string, args ...any) error {
	return errors.Join(fmt.Errorf("%w: %s", errDamaged, fmt.Sprintf(format, args...)), cause)
}
