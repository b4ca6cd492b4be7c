package views

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// CountEvents implements QueryService.
func (s *Server) CountEvents(ctx context.Context, req *audittrailv1.CountEventsRequest) (*audittrailv1.CountEventsResponse, error) {
	bound := []string{req.GetFilter(), principal(ctx)}
	at, filter, err := s.resume(ctx, req.GetFilter(), walkCount, req.GetPageToken(), bound...)
	if err != nil {
		return nil, s.fail(ctx, "count events", err)
	}
	var how explanation
	n := new(tally)
	next, err := s.sum(ctx, filter, at, n, &how)
	if err != nil {
		return nil, s.fail(ctx, "count events", err)
	}
	resp := &audittrailv1.CountEventsResponse{
		Count: n.count, Exact: next == nil && req.GetPageToken() == "", CompleteAfter: completeAfter(next),
	}
	if next != nil {
		resp.NextPageToken = s.tokens.seal(walkCount, next.encode(), bound...)
	}
	if req.GetExplain() {
		resp.Explanation = how.message()
	}
	return resp, nil
}

// sum shows a tally every record that a filter accepts, in the bounds of one call. It returns where the next call goes on; nil when all was seen.
func (s *Server) sum(ctx context.Context, filter *compiled, at cursor, n *tally, how *explanation) (*cursor, error) {
	return s.walk(ctx, query{filter: filter, explain: how}, at, func(r found) (step, error) { return goOn, n.add(r.place(), r.payload) })
}

// completeAfter is the time after which a walk that stands here, newest first, has seen everything; nil when it has nothing left to see.
func completeAfter(at *cursor) *timestamppb.Timestamp {
	if at == nil || !at.begun {
		return nil
	}
	// What follows has a smaller id: an earlier millisecond, or the same one.
	return timestamppb.New(at.at.Time().Add(maxIDError))
}
