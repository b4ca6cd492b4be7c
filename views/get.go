package views

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
)

// maxBatchGet is the greatest number of ids in BatchGetEvents.
const maxBatchGet = 100

// GetEvent implements QueryService.
func (s *Server) GetEvent(ctx context.Context, req *audittrailv1.GetEventRequest) (*audittrailv1.GetEventResponse, error) {
	id, err := event.ParseID(req.GetId())
	if err != nil {
		return nil, invalid("id", "%v", err)
	}
	events, err := s.events(ctx, []event.ID{id})
	if err != nil {
		return nil, s.fail(ctx, "get event", err)
	}
	return &audittrailv1.GetEventResponse{Event: events[0]}, nil
}

// BatchGetEvents implements QueryService.
func (s *Server) BatchGetEvents(ctx context.Context, req *audittrailv1.BatchGetEventsRequest) (*audittrailv1.BatchGetEventsResponse, error) {
	if n := len(req.GetIds()); n == 0 || n > maxBatchGet {
		return nil, invalid("ids", "has %d elements; expected 1 to %d", n, maxBatchGet)
	}
	ids := make([]event.ID, len(req.GetIds()))
	for i, text := range req.GetIds() {
		id, err := event.ParseID(text)
		if err != nil {
			return nil, invalid(fmt.Sprintf("ids[%d]", i), "%v", err)
		}
		ids[i] = id
	}
	events, err := s.events(ctx, ids)
	if err != nil {
		return nil, s.fail(ctx, "batch get events", err)
	}
	return &audittrailv1.BatchGetEventsResponse{Events: events}, nil
}

// events returns the events of the ids in their order: from the cache of records, the others from PostgreSQL and then into the cache.
// NOT_FOUND names the first that is not stored.
func (s *Server) events(ctx context.Context, ids []event.ID) ([]*audittrailv1.Event, error) {
	found := make(map[event.ID]*audittrailv1.Event, len(ids))
	var missing []event.ID
	cached := s.records.get(ctx, ids)
	for i, id := range ids {
		c := cached[i]
		if c == nil {
			missing = append(missing, id)
			continue
		}
		e, _, err := decode(c.record, c.log, c.index)
		if err != nil {
			return nil, err
		}
		found[id] = e
	}
	if len(missing) > 0 {
		if err := s.readEvents(ctx, missing, found); err != nil {
			return nil, err
		}
	}
	events := make([]*audittrailv1.Event, len(ids))
	for i, id := range ids {
		if found[id] == nil {
			return nil, status.Errorf(codes.NotFound, "event %s is not stored", id)
		}
		events[i] = found[id]
	}
	return events, nil
}

// readEvents reads events from PostgreSQL: the row of the id says where the record stands, its bundle has it.
func (s *Server) readEvents(ctx context.Context, ids []event.ID, found map[event.ID]*audittrailv1.Event) error {
	locations, err := s.locate(ctx, ids)
	if err != nil || len(locations) == 0 {
		return err
	}
	seen := make(map[bundleKey]bool)
	var want []address
	for _, l := range locations {
		if a := l.address(); !seen[a.bundleKey] {
			seen[a.bundleKey] = true
			want = append(want, a)
		}
	}
	const together = 4 // bundles: memory stays bounded also when all are of the greatest events
	for len(want) > 0 {
		n := min(together, len(want))
		// Single look-ups are of all ages: they would drive out of memory what lists and tails read again and again.
		bundles, _, err := s.readBundles(ctx, want[:n], false)
		if err != nil {
			return err
		}
		for _, l := range locations {
			b := bundles[l.address().bundleKey]
			if b == nil {
				continue
			}
			record, err := recordAt(l, b)
			if err != nil {
				return err
			}
			e, err := eventAt(l, b)
			if err != nil {
				return err
			}
			if e != nil {
				found[l.id] = e
				s.records.put(ctx, l.id, cachedRecord{log: l.log, index: l.index, record: record})
			}
		}
		for _, a := range want[:n] {
			if bundles[a.bundleKey] == nil {
				if err := s.gone(ctx, a); err != nil {
					return err
				}
			}
		}
		want = want[n:]
	}
	return nil
}

// locate finds the rows of ids. Each id is a statement of its own, planned for the one leaf it can be in.
func (s *Server) locate(ctx context.Context, ids []event.ID) ([]location, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.StatementTime)
	defer cancel()
	var out []location
	var batch pgx.Batch
	for _, id := range ids {
		batch.Queue(`SELECT log_id, log_index, day FROM audittrail.events WHERE id = $1`, [16]byte(id)).Query(func(rows pgx.Rows) error {
			l := location{id: id}
			_, err := pgx.ForEachRow(rows, []any{&l.log, &l.index, &l.day}, func() error {
				out = append(out, l)
				return nil
			})
			return err
		})
	}
	if err := s.db.SendBatch(ctx, &batch).Close(); err != nil {
		return nil, fmt.Errorf("locate events: %w", err)
	}
	return out, nil
}
