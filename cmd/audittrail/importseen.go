package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
)

// verdict is what an import thinks of a record.
type verdict int

const (
	isNew      verdict = iota
	isRepeated         // stored, or sent earlier in this import
	isRejected
)

// seenIDs are the ids of an import, each with the start of the fingerprint of its content.
type seenIDs struct{ content map[event.ID]uint64 }

func newSeenIDs() *seenIDs { return &seenIDs{content: make(map[event.ID]uint64)} }

// judge validates as the server will, so that what is repeated is known to have been acceptable the first time.
func (s *seenIDs) judge(r *imported) (verdict, string) {
	if r.err != nil {
		return isRejected, r.err.Error()
	}
	if found := event.Validate(r.event, r.event.SizeVT(), event.Bounds{Now: time.Now()}); len(found) > 0 {
		reasons := make([]string, len(found))
		for i, v := range found {
			reasons[i] = v.Field + " " + v.Description
		}
		return isRejected, strings.Join(reasons, "; ")
	}
	id := event.IDOf(r.event)
	content, _ := event.Fingerprint(r.event)
	switch earlier, ok := s.content[id]; {
	case !ok:
		s.content[id] = content
		return isNew, ""
	case earlier == content:
		return isRepeated, ""
	default:
		return isRejected, "has the source, key and time of an earlier record of this import, and other content"
	}
}

// lookUps is how many calls of one batch are under way; each takes about as long as one point read.
const lookUps = 16

// lookUp says of each record whether its id is stored: with the same content it is repeated, with another rejected.
func lookUp(ctx context.Context, query audittrailv1.QueryServiceClient, batch []*imported) ([]verdict, error) {
	found := make([]verdict, len(batch))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(lookUps)
	for i, r := range batch {
		group.Go(func() error {
			resp, err := query.GetEvent(ctx, &audittrailv1.GetEventRequest{Id: event.IDOf(r.event).String()})
			switch {
			case status.Code(err) == codes.NotFound:
				return nil
			case err != nil:
				return fmt.Errorf("%s: %w", r.where(), err)
			}
			_, stored := event.Fingerprint(resp.Event)
			_, ours := event.Fingerprint(r.event)
			found[i] = isRejected
			if stored == ours {
				found[i] = isRepeated
			}
			return nil
		})
	}
	return found, group.Wait()
}
