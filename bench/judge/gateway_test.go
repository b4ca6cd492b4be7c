package judge

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/maxviazov/audittrail/bench/ledger"
	"github.com/maxviazov/audittrail/bench/load"
	"github.com/maxviazov/audittrail/bench/traffic"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// lyingGateway lists what it is told to, two events a page.
type lyingGateway struct {
	audittrailv1.UnimplementedQueryServiceServer
	events []*audittrailv1.Event
	counts map[string]int64
}

func (g *lyingGateway) ListEvents(_ context.Context, r *audittrailv1.ListEventsRequest) (*audittrailv1.ListEventsResponse, error) {
	from := len(r.GetPageToken())
	to := min(from+2, len(g.events))
	response := &audittrailv1.ListEventsResponse{Events: g.events[from:to]}
	if to < len(g.events) {
		response.NextPageToken = string(make([]byte, to))
	}
	return response, nil
}

func (g *lyingGateway) ListSources(context.Context, *audittrailv1.ListSourcesRequest) (*audittrailv1.ListSourcesResponse, error) {
	response := &audittrailv1.ListSourcesResponse{}
	for source, n := range g.counts {
		response.Sources = append(response.Sources, &audittrailv1.Source{Source: source, Activity: &audittrailv1.SourceActivity{EventCount: n}})
	}
	return response, nil
}

// TestGatewayIsNotBelieved: whatever a gateway leaves out, makes up, repeats, changes or counts wrongly is found.
func TestGatewayIsNotBelieved(t *testing.T) {
	shape := traffic.Shape{Seed: 1, Sources: 2, Run: 1, Start: time.Now()}
	sent := map[[16]byte]ledger.State{}
	stored := map[[16]byte]place{}
	sources := map[string]int64{}
	event := func(i int) *audittrailv1.Event {
		e := shape.Event(i)
		e.Id = uuid.UUID(load.ID(e)).String()
		return e
	}
	for i := range 5 {
		e := event(i)
		hash, err := ledger.Hash(e)
		if err != nil {
			t.Fatal(err)
		}
		sent[load.ID(e)], stored[load.ID(e)] = ledger.State{Hash: hash, Acked: true}, place{0, int64(i)}
		sources[e.GetSource()]++
	}
	all := func() (events []*audittrailv1.Event) {
		for i := range 5 {
			events = append(events, event(i))
		}
		return events
	}
	changed := all()
	changed[2].Action = "user.other"
	wrongCount := map[string]int64{event(0).GetSource(): sources[event(0).GetSource()] + 1}
	for _, c := range []struct {
		name              string
		events            []*audittrailv1.Event
		counts            map[string]int64
		unserved, counted int
	}{
		{"the truth", all(), sources, 0, 0},
		{"one left out", all()[:4], sources, 1, 0},
		{"one made up", append(all(), event(5)), sources, 1, 0},
		{"one twice", append(all(), event(1)), sources, 1, 0},
		{"one changed", changed, sources, 1, 0},
		{"one source counted wrongly, the other unknown", all(), wrongCount, 0, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			server := grpc.NewServer()
			audittrailv1.RegisterQueryServiceServer(server, &lyingGateway{events: c.events, counts: c.counts})
			go server.Serve(listener)
			defer server.Stop()
			conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			v := &Verdict{sources: sources, stored: stored, patience: time.Millisecond}
			if err := v.Gateway(t.Context(), conn, sent, true); err != nil {
				t.Fatal(err)
			}
			if v.Unserved != c.unserved || v.Counts != c.counted || v.OK() != (c.unserved+c.counted == 0) {
				t.Errorf("%d differences and %d sources, want %d and %d: %s", v.Unserved, v.Counts, c.unserved, c.counted, v)
			}
		})
	}
}
