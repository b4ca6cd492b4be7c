package judge

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"

	"github.com/maxviazov/audittrail/bench/ledger"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// viewPatience is how long a view of sources may take to say what is stored: it follows the enricher's table.
const viewPatience = 20 * time.Second

// Gateway reads everything back a second time, as a reader does: the list of all events, page by page, must be what is stored, byte for
// byte but for the documented stamps, each event once; and each source must have as many events in the view as are stored of it. To be
// called after Judge, while nothing is sent. The counts of sources may deviate after a zombie (docs/exactly-once.md); whoever made one
// leaves them out with counts.
func (v *Verdict) Gateway(ctx context.Context, conn grpc.ClientConnInterface, sent map[[16]byte]ledger.State, counts bool) error {
	query := audittrailv1.NewQueryServiceClient(conn)
	if err := v.list(ctx, query, sent); err != nil {
		return err
	}
	if !counts {
		return nil
	}
	for until := time.Now().Add(v.patience); ; {
		wrong, err := v.recount(ctx, query)
		if err != nil {
			return err
		}
		if len(wrong) == 0 {
			return nil
		}
		if time.Now().After(until) {
			for _, w := range wrong {
				v.blame(&v.Counts, "%s", w)
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (v *Verdict) list(ctx context.Context, query audittrailv1.QueryServiceClient, sent map[[16]byte]ledger.State) error {
	v.Served = 0
	seen := make(map[[16]byte]bool, len(v.stored))
	for request := (&audittrailv1.ListEventsRequest{PageSize: 1000}); ; {
		page, err := query.ListEvents(ctx, request)
		if err != nil {
			return fmt.Errorf("list events after %d: %w", v.Served, err)
		}
		for _, e := range page.GetEvents() {
			v.Served++
			id, err := uuid.Parse(e.GetId())
			if err != nil {
				v.blame(&v.Unserved, "the gateway lists an event with the id %q: %v", e.GetId(), err)
				continue
			}
			hash, err := ledger.Hash(e)
			_, there := v.stored[id]
			switch {
			case err != nil:
				return err
			case seen[id]:
				v.blame(&v.Unserved, "the gateway lists %s twice", id)
			case !there:
				v.blame(&v.Unserved, "the gateway lists %s, which is not stored", id)
			case sent[id].Hash != hash:
				v.blame(&v.Unserved, "the gateway shows %s with other content than was sent", id)
			}
			seen[id] = true
		}
		if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
			break
		}
	}
	for id := range v.stored {
		if !seen[id] {
			v.blame(&v.Unserved, "the gateway does not list %s, which is stored", uuid.UUID(id))
		}
	}
	return nil
}

// recount compares the view with what is stored, and says where they differ.
func (v *Verdict) recount(ctx context.Context, query audittrailv1.QueryServiceClient) (wrong []string, err error) {
	listed := map[string]bool{}
	for request := (&audittrailv1.ListSourcesRequest{PageSize: 1000}); ; {
		page, err := query.ListSources(ctx, request)
		if err != nil {
			return nil, fmt.Errorf("list sources: %w", err)
		}
		for _, s := range page.GetSources() {
			listed[s.GetSource()] = true
			if n := s.GetActivity().GetEventCount(); n != v.sources[s.GetSource()] {
				wrong = append(wrong, fmt.Sprintf("the view says %d events of %s, %d are stored", n, s.GetSource(), v.sources[s.GetSource()]))
			}
		}
		if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
			break
		}
	}
	for source, n := range v.sources {
		if !listed[source] {
			wrong = append(wrong, fmt.Sprintf("the view does not know %s, of which %d events are stored", source, n))
		}
	}
	return wrong, nil
}
