package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/maxviazov/audittrail/bench/load"
	"github.com/maxviazov/audittrail/bench/traffic"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

var clockScenarios = []Scenario{
	{ID: "F17-clocks", Title: "the clocks of emitter, enricher, sink and gateway jump a day forward and back, alone and against each other; events of 2003 and of tomorrow", Quick: true, Run: roleClocks},
}

const day = 24 * time.Hour

// clocks are the clocks of parts that this scenario can move: files with their offsets.
type clocks struct {
	t      *T
	dir    string
	format func(time.Duration) string
}

// env is the environment of a role whose clock can be moved.
func (c *clocks) env(role string) []string {
	c.set(role, 0)
	return []string{"AUDITTRAIL_MUTATION_CLOCK_FILE=" + c.file(role)}
}

func (c *clocks) file(name string) string { return filepath.Join(c.dir, name) }

// set moves a clock. The file appears whole: somebody reads it at any moment, the user of PostgreSQL too.
func (c *clocks) set(name string, ahead time.Duration) {
	c.t.Helper()
	part := c.file(name) + ".part"
	if err := os.WriteFile(part, []byte(c.format(ahead)), 0o644); err != nil {
		c.t.Fatal(err)
	}
	if err := os.Rename(part, c.file(name)); err != nil {
		c.t.Fatal(err)
	}
}

var clockRoles = []string{"emitter", "enricher", "sink", "gateway"}

// roleClocks holds clause 1 to 3 of the contract against wrong clocks of the roles (R9): what an emitter acknowledged by its own clock is
// stored, whatever the others think of the time, and nobody stops.
func roleClocks(t *T) {
	const n = 200
	c := &clocks{t: t, dir: t.TempDir(), format: time.Duration.String}
	s := startSystem(t, systemConfig{cluster: t.kafka(), partitions: badPartitions, emitters: 1, enrichers: 1, sinks: 1, gateways: 1, binary: t.compiled(mutationsTag),
		wire: func(s *system) {
			s.Roles = map[string][]string{}
			for _, role := range clockRoles {
				s.Roles[role] = c.env(role)
			}
		}})
	s.allReady(30 * time.Second)
	b := newBadInput(t, s)
	f := &feed{s: s, ledger: b.ledger, shape: traffic.Shape{Seed: 17, Sources: 30, Run: 5}}
	// send sends events that happen now by the clock of the emitter, which is the producers' too, and waits until they are stored.
	send := func(what string, emitter time.Duration) {
		t.Helper()
		f.shape.Start = time.Now().Add(emitter - time.Second)
		// Raw producers have the emitter's clock here as well, and no stamp that says so: they are left out when it is wrong.
		f.mustSend(n, load.Config{Batch: 20, Workers: 2, Mixed: emitter == 0, DuplicatePercent: 20})
		took := s.awaitStored(f.sent+b.good, 30*time.Second)
		t.Logf("%s: stored %s after the last acknowledgement", what, took.Round(time.Millisecond))
	}
	send("all clocks are right", 0)
	for _, ahead := range []time.Duration{day, -day} {
		for _, role := range clockRoles {
			c.set(role, ahead)
			own := time.Duration(0)
			if role == "emitter" {
				own = ahead
				b.awaitClock(t, ahead)
			}
			send(fmt.Sprintf("%s %v", role, ahead), own)
			c.set(role, 0)
		}
	}
	b.awaitClock(t, 0)
	for _, ahead := range []time.Duration{day, -day} {
		for i, role := range clockRoles {
			c.set(role, ahead*time.Duration(1-i%2*2))
		}
		b.awaitClock(t, ahead)
		send(fmt.Sprintf("emitter and sink %v, the others against them", ahead), ahead)
	}
	b.refusedWhenBehind(t)
	for _, role := range clockRoles {
		c.set(role, 0)
	}
	b.awaitClock(t, 0)
	send("all clocks are right again", 0)
	b.otherTimes(t)
	b.clocksJudged(t, f)
}

// awaitClock waits until the emitter has the clock: it refuses what lies ten minutes ahead of it, and nothing before.
func (b *badInput) awaitClock(t *T, ahead time.Duration) {
	t.Helper()
	waitFor(t, fmt.Sprintf("the emitter's clock is %v ahead", ahead), 10*time.Second, func() bool {
		e := b.event("clock/probe/prod")
		e.OccurredAt = timestamppb.New(time.Now().Add(ahead + 10*time.Minute))
		_, err := b.emitter.EmitEvent(t.Context(), &audittrailv1.EmitEventRequest{Event: e})
		switch status.Code(err) {
		case codes.InvalidArgument:
		case codes.OK: // it was still ahead
			b.store(t, e)
			return false
		default:
			t.Fatal(err)
		}
		e.OccurredAt = timestamppb.New(time.Now().Add(ahead))
		if _, err := b.emitter.EmitEvent(t.Context(), &audittrailv1.EmitEventRequest{Event: e}); err != nil {
			return false // it was still behind
		}
		b.store(t, e)
		return true
	})
}

// refusedWhenBehind: while the emitter's clock is a day behind, an event of a producer whose clock is right is refused, and the answer names the field.
func (b *badInput) refusedWhenBehind(t *T) {
	t.Helper()
	e := b.event("clock/refused/prod")
	e.OccurredAt = timestamppb.Now()
	_, err := b.emitter.EmitEvent(t.Context(), &audittrailv1.EmitEventRequest{Event: e})
	refused(t, status.Convert(err), "event.occurred_at")
}

// otherTimes: events of years ago are stored and found, by either way; events of the future are refused with the field, and a dead letter when
// they come by Kafka. Forged stamps reach 30 days, and no further.
func (b *badInput) otherTimes(t *T) {
	t.Helper()
	const source = "clock/times/prod"
	at := func(when time.Time) *audittrailv1.Event {
		e := b.event(source)
		e.OccurredAt = timestamppb.New(when)
		return e
	}
	old := time.Date(2003, 5, 6, 7, 8, 9, 0, time.UTC)
	e := at(old)
	answer, err := b.emitter.EmitEvent(t.Context(), &audittrailv1.EmitEventRequest{Event: e})
	if err != nil {
		t.Fatal(err)
	}
	b.acked(t, e, answer.GetId())
	raw := at(old.AddDate(1, 0, 0))
	b.store(t, raw)
	b.raw(t, []byte(source), encode(t, raw))

	for _, when := range []time.Time{time.Now().Add(day), old.AddDate(-4, 0, 0)} {
		_, err := b.emitter.EmitEvent(t.Context(), &audittrailv1.EmitEventRequest{Event: at(when)})
		refused(t, status.Convert(err), "event.occurred_at")
		b.rawBad(t, []byte(source), encode(t, at(when)), letter{reason: "INVALID_EVENT", says: "occurred_at"})
	}
	for days, good := range map[int]bool{20: true, 100: false, 300_000: false} {
		forged := at(time.Now().AddDate(0, 0, days))
		forged.ReceivedAt = forged.OccurredAt
		if good {
			b.store(t, forged)
			b.raw(t, []byte(source), encode(t, forged))
		} else {
			b.rawBad(t, []byte(source), encode(t, forged), letter{reason: "INVALID_EVENT", says: "occurred_at"})
		}
	}
	b.settled(t)
	list, err := b.query.ListEvents(t.Context(), &audittrailv1.ListEventsRequest{Filter: `occurred_at < "2005-01-01T00:00:00Z"`})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(list.GetEvents()); n != 2 {
		t.Errorf("the gateway finds %d events of 2003 and 2004, want 2", n)
	}
}

// clocksJudged compares what is stored with the ledger: nothing lost, doubled or changed, and no dead letter that nobody expected.
func (b *badInput) clocksJudged(t *T, f *feed) {
	t.Helper()
	b.settled(t)
	b.account(t)
	b.sameProcesses()
	v := b.judgeAll(true)
	t.Logf("verdict: %s", v)
	if want := f.sent + b.good; !v.OK() || v.Acked != want || v.Stored != want || v.DeadLetters != len(b.expected) {
		t.Errorf("the contract is broken: %d events, %d dead letters: %s", want, len(b.expected), v)
	}
}
