package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/maxviazov/audittrail/bench/load"
	"github.com/maxviazov/audittrail/bench/stage"
	"github.com/maxviazov/audittrail/bench/traffic"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

var recoveryScenarios = []Scenario{
	{ID: "F02-recovery", Title: "a restart of the enricher and of the gateway with many ids in the window: with a snapshot, without one", Alone: true, Run: recovery},
}

// recovery holds R7 and section 7 of DESIGN: an enricher that starts with a changelog alone, and one that starts with a snapshot,
// both end up with every id that was accepted within the window, so that duplicates are dropped by them and not left to the
// sink; a gateway's view ends up with every source. It prints how long each takes. The long form has two million ids.
func recovery(t *T) {
	events, sources := 40_000, 400
	if t.Long {
		events, sources = 2_000_000, 20_000
	}
	const partitions, again = 4, 2000
	s := startSystem(t, systemConfig{cluster: t.kafka(), partitions: partitions, emitters: 1, enrichers: 1, sinks: 1, gateways: 1})
	s.allReady(30 * time.Second)
	shape := traffic.Shape{Seed: 71, Start: time.Now().Add(-time.Hour), Sources: sources, Run: 100}
	s.start(load.Config{Shape: shape, Events: events, Batch: 500, Workers: 8}).wait(20 * time.Minute)
	if err := s.settle(5 * time.Minute); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for i := 0; i < events; i += 100 {
		seen[shape.Event(i).Source] = true
	}
	changelog := 0
	for _, r := range readTopic(t, s.Brokers, "audit-enricher-table") {
		changelog += len(r.Key) + len(r.Value)
	}
	enricher := s.enrichers[0]
	snapshots := s.Dir + "/" + enricher.Name() // as stage.Pipeline names it

	next := 0
	recover := func(how string, prepare func(), loaded string) {
		t.Helper()
		stop(t, enricher)
		prepare()
		held, err := stage.DirBytes(snapshots)
		if err != nil {
			t.Fatal(err)
		}
		lines := startLogged(t, enricher)
		var took float64
		ids, found := 0, 0
		elapsed := lines.until("table recovered", partitions, time.Minute, func(l logLine) {
			ids, found, took = ids+l.WindowIDs, found+l.Sources, max(took, l.Took)
		})
		if n := lines.count(loaded); n != partitions {
			t.Errorf("%s: %d partitions say %q, want %d", how, n, loaded, partitions)
		}
		t.Logf("enricher, %s: %d sources, %d ids; changelog %d bytes, snapshots %d bytes; tables recovered in %.0f ms (the slowest of %d), %s after the start of the process",
			how, found, ids, changelog, held, took, partitions, elapsed.Round(time.Millisecond))
		if ids != events || found != len(seen) {
			t.Errorf("%s: recovered %d ids of %d sources, want %d of %d", how, ids, found, events, len(seen))
		}
		// Duplicates of what was accepted before the restart: the enricher can name their first slot.
		drops, duplicates := s.repeated()
		s.resend(shape, next, next+again)
		next += again
		if err := s.settle(time.Minute); err != nil {
			t.Fatal(err)
		}
		if d, b := s.repeated(); d-drops != again || b != duplicates {
			t.Errorf("%s: of %d duplicates the enricher dropped %d and left %d to the sink", how, again, d-drops, b-duplicates)
		}
	}
	recover("with a snapshot", func() {}, "snapshot loaded")
	recover("without a snapshot", func() {
		if err := os.RemoveAll(snapshots); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(snapshots, 0o700); err != nil {
			t.Fatal(err)
		}
	}, "no snapshot; the whole changelog is read")

	gateway := s.gateways[0]
	stop(t, gateway)
	lines := startLogged(t, gateway)
	caught := 0
	elapsed := lines.until("view changed", 2, time.Minute, func(l logLine) {
		if l.CaughtUp {
			caught++
		}
	})
	waitFor(t, "the gateway is ready", 20*time.Second, func() bool { return ready(s.gatewayHTTP[0]) })
	listed, accepted := s.listSources()
	t.Logf("gateway: view of %d sources recovered from %d bytes of changelog, %s after the start of the process", listed, changelog, elapsed.Round(time.Millisecond))
	if caught != 2 || listed != len(seen) || accepted != int64(events) {
		t.Errorf("gateway: %d of 2 views caught up; %d sources with %d events, want %d with %d", caught, listed, accepted, len(seen), events)
	}
	s.judged(events)
}

func stop(t *T, p *stage.Process) {
	t.Helper()
	ctx, cancel := stage.Deadline(t.Context(), time.Minute, p.Name()+" ends in order")
	defer cancel()
	if err := p.Stop(ctx); err != nil {
		t.Fatal(err)
	}
}

// logLine is what this test reads of a line of a role's log.
type logLine struct {
	Message   string
	Took      float64 // ms
	Sources   int
	WindowIDs int  `json:"window_ids"`
	CaughtUp  bool `json:"caught_up"`
}

// logged is a process whose log is read from some moment on.
type logged struct {
	t       *T
	process *stage.Process
	from    int64
	began   time.Time
}

func startLogged(t *T, p *stage.Process) *logged {
	t.Helper()
	l := logFrom(t, p)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	return l
}

// logFrom is what a process says from now on.
func logFrom(t *T, p *stage.Process) *logged {
	t.Helper()
	info, err := os.Stat(p.Log())
	if err != nil {
		t.Fatal(err)
	}
	return &logged{t: t, process: p, from: info.Size(), began: time.Now()}
}

func (l *logged) lines(message string) []logLine {
	l.t.Helper()
	log, err := os.ReadFile(l.process.Log())
	if err != nil {
		l.t.Fatal(err)
	}
	var found []logLine
	for line := range bytes.Lines(log[l.from:]) {
		var one logLine
		if bytes.HasSuffix(line, []byte("\n")) && json.Unmarshal(line, &one) == nil && one.Message == message {
			found = append(found, one)
		}
	}
	return found
}

func (l *logged) count(message string) int { return len(l.lines(message)) }

// until waits for so many lines with the message, gives each to take, and returns how long after the start the last one was there.
func (l *logged) until(message string, n int, within time.Duration, take func(logLine)) time.Duration {
	l.t.Helper()
	waitFor(l.t, fmt.Sprintf("%s says %q %d times", l.process.Name(), message, n), within, func() bool { return l.count(message) >= n })
	elapsed := time.Since(l.began)
	for _, line := range l.lines(message)[:n] {
		take(line)
	}
	return elapsed
}

// repeated is how many duplicates the enrichers dropped, and how many got as far as the sinks.
func (s *system) repeated() (drops, duplicates int) {
	s.t.Helper()
	conn, err := pgx.Connect(s.t.Context(), s.DSN)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := conn.QueryRow(s.t.Context(), "SELECT sum(drops), sum(duplicates) FROM audittrail.heads").Scan(&drops, &duplicates); err != nil {
		s.t.Fatal(err)
	}
	return drops, duplicates
}

// resend sends events of the traffic again, as they were.
func (s *system) resend(shape traffic.Shape, from, to int) {
	s.t.Helper()
	client := audittrailv1.NewEmitterServiceClient(s.conns()[0])
	for from < to {
		req := &audittrailv1.BatchEmitEventsRequest{}
		for ; from < to && len(req.Events) < 500; from++ {
			req.Events = append(req.Events, shape.Event(from))
		}
		response, err := client.BatchEmitEvents(s.t.Context(), req)
		if err != nil {
			s.t.Fatal(err)
		}
		for i, r := range response.GetResults() {
			if r.GetId() == "" {
				s.t.Fatalf("event %d was not accepted: %v", i, r.GetStatus())
			}
		}
	}
}

// listSources walks all pages of ListSources and adds up what the sources accepted.
func (s *system) listSources() (sources int, events int64) {
	s.t.Helper()
	conn, err := grpc.NewClient(s.gatewayAddrs[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	client := audittrailv1.NewQueryServiceClient(conn)
	for token := ""; ; {
		page, err := client.ListSources(s.t.Context(), &audittrailv1.ListSourcesRequest{PageSize: 1000, PageToken: token})
		if err != nil {
			s.t.Fatal(err)
		}
		for _, source := range page.GetSources() {
			sources++
			events += source.GetActivity().GetEventCount()
		}
		if token = page.GetNextPageToken(); token == "" {
			return sources, events
		}
	}
}
