package views

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/maxviazov/audittrail/internal/clock"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
)

const (
	defaultContextWindow = time.Hour
	maxContextWindow     = 30 * 24 * time.Hour
	defaultContextSize   = 10
	maxContextSize       = 100
	// maxContextBytes bounds the events of one side of one relation, so that the whole answer stays below 4 MiB.
	maxContextBytes = 384 << 10
)

// GetEventContext implements QueryService.
func (s *Server) GetEventContext(ctx context.Context, req *audittrailv1.GetEventContextRequest) (*audittrailv1.GetEventContextResponse, error) {
	id, err := event.ParseID(req.GetId())
	if err != nil {
		return nil, invalid("id", "%v", err)
	}
	window := defaultContextWindow
	if w := req.GetWindow(); w != nil {
		if window = w.AsDuration(); w.CheckValid() != nil || window < time.Second || window > maxContextWindow {
			return nil, invalid("window", "expected 1 s to 30 days")
		}
	}
	size := int(req.GetPageSize())
	switch {
	case size == 0:
		size = defaultContextSize
	case size < 0 || size > maxContextSize:
		return nil, invalid("page_size", "is %d; expected 0 to %d", size, maxContextSize)
	}
	wanted, err := relationsOf(req)
	if err != nil {
		return nil, err
	}
	events, err := s.events(ctx, []event.ID{id})
	if err != nil {
		return nil, s.fail(ctx, "get event context", err)
	}
	resp := &audittrailv1.GetEventContextResponse{Event: events[0]}
	begin, err := s.beginWalk(ctx, clock.Now())
	if err != nil {
		return nil, s.fail(ctx, "get event context", err)
	}
	begin.begun = true
	// All searches together take the time of a page, not each.
	around := around{server: s, id: id, event: events[0], window: window, size: size, begin: begin, until: time.Now().Add(s.cfg.PageTime)}
	g, walks := errgroup.WithContext(ctx)
	g.SetLimit(2) // of the connections that all callers share
	for _, r := range wanted {
		filter := relationFilter(events[0], r)
		if filter == "" {
			continue
		}
		related := &audittrailv1.RelatedEvents{Relation: r, Filter: filter}
		resp.Related = append(resp.Related, related)
		g.Go(func() error { return around.find(walks, related) })
	}
	if err := g.Wait(); err != nil {
		return nil, s.fail(ctx, "get event context", err)
	}
	return resp, nil
}

var everyRelation = []audittrailv1.Relation{
	audittrailv1.Relation_RELATION_TRACE, audittrailv1.Relation_RELATION_SESSION, audittrailv1.Relation_RELATION_RESOURCE, audittrailv1.Relation_RELATION_ACTOR,
}

// relationsOf reads what a request asks for. Errors are for the caller.
func relationsOf(req *audittrailv1.GetEventContextRequest) ([]audittrailv1.Relation, error) {
	for i, r := range req.GetRelations() {
		if !slices.Contains(everyRelation, r) {
			return nil, invalid(fmt.Sprintf("relations[%d]", i), "%v is no relation", r)
		}
		if slices.Contains(req.GetRelations()[:i], r) {
			return nil, invalid(fmt.Sprintf("relations[%d]", i), "%v is asked for twice", r)
		}
	}
	if len(req.GetRelations()) == 0 {
		return everyRelation, nil
	}
	return req.GetRelations(), nil
}

// relationFilter is the filter of what shares something with an event; empty when the event does not have it.
func relationFilter(e *audittrailv1.Event, r audittrailv1.Relation) string {
	switch {
	case r == audittrailv1.Relation_RELATION_TRACE && e.GetContext().GetTraceId() != "":
		return "context.trace_id = " + quote(e.GetContext().GetTraceId())
	case r == audittrailv1.Relation_RELATION_SESSION && e.GetActor().GetSession() != "":
		return "actor.session = " + quote(e.GetActor().GetSession())
	case r == audittrailv1.Relation_RELATION_RESOURCE && len(e.GetResources()) > 0 && e.GetResources()[0].GetId() != "":
		main := e.GetResources()[0]
		return "resources.type = " + quote(main.GetType()) + " AND resources.id = " + quote(main.GetId())
	case r == audittrailv1.Relation_RELATION_ACTOR && e.GetActor().GetId() != "":
		filter := "actor.id = " + quote(e.GetActor().GetId())
		if e.GetActor().GetType() != "" {
			filter += " AND actor.type = " + quote(e.GetActor().GetType())
		}
		return filter
	}
	return ""
}

// around searches before and after one event.
type around struct {
	server *Server
	id     event.ID
	event  *audittrailv1.Event
	window time.Duration
	size   int
	begin  cursor
	until  time.Time
}

// find fills in one relation.
func (a *around) find(ctx context.Context, into *audittrailv1.RelatedEvents) error {
	at := a.event.GetOccurredAt().AsTime()
	before, beforeCut, err := a.side(ctx, into, false, a.id, compareGreaterEqual, at.Add(-a.window))
	if err != nil {
		return err
	}
	after, afterCut, err := a.side(ctx, into, true, successor(a.id), compareLessEqual, at.Add(a.window))
	if err != nil {
		return err
	}
	into.Before, into.After, into.Partial = before, after, beforeCut || afterCut
	return nil
}

// side returns the nearest events of one side, and whether the search was cut before it had as many as were asked for.
func (a *around) side(ctx context.Context, r *audittrailv1.RelatedEvents, oldestFirst bool, from event.ID, c compare, bound time.Time) (
	near []*audittrailv1.Event, cut bool, err error,
) {
	filter, err := a.server.compile(ctx, r.GetFilter(), a.begin.now)
	if err != nil {
		return nil, false, err
	}
	filter = filter.filter.and(&Filter{root: &node{kind: nodeTest, test: test{field: fieldOccurredAt, compare: c, time: bound}}}).compile()
	begin := a.begin
	begin.at = from
	bytes := 0
	full := false
	next, err := a.server.walk(ctx, query{filter: filter, oldestFirst: oldestFirst, until: a.until, want: a.size}, begin, func(f found) (step, error) {
		e, err := f.event()
		if err != nil || !a.shares(r.GetRelation(), e) {
			return goOn, err
		}
		if bytes += e.SizeVT(); bytes > maxContextBytes && len(near) > 0 {
			return stopBefore, nil
		}
		near = append(near, e)
		if full = len(near) == a.size; full {
			return stopAfter, nil
		}
		return goOn, nil
	})
	return near, next != nil && !full, err
}

// shares decides what the filter cannot say: that type and id are those of one resource.
func (a *around) shares(r audittrailv1.Relation, e *audittrailv1.Event) bool {
	if r != audittrailv1.Relation_RELATION_RESOURCE {
		return true
	}
	main := a.event.GetResources()[0]
	return slices.ContainsFunc(e.GetResources(), func(o *audittrailv1.Resource) bool {
		return o.GetType() == main.GetType() && o.GetId() == main.GetId()
	})
}

// quote writes a value as a filter does.
func quote(value string) string {
	out := []byte{'"'}
	for i := range len(value) {
		if value[i] == '"' || value[i] == '\\' {
			out = append(out, '\\')
		}
		out = append(out, value[i])
	}
	return string(append(out, '"'))
}
