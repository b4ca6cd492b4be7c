package views

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/maxviazov/audittrail/internal/clock"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/stream"
)

// lagAlert is the lag that alerts.
const lagAlert = time.Minute

// GetStatus implements AdminService.
func (s *Server) GetStatus(ctx context.Context, _ *audittrailv1.GetStatusRequest) (*audittrailv1.GetStatusResponse, error) {
	kafka, cancel := context.WithTimeout(ctx, s.cfg.KafkaTime)
	defer cancel()
	k, err := s.readKafka(kafka)
	if err != nil {
		return nil, s.failKafka(ctx, "get status", err)
	}
	store, err := s.readStore(ctx)
	if err != nil {
		return nil, s.fail(ctx, "get status", err)
	}
	pending, err := s.readPending(kafka, k, store)
	if err != nil {
		return nil, s.failKafka(ctx, "get status", err)
	}
	return summarize(k, store, pending, clock.Now()), nil
}

// kafkaState is what Kafka says. It is read in the order of the fields: the end of events first, because "caught up" speaks of what was there when
// the call began; the enricher's commit before the end of records, so that what was committed is among the records (R21).
type kafkaState struct {
	openEvents, openRecords map[int32]OpenTransaction
	events                  []stream.Range
	commits                 []stream.Commit
	records                 []stream.Range
}

func (s *Server) readKafka(ctx context.Context) (k kafkaState, err error) {
	if k.openEvents, err = s.positions.OpenTransactions(ctx, stream.Events); err != nil {
		return k, err
	}
	if k.openRecords, err = s.positions.OpenTransactions(ctx, stream.Records); err != nil {
		return k, err
	}
	if k.events, err = s.positions.LogRanges(ctx, stream.Events); err != nil {
		return k, err
	}
	if k.commits, err = s.positions.GroupNotes(ctx, string(stream.EnricherGroup), stream.Events); err != nil {
		return k, err
	}
	if k.records, err = s.positions.LogRanges(ctx, stream.Records); err != nil {
		return k, err
	}
	if len(k.records) != len(k.events) || len(k.commits) != len(k.events) {
		return k, fmt.Errorf("%s has %d partitions, %s %d", stream.Events, len(k.events), stream.Records, len(k.records))
	}
	return k, nil
}

// headRow is a row of heads.
type headRow struct {
	nextOffset, position, size int64
	nextIndex                  int32
	claimed                    bool
}

// storeState is what PostgreSQL says.
type storeState struct {
	heads                                                         map[int32]headRow
	stored, duplicates, deadLetters, pendingDeadLetters, openGaps int64
}

func (s *Server) readStore(ctx context.Context) (storeState, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.StatementTime)
	defer cancel()
	state := storeState{heads: make(map[int32]headRow)}
	var batch pgx.Batch
	batch.Queue(`SELECT log_id, next_offset, next_index, records_position, size, records, drops + duplicates, dead_letters FROM audittrail.heads`).
		Query(func(rows pgx.Rows) error {
			var log int16
			var records, duplicates, deadLetters int64
			h := headRow{claimed: true}
			_, err := pgx.ForEachRow(rows, []any{&log, &h.nextOffset, &h.nextIndex, &h.position, &h.size, &records, &duplicates, &deadLetters},
				func() error {
					state.heads[int32(log)] = h
					state.stored += records
					state.duplicates += duplicates
					state.deadLetters += deadLetters
					return nil
				})
			return err
		})
	batch.Queue(`SELECT count(*) FROM audittrail.deadletters WHERE redriven_at IS NULL`).
		QueryRow(func(row pgx.Row) error { return row.Scan(&state.pendingDeadLetters) })
	batch.Queue(`SELECT count(*) FROM audittrail.gaps WHERE filled_at IS NULL`).
		QueryRow(func(row pgx.Row) error { return row.Scan(&state.openGaps) })
	if err := s.db.SendBatch(ctx, &batch).Close(); err != nil {
		return state, fmt.Errorf("read state of the store: %w", err)
	}
	return state, nil
}

// readPending returns the oldest message of each partition that is not stored. It looks whether anything readable stands between what is stored and the end: a transaction marker at the end of a log never becomes a
// slot, so that positions alone would never say "caught up".
func (s *Server) readPending(ctx context.Context, k kafkaState, store storeState) (map[int32]*Readable, error) {
	found := make([]*Readable, len(k.events))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for p, r := range k.events {
		from := max(store.heads[int32(p)].nextOffset, r.Start)
		if from >= r.End {
			continue
		}
		g.Go(func() (err error) {
			found[p], err = s.positions.FirstReadable(ctx, stream.Events, int32(p), from, r.End)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	pending := make(map[int32]*Readable)
	for p, first := range found {
		if first != nil {
			pending[int32(p)] = first
		}
	}
	return pending, nil
}

// summarize puts the answers together; it is a pure function of them.
func summarize(k kafkaState, store storeState, pending map[int32]*Readable, now time.Time) *audittrailv1.GetStatusResponse {
	resp := &audittrailv1.GetStatusResponse{
		StoredCount: store.stored, DuplicateCount: store.duplicates, DeadLetterCount: store.deadLetters, OpenGapCount: store.openGaps,
		CaughtUp: len(pending) == 0,
	}
	alert := func(format string, args ...any) { resp.Alerts = append(resp.Alerts, fmt.Sprintf(format, args...)) }
	for i, events := range k.events {
		p := int32(i)
		head, records, commit := store.heads[p], k.records[i], k.commits[i].Offset
		status := &audittrailv1.PartitionStatus{
			Partition: p, EventsEnd: events.End, EnricherPosition: commit, RecordsEnd: records.End, SinkPosition: -1,
			NextOffset: head.nextOffset, NextIndex: uint32(head.nextIndex), LogSize: head.size,
		}
		if head.claimed {
			status.SinkPosition = head.position
		}
		open, held := k.openEvents[p]
		if held = held && open.Offset >= events.End; held { // else it has ended meanwhile
			status.EventsEnd = open.End
			resp.CaughtUp = false
			if text := transactionAlertOf(stream.Events, p, open, now); text != "" {
				alert("%s", text)
			}
		}
		if open, ok := k.openRecords[p]; ok && open.Offset >= records.End {
			if text := transactionAlertOf(stream.Records, p, open, now); text != "" {
				alert("%s", text)
			}
		}
		first := pending[p]
		if first != nil { // otherwise only markers are left
			status.EnricherLag = max(0, events.End-max(commit, events.Start))
		}
		status.SinkLag = max(0, records.End-max(head.position, records.Start))
		if first != nil && !first.At.IsZero() {
			lag := max(0, now.Sub(first.At))
			status.Lag = durationpb.New(lag)
			if lag > lagAlert {
				alert("partition %d is %s behind: its oldest message that is not stored came at %s", p, lag.Round(time.Second),
					first.At.UTC().Format(time.RFC3339))
			}
		} else {
			status.Lag = durationpb.New(0)
			if held && first == nil && !open.Since.IsZero() {
				status.Lag = durationpb.New(max(0, now.Sub(open.Since)))
			}
		}
		switch {
		case head.nextOffset < events.Start:
			alert("partition %d: slots %d to %d of %s were deleted by Kafka's retention before they were stored", p, head.nextOffset,
				events.Start-1, stream.Events)
		case first != nil && head.claimed && first.Offset < commit && head.position >= records.End:
			alert("partition %d: everything in %s is read, but slot %d of %s, which was enriched, is not in it: its output was lost and is made again (a refill is asked for)",
				p, stream.Records, first.Offset, stream.Events)
		case head.position > records.End || head.nextOffset > events.End:
			alert("partition %d: the store is ahead of Kafka: a topic was lost or made again", p)
		}
		if until := stream.ParseRefillMark(k.commits[i].Metadata).Until; commit != stream.NoCommit && commit < until {
			alert("partition %d: a refill is under way: the enricher processes %s again and is at %d of %d", p, stream.Events, commit, until)
		}
		resp.Partitions = append(resp.Partitions, status)
	}
	if store.openGaps > 0 {
		alert("%d gaps are open: content of %s was lost before it could be stored (audittrail gaps list)", store.openGaps, stream.Events)
	}
	if store.pendingDeadLetters > 0 {
		alert("%d dead letters were never re-driven (audittrail deadletters list)", store.pendingDeadLetters)
	}
	return resp
}
