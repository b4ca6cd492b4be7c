package views

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/maxviazov/audittrail/proto/event"
	"github.com/maxviazov/audittrail/proto/segment"
)

// query is what a walk looks for.
type query struct {
	filter *compiled
	// oldestFirst turns the order round: by id, smallest first.
	oldestFirst bool
	// rows and until bound one call of walk; zero: Config.ScanRows, and Config.PageTime from now.
	rows  int
	until time.Time
	// explain, which may be nil, is added to.
	explain *explanation
	// want is about how many records the caller will take, so that no more is read than needed; 0: all there are.
	want int
}

// found is a record that the filter of a walk accepts. The payload may be kept: it is part of a bundle and never changes. What needs only a
// few fields of it should not decode it.
type found struct {
	location
	payload []byte
}

// step is what a visitor says after a record.
type step uint8

const (
	goOn       step = iota
	stopAfter       // enough: the next call begins after this record
	stopBefore      // no room: the next call begins with this record
)

// walk calls visit for each record that the query accepts and that was stored when the walk began, in order, from the cursor on, until visit
// stops it or the bounds of the call are reached. Then it returns where the next call goes on; nil when nothing follows. It works
// in bounded time and memory, and ends early when ctx does.
//
// ListEvents, CountEvents, AggregateEvents and ExportEvents are all this walk with another visitor.
func (s *Server) walk(ctx context.Context, q query, from cursor, visit func(found) (step, error)) (*cursor, error) {
	if q.filter.impossible() {
		return nil, nil
	}
	w := walker{server: s, query: q, at: from, visit: visit, rows: q.rows, until: q.until, open: make(map[bundleKey]*bundle)}
	if w.rows == 0 {
		w.rows = s.cfg.ScanRows
	}
	if w.until.IsZero() {
		w.until = time.Now().Add(s.cfg.PageTime)
	}
	if w.query.want == 0 {
		w.query.want = maxStep
	}
	if w.query.explain == nil {
		w.query.explain = new(explanation)
	}
	begun := time.Now()
	next, err := w.run(ctx)
	w.query.explain.elapsed += time.Since(begun)
	return next, err
}

// beginWalk is the cursor of a walk through all that is stored now.
func (s *Server) beginWalk(ctx context.Context, now time.Time) (cursor, error) {
	sizes, err := s.readSizes(ctx)
	return cursor{now: now, sizes: sizes}, err
}

// walker is one call of walk.
type walker struct {
	server *Server
	query  query
	at     cursor
	visit  func(found) (step, error)
	rows   int       // of `events` that may still be looked at
	until  time.Time // when the call should end
	taken  int       // records that visit has taken

	open map[bundleKey]*bundle // open bundles that were read for this call
}

// maxOpen is how many open bundles a walk remembers.
const maxOpen = 64

// Statements of the first look at few rows; while few of them are accepted, they grow to this.
const maxStep = 20_000

func (w *walker) run(ctx context.Context) (*cursor, error) {
	list, ok, err := w.bundlesOf(ctx)
	if err != nil {
		return nil, err
	}
	if ok {
		w.server.metrics.walks.WithLabelValues("bundles").Inc()
		next, ok, err := w.byBundles(ctx, list)
		if err != nil || ok {
			return next, err
		}
		w.at = *next
	}
	w.server.metrics.walks.WithLabelValues("rows").Inc()
	return w.byRows(ctx)
}

// byRows walks by rows of `events`.
func (w *walker) byRows(ctx context.Context) (*cursor, error) {
	terms := w.query.filter.narrowing.terms.beyondSQL()
	rows, err := w.candidates(ctx)
	if err != nil || rows == nil {
		return nil, err
	}
	w.query.explain.step("rows of events")
	for limit := min(2*w.query.want, maxStep); ; limit = min(2*limit, maxStep) {
		stepCtx, cancel := context.WithTimeout(ctx, w.server.cfg.StatementTime)
		w.query.explain.leaves += rows.opens()
		list, looked, err := rows.next(stepCtx, min(limit, max(w.rows, 1)))
		cancel()
		if err != nil {
			return nil, err
		}
		w.rows -= looked
		w.server.metrics.rowsScanned.Add(float64(looked))
		w.query.explain.rows += int64(looked)
		stopped, err := w.take(ctx, list, terms)
		switch {
		case err != nil:
			return nil, err
		case stopped != nil && rows.done && *stopped == w.after(list[len(list)-1].id): // with the last one there is
			return nil, nil
		case stopped != nil:
			return w.cursor(*stopped), nil
		case rows.done:
			return nil, nil
		case w.rows <= 0 || !time.Now().Before(w.until):
			w.server.metrics.unfinished.Inc()
			return w.cursor(rows.reached()), nil
		}
	}
}

func (w *walker) cursor(at event.ID) *cursor {
	return &cursor{now: w.at.now, sizes: w.at.sizes, begun: true, at: at, rows: true}
}

// candidates prepares the reading of `events`; nil when the filter names only sources or actions that are not stored.
func (w *walker) candidates(ctx context.Context) (*candidates, error) {
	s, n := w.server, w.query.filter.narrowing
	ctx, cancel := context.WithTimeout(ctx, s.cfg.StatementTime)
	defer cancel()
	rows := &candidates{db: s.db, sizes: w.at.sizes, oldestFirst: w.query.oldestFirst, window: firstWindow}
	rows.low, rows.high = w.bounds()
	if n.outcomes != everyOutcome {
		for o := range int16(5) {
			if n.outcomes&(1<<o) != 0 {
				rows.outcomes = append(rows.outcomes, o)
			}
		}
	}
	var err error
	if rows.sources, err = sourceDictionary.resolve(ctx, s.db, n.sources); err != nil {
		return nil, err
	}
	if rows.sources != nil && len(rows.sources) == 0 {
		return nil, nil
	}
	if rows.actions, err = s.actionNumbers(ctx, n.actions); err != nil {
		return nil, err
	}
	if rows.actions != nil && len(rows.actions) == 0 {
		return nil, nil
	}
	if rows.leaves, err = s.leaves.read(ctx, s.db); err != nil {
		return nil, err
	}
	return rows, nil
}

// take evaluates candidates in their order and shows visit those that the filter accepts. When it stops before their end it returns where
// the next call begins.
func (w *walker) take(ctx context.Context, list []location, t terms) (*event.ID, error) {
	if len(t) > 0 {
		var err error
		if list, err = w.possible(ctx, list, t); err != nil {
			return nil, err
		}
	}
	groups := newGrouping(w.query.filter.everything())
	for i := 0; i < len(list); {
		group, want := groups.cut(list[i:], max(w.query.want-w.taken, 1))
		bundles, err := w.read(ctx, want)
		if err != nil {
			return nil, err
		}
		accepted := 0
		hits := make(map[bundleKey]bool, len(want)) // a segment counts once for each group
		for _, l := range group {
			b := bundles[l.address().bundleKey]
			if b == nil {
				if err := w.gone(ctx, l.address()); err != nil {
					return nil, err
				}
				continue
			}
			payload, err := recordAt(l, b)
			if err != nil {
				return nil, err
			}
			if payload == nil {
				continue
			}
			w.query.explain.examined++
			if ok, err := w.query.filter.match(l.place(), payload); err != nil || !ok {
				if err != nil {
					return nil, err
				}
				continue
			}
			accepted++
			hits[l.address().bundleKey] = true
			verdict, err := w.visit(found{l, payload})
			switch {
			case err != nil:
				return nil, err
			case verdict == stopBefore:
				at := w.before(l.id)
				return &at, nil
			}
			w.taken++
			w.query.explain.accepted++
			if verdict == stopAfter {
				at := w.after(l.id)
				return &at, nil
			}
		}
		w.query.explain.hits += int64(len(hits))
		groups.learn(bundles, accepted, len(group))
		i += len(group)
		if i < len(list) && !time.Now().Before(w.until) {
			w.server.metrics.unfinished.Inc()
			at := w.after(list[i-1].id)
			return &at, nil
		}
	}
	return nil, nil
}

// after and before are where the next call begins, after and with the record of this id.
func (w *walker) after(id event.ID) event.ID {
	if w.query.oldestFirst {
		return successor(id)
	}
	return id
}

func (w *walker) before(id event.ID) event.ID {
	if w.query.oldestFirst {
		return id
	}
	return successor(id)
}

// successor is the next greater id.
func successor(id event.ID) event.ID {
	for i := len(id) - 1; i >= 0; i-- {
		if id[i]++; id[i] != 0 {
			break
		}
	}
	return id
}

// read returns bundles. Open ones, which the server does not keep, are remembered for the call: their newest events are spread over all
// its steps, and what is stored after the walk began is not in it anyway.
func (w *walker) read(ctx context.Context, want []address) (map[bundleKey]*bundle, error) {
	unread := slices.DeleteFunc(slices.Clone(want), func(a address) bool { return w.open[a.bundleKey] != nil })
	bundles, cached, err := w.server.readBundles(ctx, unread, true)
	if err != nil {
		return nil, err
	}
	w.query.explain.cached += int64(len(want) - len(unread) + cached)
	for key, b := range bundles {
		if len(b.entries) < segment.BundleSize && len(w.open) < maxOpen {
			w.open[key] = b
		}
	}
	for _, a := range want {
		if b := w.open[a.bundleKey]; b != nil {
			bundles[a.bundleKey] = b
		}
	}
	w.query.explain.read += int64(len(want))
	return bundles, nil
}

// gone is Server.gone; the explanation says it.
func (w *walker) gone(ctx context.Context, a address) error {
	err := w.server.gone(ctx, a)
	if err == nil {
		w.query.explain.step("left out: days that retention has removed")
	}
	return err
}

// possible drops the candidates whose bundle cannot hold what the terms ask for.
func (w *walker) possible(ctx context.Context, list []location, t terms) ([]location, error) {
	seen := make(map[bundleKey]bool)
	var want []address
	for _, l := range list {
		if a := l.address(); !seen[a.bundleKey] {
			seen[a.bundleKey] = true
			want = append(want, a)
		}
	}
	excluded, err := w.server.excluded(ctx, want, t)
	if err != nil {
		return nil, err
	}
	w.query.explain.considered += int64(len(want))
	return slices.DeleteFunc(list, func(l location) bool { return excluded[l.address().bundleKey] }), nil
}

// actionNumbers are the numbers of actions that are possible; nil for all. Once their dictionary is full, 0 stands for any other.
func (s *Server) actionNumbers(ctx context.Context, admitted patterns) ([]int32, error) {
	numbers, err := actionDictionary.resolve(ctx, s.db, admitted)
	if err != nil || numbers == nil {
		return nil, err
	}
	var greatest int32
	err = s.db.QueryRow(ctx, `SELECT coalesce(max(action_id), 0) FROM audittrail.actions`).Scan(&greatest)
	if err != nil {
		return nil, fmt.Errorf("look up dictionary: %w", err)
	}
	if greatest >= event.MaxNamedActions {
		numbers = append(numbers, 0)
	}
	return numbers, nil
}
