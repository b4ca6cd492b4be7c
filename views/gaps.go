package views

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// ListGaps implements AdminService.
func (s *Server) ListGaps(ctx context.Context, req *audittrailv1.ListGapsRequest) (*audittrailv1.ListGapsResponse, error) {
	bound := []string{fmt.Sprint(req.GetOpenOnly()), principal(ctx)}
	size, below, err := s.keyset(walkGaps, req.GetPageSize(), req.GetPageToken(), bound)
	if err != nil {
		return nil, err
	}
	query, cancel := context.WithTimeout(ctx, s.cfg.StatementTime)
	defer cancel()
	gaps, err := s.readGaps(query, below, req.GetOpenOnly(), size+1) // one more, to know whether there is
	if err != nil {
		return nil, s.fail(ctx, "list gaps", err)
	}
	resp := &audittrailv1.ListGapsResponse{Gaps: gaps}
	if len(gaps) > size {
		resp.Gaps = gaps[:size]
		resp.NextPageToken = s.tokens.seal(walkGaps, encodeKey(gaps[size-1].Id), bound...)
	}
	return resp, nil
}

func (s *Server) readGaps(ctx context.Context, below int64, openOnly bool, limit int) ([]*audittrailv1.Gap, error) {
	rows, err := s.db.Query(ctx, `SELECT gap_id, log_id, from_offset, from_index, end_offset, end_index, reason, recorded_at, filled_at
		FROM audittrail.gaps WHERE gap_id < $1 AND ($2 OR filled_at IS NULL) ORDER BY gap_id DESC LIMIT $3`, below, !openOnly, limit)
	if err != nil {
		return nil, fmt.Errorf("read gaps: %w", err)
	}
	gaps, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*audittrailv1.Gap, error) {
		g := new(audittrailv1.Gap)
		var recorded time.Time
		var filled *time.Time
		err := row.Scan(&g.Id, &g.Partition, &g.FromOffset, &g.FromIndex, &g.EndOffset, &g.EndIndex, &g.Reason, &recorded, &filled)
		g.RecordedAt = timestamppb.New(recorded)
		if filled != nil {
			g.FilledAt = timestamppb.New(*filled)
		}
		return g, err
	})
	if err != nil {
		return nil, fmt.Errorf("read gaps: %w", err)
	}
	return gaps, nil
}
