package views

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/maxviazov/audittrail/internal/clock"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
)

// ListEvents implements QueryService.
func (s *Server) ListEvents(ctx context.Context, req *audittrailv1.ListEventsRequest) (*audittrailv1.ListEventsResponse, error) {
	size, ok := pageSize(req.GetPageSize())
	if !ok {
		return nil, invalid("page_size", "is %d; expected 0 to %d", req.GetPageSize(), maxPage)
	}
	bound := []string{req.GetFilter(), principal(ctx)}
	at, filter, err := s.resume(ctx, req.GetFilter(), walkList, req.GetPageToken(), bound...)
	if err != nil {
		return nil, s.fail(ctx, "list events", err)
	}
	page := page{size: size}
	var how explanation
	next, err := s.walk(ctx, query{filter: filter, want: size, explain: &how}, at, page.add)
	if err != nil {
		return nil, s.fail(ctx, "list events", err)
	}
	resp := &audittrailv1.ListEventsResponse{Events: page.events}
	if next != nil {
		resp.NextPageToken = s.tokens.seal(walkList, next.encode(), bound...)
	}
	if req.GetExplain() {
		resp.Explanation = how.message()
	}
	return resp, nil
}

// resume compiles the filter of a call and says where its walk goes on: where the token says, or at the beginning of what is stored now.
// Its errors are for the caller.
func (s *Server) resume(ctx context.Context, filter string, w walk, token string, bound ...string) (cursor, *compiled, error) {
	at := cursor{now: clock.Now()}
	if token != "" {
		payload, err := s.tokens.open(w, token, bound...)
		if err == nil {
			at, err = decodeCursor(payload)
		}
		if err != nil {
			return at, nil, invalid("page_token", "%v", err)
		}
	}
	c, err := s.compile(ctx, filter, at.now)
	if err != nil {
		return at, nil, err
	}
	if token == "" {
		at, err = s.beginWalk(ctx, at.now)
	}
	return at, c, err
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

// page is the visitor of a list.
type page struct {
	size   int
	events []*audittrailv1.Event
	bytes  int
}

// add adds a record unless the page would grow over its bytes.
func (p *page) add(r found) (step, error) {
	e, err := r.event()
	if err != nil {
		return 0, err
	}
	size := e.SizeVT() + 8
	if len(p.events) > 0 && p.bytes+size > maxPageBytes {
		return stopBefore, nil
	}
	p.events = append(p.events, e)
	p.bytes += size
	if len(p.events) == p.size {
		return stopAfter, nil
	}
	return goOn, nil
}
