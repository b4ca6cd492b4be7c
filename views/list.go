package views

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
	"github.com/maxviazov/audittrail/proto/segment"
)

// ListEvents implements QueryService.
func (s *Server) ListEvents(ctx context.Context, req *audittrailv1.ListEventsRequest) (*audittrailv1.ListEventsResponse, error) {
	size, ok := pageSize(req.GetPageSize())
	if !ok {
		return nil, invalid("page_size", "is %d; expected 0 to %d", req.GetPageSize(), maxPage)
	}
	filter, err := ParseFilter(req.GetFilter())
	if err != nil {
		return nil, invalid("filter", "%v", err)
	}
	bound := []string{req.GetFilter(), principal(ctx)}
	cursor := listCursor{below: greatestID}
	if req.GetPageToken() != "" {
		payload, err := s.tokens.open(walkList, req.GetPageToken(), bound...)
		if err == nil {
			cursor, err = decodeListCursor(payload)
		}
		if err != nil {
			return nil, invalid("page_token", "%v", err)
		}
	} else if cursor.sizes, err = s.readSizes(ctx); err != nil {
		return nil, s.fail(ctx, "list events", err)
	}
	page := page{server: s, filter: filter, size: size, deadline: time.Now().Add(s.cfg.PageTime), rows: s.cfg.ScanRows,
		open: make(map[bundleKey]*bundle)}
	next, err := page.fill(ctx, cursor)
	if err != nil {
		return nil, s.fail(ctx, "list events", err)
	}
	resp := &audittrailv1.ListEventsResponse{Events: page.events}
	if next != nil {
		resp.NextPageToken = s.tokens.seal(walkList, next.encode(), bound...)
	}
	return resp, nil
}

// greatestID is above every id: those have version 7.
var greatestID = event.ID{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// readSizes returns the sizes of all logs, in one snapshot.
func (s *Server) readSizes(ctx context.Context) (sizes, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.StatementTime)
	defer cancel()
	rows, err := s.db.Query(ctx, `SELECT log_id, size FROM audittrail.heads ORDER BY log_id`)
	if err != nil {
		return nil, fmt.Errorf("read heads: %w", err)
	}
	var out sizes
	var log int16
	var size int64
	_, err = pgx.ForEachRow(rows, []any{&log, &size}, func() error {
		for len(out) <= int(log) {
			out = append(out, 0)
		}
		out[log] = size
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read heads: %w", err)
	}
	return out, nil
}

// page fills one page of a list.
type page struct {
	server *Server
	filter *Filter
	size   int

	// Budget: when it is used up, the page ends, and the next one goes on where it stood.
	deadline time.Time
	rows     int

	events []*audittrailv1.Event
	bytes  int
	full   bool

	open map[bundleKey]*bundle // open bundles that were read for this page
}

// maxOpen is how many open bundles a page remembers.
const maxOpen = 64

// Statements of the first look at few rows; while few of them are accepted, they grow to this.
const maxStep = 20_000

// fill searches from the cursor on. The cursor it returns is where the next page begins; nil after the last.
func (p *page) fill(ctx context.Context, at listCursor) (*listCursor, error) {
	n := narrow(p.filter)
	n.terms = n.terms.beyondSQL()
	if n.empty() {
		return nil, nil
	}
	walk, err := p.walk(ctx, at, n)
	if err != nil || walk == nil {
		return nil, err
	}
	for step := min(2*p.size, maxStep); ; step = min(2*step, maxStep) {
		stepCtx, cancel := context.WithTimeout(ctx, p.server.cfg.StatementTime)
		found, looked, err := walk.next(stepCtx, min(step, max(p.rows, 1)))
		cancel()
		if err != nil {
			return nil, err
		}
		p.rows -= looked
		p.server.metrics.rowsScanned.Add(float64(looked))
		below, err := p.take(ctx, found, n.terms)
		switch {
		case err != nil:
			return nil, err
		case below != nil: // full, or out of time, before the end of what was found
			return &listCursor{below: *below, sizes: at.sizes}, nil
		case walk.done:
			return nil, nil
		case p.full:
			return &listCursor{below: walk.below, sizes: at.sizes}, nil
		case p.rows <= 0 || !time.Now().Before(p.deadline):
			p.server.metrics.unfinished.Inc()
			return &listCursor{below: walk.below, sizes: at.sizes}, nil
		}
	}
}

// walk prepares the walk through events; nil when the filter names only sources or actions that are not stored.
func (p *page) walk(ctx context.Context, at listCursor, n narrowing) (*candidates, error) {
	s := p.server
	ctx, cancel := context.WithTimeout(ctx, s.cfg.StatementTime)
	defer cancel()
	walk := &candidates{db: s.db, sizes: at.sizes, below: at.below, window: firstWindow}
	low, high := n.bounds()
	walk.low = low
	if high != nil && high.Compare(walk.below) < 0 {
		walk.below = *high
	}
	if n.outcomes != everyOutcome {
		for o := range int16(5) {
			if n.outcomes&(1<<o) != 0 {
				walk.outcomes = append(walk.outcomes, o)
			}
		}
	}
	var err error
	if walk.sources, err = sourceDictionary.resolve(ctx, s.db, n.sources); err != nil {
		return nil, err
	}
	if walk.sources != nil && len(walk.sources) == 0 {
		return nil, nil
	}
	if walk.actions, err = p.actions(ctx, n.actions); err != nil {
		return nil, err
	}
	if walk.actions != nil && len(walk.actions) == 0 {
		return nil, nil
	}
	if walk.leaves, err = s.leaves.read(ctx, s.db); err != nil {
		return nil, err
	}
	return walk, nil
}

// actions are the numbers of actions that are possible; nil for all. Once their dictionary is full, 0 stands for any other.
func (p *page) actions(ctx context.Context, admitted patterns) ([]int32, error) {
	const most = 100_000 // numbers in the dictionary, see the schema
	numbers, err := actionDictionary.resolve(ctx, p.server.db, admitted)
	if err != nil || numbers == nil {
		return nil, err
	}
	var greatest int32
	err = p.server.db.QueryRow(ctx, `SELECT coalesce(max(action_id), 0) FROM audittrail.actions`).Scan(&greatest)
	if err != nil {
		return nil, fmt.Errorf("look up dictionary: %w", err)
	}
	if greatest >= most {
		numbers = append(numbers, 0)
	}
	return numbers, nil
}

// take evaluates candidates in their order and adds those that the filter accepts. When it stops before their end it returns where: what
// it did not look at is below.
func (p *page) take(ctx context.Context, found []location, t terms) (below *event.ID, err error) {
	if len(t) > 0 {
		if found, err = p.possible(ctx, found, t); err != nil {
			return nil, err
		}
	}
	groups := newGrouping(p.filter == nil)
	for i := 0; i < len(found); {
		group, want := groups.cut(found[i:], p.size-len(p.events))
		bundles, err := p.read(ctx, want)
		if err != nil {
			return nil, err
		}
		accepted := len(p.events)
		for j, l := range group {
			e, err := eventAt(l, bundles[l.address().bundleKey])
			if err != nil {
				return nil, err
			}
			if e == nil || !p.filter.Match(e) {
				continue
			}
			if !p.add(e) { // no room: the next page begins with it
				next := successor(l.id)
				return &next, nil
			}
			if p.full && i+j < len(found)-1 {
				return &l.id, nil
			}
		}
		groups.learn(bundles, len(p.events)-accepted, len(group))
		i += len(group)
		if i < len(found) && !time.Now().Before(p.deadline) {
			p.server.metrics.unfinished.Inc()
			return &found[i-1].id, nil
		}
	}
	return nil, nil
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

// read returns bundles. Open ones, which the server does not keep, are remembered for the page: their newest events are spread over all
// its steps, and what is stored after the walk began is not in it anyway.
func (p *page) read(ctx context.Context, want []address) (map[bundleKey]*bundle, error) {
	unread := slices.DeleteFunc(slices.Clone(want), func(a address) bool { return p.open[a.bundleKey] != nil })
	bundles, err := p.server.readBundles(ctx, unread, true)
	if err != nil {
		return nil, err
	}
	for key, b := range bundles {
		if len(b.entries) < segment.BundleSize && len(p.open) < maxOpen {
			p.open[key] = b
		}
	}
	for _, a := range want {
		if b := p.open[a.bundleKey]; b != nil {
			bundles[a.bundleKey] = b
		}
	}
	return bundles, nil
}

// add adds an event unless the page would grow over its bytes.
func (p *page) add(e *audittrailv1.Event) bool {
	size := e.SizeVT() + 8
	if len(p.events) > 0 && p.bytes+size > maxPageBytes {
		p.full = true
		return false
	}
	p.events = append(p.events, e)
	p.bytes += size
	p.full = len(p.events) == p.size
	return true
}

// possible drops the candidates whose bundle cannot hold what the terms ask for.
func (p *page) possible(ctx context.Context, found []location, t terms) ([]location, error) {
	seen := make(map[bundleKey]bool)
	var want []address
	for _, l := range found {
		if a := l.address(); !seen[a.bundleKey] {
			seen[a.bundleKey] = true
			want = append(want, a)
		}
	}
	excluded, err := p.server.excluded(ctx, want, t)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(found, func(l location) bool { return excluded[l.address().bundleKey] }), nil
}
