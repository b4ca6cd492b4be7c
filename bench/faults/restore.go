package faults

import (
	"cmp"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/maxviazov/audittrail/bench/ledger"
	"github.com/maxviazov/audittrail/bench/load"
	"github.com/maxviazov/audittrail/bench/traffic"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

var restoreScenarios = []Scenario{
	{ID: "F09-restore", Title: "PostgreSQL restored from an older copy, under load and idle: the sinks go back and fill the difference by themselves",
		Quick: true, Run: restoreAnOlderCopy},
}

// restoreAnOlderCopy holds R10 and R11 (and R4, R12, R16 on the way): PostgreSQL comes back as it was some time ago while
// Kafka is ahead, once under load and once when nothing happens at all. No role is restarted. The sink finds out by itself, goes back
// in audit-records to where PostgreSQL is, and fills the difference; the logs are then as if nothing had been.
func restoreAnOlderCopy(t *T) {
	age := 3 * time.Second // of the copy when it takes the place of the newer one
	if t.Long {
		age = time.Minute
	}
	s := startSystem(t, systemConfig{cluster: t.kafka(), partitions: 4, emitters: 1, enrichers: 1, sinks: 2, gateways: 1})
	f := s.newFeed(traffic.Shape{Seed: 3, Sources: 40})
	f.mustSend(restoreRate, load.Config{Batch: 50, Workers: 4})
	s.awaitStored(restoreRate, time.Minute)
	s.restoreUnderLoad(f, age)
	s.restoreWhenIdle(f, age)
}

const restoreRate = 1000 // events/s

func (s *system) restoreUnderLoad(f *feed, age time.Duration) {
	done := make(chan error, 1)
	before := f.sent
	go func() {
		_, err := f.send(s.t.Context(), restoreRate*int((age+5*time.Second)/time.Second),
			load.Config{Batch: 50, Workers: 4, Rate: restoreRate, DuplicatePercent: 5})
		done <- err
	}()
	s.awaitStored(before+restoreRate, time.Minute)
	copied := onlineCopy(s.t, s.postgres)
	had := recordsIn(s.t, copied)
	s.awaitStored(had+restoreRate*int(age/time.Second), time.Minute+age)
	ahead := s.storedTotal()
	swapIn(s.t, s.postgres, copied)
	s.t.Logf("under load: the copy had %d records when it took the place of %d", had, ahead)
	if err := <-done; err != nil {
		s.t.Fatal(err)
	}
	s.expectClean(f)
}

func (s *system) restoreWhenIdle(f *feed, age time.Duration) {
	copied := onlineCopy(s.t, s.postgres)
	before := f.sent
	if had := recordsIn(s.t, copied); had != before {
		s.t.Fatalf("the copy has %d records, want the %d that were stored", had, before)
	}
	f.mustSend(restoreRate*int(age/time.Second), load.Config{Batch: 50, Workers: 4, Rate: restoreRate})
	s.expectClean(f)
	began := time.Now()
	swapIn(s.t, s.postgres, copied)
	s.awaitStored(f.sent, time.Minute)
	s.t.Logf("when idle: the copy had %d of %d records; without any traffic the rest was there %s after the end of the newer one", before, f.sent,
		time.Since(began).Round(100*time.Millisecond))
	s.expectClean(f)
	s.expectAnswers(f, before)
	// And the logs go on from there.
	f.mustSend(restoreRate, load.Config{Batch: 50, Workers: 4})
	s.expectClean(f)
}

// expectClean waits until everything is stored, and judges.
func (s *system) expectClean(f *feed) {
	s.t.Helper()
	if err := s.settle(time.Minute); err != nil {
		s.t.Error(err)
	}
	v := s.judgeAll(false) // some who call this made a zombie or reset a group
	s.t.Logf("verdict: %s", v)
	if !v.OK() || v.Acked != f.sent || v.DeadLetters != 0 {
		s.t.Errorf(contractBroken+": %s", v)
	}
}

// expectAnswers asks the gateway for events of the feed, those from number from on among them, and for everything of one source.
func (s *system) expectAnswers(f *feed, from int) {
	s.t.Helper()
	conn, err := grpc.NewClient(s.gatewayAddrs[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	query := audittrailv1.NewQueryServiceClient(conn)
	sent, err := ledger.Read(s.ledger)
	if err != nil {
		s.t.Fatal(err)
	}
	same := func(e *audittrailv1.Event) bool {
		hash, err := ledger.Hash(e)
		return err == nil && sent[load.ID(e)].Hash == hash
	}
	r := rand.New(rand.NewPCG(1, 1))
	for range 50 {
		i := cmp.Or(r.IntN(2)*r.IntN(f.sent), from+r.IntN(f.sent-from))
		id := uuid.UUID(load.ID(f.shape.Event(i))).String()
		response, err := query.GetEvent(s.t.Context(), &audittrailv1.GetEventRequest{Id: id})
		if err != nil {
			s.t.Errorf("get event %d: %v", i, err)
		} else if e := response.GetEvent(); e.GetId() != id || !same(e) {
			s.t.Errorf("event %d has other content than was sent: %v", i, e)
		}
	}
	source := f.shape.Event(f.sent - 1).GetSource()
	want := 0
	for i := range f.sent {
		if f.shape.Event(i).GetSource() == source {
			want++
		}
	}
	seen := map[string]bool{}
	request := &audittrailv1.ListEventsRequest{Filter: `source="` + source + `"`, PageSize: 100}
	for {
		page, err := query.ListEvents(s.t.Context(), request)
		if err != nil {
			s.t.Fatalf("list events of %s: %v", source, err)
		}
		for _, e := range page.GetEvents() {
			if seen[e.GetId()] || e.GetSource() != source || !same(e) {
				s.t.Errorf("event %s is listed twice, or is another's, or has other content than was sent", e.GetId())
			}
			seen[e.GetId()] = true
		}
		if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
			break
		}
	}
	if len(seen) != want {
		s.t.Errorf("%d events of %s are listed, want %d", len(seen), source, want)
	}
	status, err := audittrailv1.NewAdminServiceClient(conn).GetStatus(s.t.Context(), &audittrailv1.GetStatusRequest{})
	if err != nil || status.GetStoredCount() != int64(f.sent) || len(status.GetAlerts()) > 0 {
		s.t.Errorf("status says %d stored, alerts %q (%v); want %d", status.GetStoredCount(), status.GetAlerts(), err, f.sent)
	}
}
