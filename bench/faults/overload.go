package faults

import (
	"time"

	"google.golang.org/grpc/codes"

	"github.com/maxviazov/audittrail/bench/load"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

var overloadScenarios = []Scenario{
	{ID: "F15-overload", Title: "five times of what the pipeline takes is offered: bounded memory, only refusals that say when to try again, all of it taken in the end",
		Quick: true, Run: overload},
}

// overload holds clauses 2 and 6 of the contract. The connections of the emitter and of the sink are made narrow, so that what the
// pipeline takes does not depend on the machine, which must make the load, too; then producers offer five times as much and more. What is
// refused is sent again by them until it is taken. Afterwards, at a usual rate, it is as if nothing had been.
func overload(t *T) {
	const (
		kilobytes = 1500 // per second from the emitter to Kafka; the sink gets as much from Kafka
		workers   = 600  // each waits for a second at most before it tries again
		batch     = 5    // 22 KB
		budget    = 1    // MiB that the emitter may have in flight
		factor    = 5
	)
	lasting := 10 * time.Second
	if t.Long {
		lasting = time.Minute
	}
	var emitter, sink *kafkaLink
	s := startSystem(t, systemConfig{cluster: t.kafka(), partitions: 4, emitters: 1, enrichers: 1, sinks: 1, gateways: 1,
		env: []string{"AUDITTRAIL_EMITTER_MAX_IN_FLIGHT_BYTES=1MiB"},
		wire: func(s *system) {
			emitter, sink = s.link("emitter"), s.link("sink")
		}})
	s.allReady(30 * time.Second)
	memory := s.watchMemory()
	shape := faultShape(15)
	emitter.add(toxic{Type: "bandwidth", Attributes: map[string]int64{"rate": kilobytes}})
	sink.add(toxic{Type: "bandwidth", Attributes: map[string]int64{"rate": kilobytes}})

	// What it takes: as much as eight producers get through it.
	f := s.newFeed(shape)
	report := f.mustSend(1000, load.Config{Batch: batch, Workers: 8})
	takes := float64(report.Acked) / report.Elapsed.Seconds()
	before := memory.look(t, "before", roomy)

	events := int(takes*lasting.Seconds()) / batch * batch
	each := (&audittrailv1.BatchEmitEventsRequest{Events: []*audittrailv1.Event{shape.Event(f.sent)}}).SizeVT()
	var answers answers
	c := load.Config{Conns: answers.conns(s), Ledger: f.ledger, Shape: shape, First: f.sent, Events: events, Batch: batch, Workers: workers}
	report, err := load.Run(t.Context(), c, &f.progress)
	if err != nil {
		t.Fatal(err)
	}
	f.sent += events
	took := report.Elapsed
	offered, taken := float64(answers.offered), float64(events*each)
	t.note("the pipeline takes %.0f events/s; %.1f times of what it took was offered for %s: %d events, %d calls or events refused",
		takes, offered/taken, took.Round(time.Second), events, report.Retries)
	if offered < factor*taken {
		t.Errorf("%.1f times of what was taken was offered, want %d times: this shows nothing", offered/taken, factor)
	}
	if answers.count(codes.ResourceExhausted) == 0 {
		t.Errorf("nobody was told that it is too much: %s", &answers)
	}
	if len(answers.illegal) > 0 {
		t.Errorf("answers that tell no producer to try again: %q", answers.illegal)
	}
	// The emitter: three times its budget, as it says, and what its calls bring (22 KB each, twice while they are decoded, and
	// 32 KB of buffers of gRPC), which the collector lets double. The others get what the narrow connections let through, however much is offered.
	bounds := map[string]int64{"emitter": before["emitter-0"]>>20 + 3*budget + 2*workers*(2*22+32)>>10, "enricher": roomy["enricher"], "sink": roomy["sink"], "gateway": roomy["gateway"]}
	memory.look(t, "during the overload", bounds)

	emitter.heal()
	sink.heal()
	back := time.Now()
	s.awaitStored(f.sent, 2*time.Minute)
	t.recovered("the overload (until all of it is stored)", time.Since(back), goalRecovery)
	if report := f.mustSend(1000, load.Config{Batch: batch, Workers: 4, Rate: 500}); report.Retries > 0 || report.Slowest > 2*time.Second {
		t.Errorf("after the overload: %d retries, slowest call %s", report.Retries, report.Slowest)
	}
	s.awaitStored(f.sent, time.Minute)
	memory.look(t, "after", roomy)
	s.expectClean(f) // which reads everything through the gateway, into its cache
	s.sameProcesses()
}
