package views

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/stream"
)

// deadLetterRows is how many dead letters one statement reads: with originals of at most 64 KiB they fit into a page.
const deadLetterRows = maxPageBytes / (64 << 10)

const deadLetterColumns = `deadletter_id, source, reason, detail, log_id, input_offset, input_index, stored_at, original, original_size,
	original_sha256, redriven_at, key`

// ListDeadLetters implements AdminService.
func (s *Server) ListDeadLetters(ctx context.Context, req *audittrailv1.ListDeadLettersRequest) (*audittrailv1.ListDeadLettersResponse, error) {
	bound := []string{fmt.Sprint(req.GetPendingOnly()), principal(ctx)}
	size, below, err := s.keyset(walkDeadLetters, req.GetPageSize(), req.GetPageToken(), bound)
	if err != nil {
		return nil, err
	}
	resp := new(audittrailv1.ListDeadLettersResponse)
	for bytes := 0; ; {
		limit := min(size-len(resp.DeadLetters)+1, deadLetterRows) // one more than wanted, to know whether there is
		some, err := s.readDeadLetters(ctx, `SELECT `+deadLetterColumns+` FROM audittrail.deadletters
			WHERE deadletter_id < $1 AND ($2 OR redriven_at IS NULL) ORDER BY deadletter_id DESC LIMIT $3`, below, !req.GetPendingOnly(), limit)
		if err != nil {
			return nil, s.fail(ctx, "list dead letters", err)
		}
		for _, d := range some {
			bytes += d.SizeVT() + 8
			if len(resp.DeadLetters) == size || len(resp.DeadLetters) > 0 && bytes > maxPageBytes {
				resp.NextPageToken = s.tokens.seal(walkDeadLetters, encodeKey(below), bound...)
				return resp, nil
			}
			resp.DeadLetters = append(resp.DeadLetters, d.DeadLetter)
			below = d.Id
		}
		if len(some) < limit {
			return resp, nil
		}
	}
}

// keyset reads page size and cursor of a list that is ordered by one number, greatest first.
func (s *Server) keyset(w walk, pageSizeField int32, token string, bound []string) (size int, below int64, err error) {
	size, ok := pageSize(pageSizeField)
	if !ok {
		return 0, 0, invalid("page_size", "is %d; expected 0 to %d", pageSizeField, maxPage)
	}
	below = math.MaxInt64
	if token != "" {
		payload, err := s.tokens.open(w, token, bound...)
		if err == nil {
			below, err = decodeKey(payload)
		}
		if err != nil {
			return 0, 0, invalid("page_token", "%v", err)
		}
	}
	return size, below, nil
}

// deadLetter is a row of deadletters; the key, as bytes, is needed to send it again.
type deadLetter struct {
	*audittrailv1.DeadLetter
	key []byte
}

func (s *Server) readDeadLetters(ctx context.Context, sql string, args ...any) ([]deadLetter, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.StatementTime)
	defer cancel()
	rows, err := s.db.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("read dead letters: %w", err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (deadLetter, error) {
		d := deadLetter{DeadLetter: new(audittrailv1.DeadLetter)}
		var stored time.Time
		var redriven *time.Time
		err := row.Scan(&d.Id, &d.Source, &d.Reason, &d.Detail, &d.Partition, &d.Offset, &d.Index, &stored, &d.Original, &d.OriginalSize,
			&d.OriginalSha256, &redriven, &d.key)
		d.StoredAt = timestamppb.New(stored)
		if redriven != nil {
			d.RedrivenAt = timestamppb.New(*redriven)
		}
		return d, err
	})
	if err != nil {
		return nil, fmt.Errorf("read dead letters: %w", err)
	}
	return found, nil
}

// RedriveDeadLetters implements AdminService. What was sent is marked afterwards: a process that dies in between leaves dead letters that
// were sent and not marked, and sending one twice does no harm, because the second is a duplicate.
func (s *Server) RedriveDeadLetters(ctx context.Context, req *audittrailv1.RedriveDeadLettersRequest) (*audittrailv1.RedriveDeadLettersResponse, error) {
	if n := len(req.GetIds()); n == 0 || n > maxPage {
		return nil, invalid("ids", "has %d elements; expected 1 to %d", n, maxPage)
	}
	ids := slices.Clone(req.GetIds())
	slices.Sort(ids)
	ids = slices.Compact(ids)
	resp := new(audittrailv1.RedriveDeadLettersResponse)
	for some := range slices.Chunk(ids, deadLetterRows) {
		if err := s.redrive(ctx, some, resp); err != nil {
			return nil, err
		}
	}
	return resp, nil
}

func (s *Server) redrive(ctx context.Context, ids []int64, resp *audittrailv1.RedriveDeadLettersResponse) error {
	found, err := s.readDeadLetters(ctx, `SELECT `+deadLetterColumns+` FROM audittrail.deadletters WHERE deadletter_id = ANY ($1)
		ORDER BY deadletter_id`, ids)
	if err != nil {
		return s.fail(ctx, "redrive dead letters", err)
	}
	refuse := func(id int64, reason string) {
		resp.Failures = append(resp.Failures, &audittrailv1.RedriveFailure{Id: id, Reason: reason})
	}
	for _, id := range ids {
		if !slices.ContainsFunc(found, func(d deadLetter) bool { return d.Id == id }) {
			refuse(id, "there is no such dead letter")
		}
	}
	var sent []int64
	var failed error
	for _, d := range found {
		switch {
		case d.OriginalSize == 0:
			refuse(d.Id, "it has no content")
			continue
		case d.OriginalSize != int64(len(d.Original)):
			refuse(d.Id, fmt.Sprintf("only the first %d of %d bytes were kept", len(d.Original), d.OriginalSize))
			continue
		}
		publish, cancel := context.WithTimeout(ctx, s.cfg.KafkaTime)
		failed = s.publisher.Publish(publish, stream.Events, d.key, d.Original)
		cancel()
		if failed != nil {
			break
		}
		sent = append(sent, d.Id)
	}
	if len(sent) > 0 {
		if err := s.markRedriven(ctx, sent); err != nil {
			return s.fail(ctx, "redrive dead letters", err)
		}
		resp.RedrivenCount += int32(len(sent))
	}
	if failed != nil {
		return s.failKafka(ctx, "redrive dead letters", failed)
	}
	return nil
}

// markRedriven goes on when the caller is gone: the messages are in Kafka.
func (s *Server) markRedriven(ctx context.Context, ids []int64) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.StatementTime)
	defer cancel()
	if _, err := s.db.Exec(ctx, `SELECT audittrail.mark_redriven($1)`, ids); err != nil {
		return fmt.Errorf("mark dead letters: %w", err)
	}
	return nil
}
