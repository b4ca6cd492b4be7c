package faults

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/maxviazov/audittrail/bench/load"
	"github.com/maxviazov/audittrail/bench/traffic"
)

var coordinatorScenarios = []Scenario{
	{ID: "F11-coordinator", Title: "an enricher loses its coordinator alone and still reaches the leaders: it stops by itself soon after it was replaced, nothing is lost",
		Quick: true, Run: coordinatorLost},
}

// boundZombie is how long an enricher that was given up by its group may go on writing: both count a session time-out from the last
// heartbeat, and what is in flight then is on its way.
const boundZombie = 4 * time.Second

// coordinatorLost holds R3, R7 and what DESIGN 5 says of the time-outs of a group's member: of two enrichers one can no longer talk to
// its coordinator, whatever broker that is, while it reads and writes as before. The group gives its partitions to the other one, and
// for a while both write. What the zombie writes is no harm, and it ends soon; once it can, it takes part again.
func coordinatorLost(t *T) {
	const partitions, rate = 6, 300
	var link *kafkaLink
	s := startSystem(t, systemConfig{cluster: t.threeBrokers(), partitions: partitions, replicas: 3, minInsync: 2, emitters: 1, enrichers: 2, sinks: 1, gateways: 1,
		wire: func(s *system) { link = s.link("enricher-0") }})
	client, err := kgo.NewClient(kgo.SeedBrokers(s.Brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	group := &scaling{system: s, admin: kadm.NewClient(client)}
	group.stable("audit-enricher", 2)
	f := s.newFeed(traffic.Shape{Seed: 12, Sources: 120, Run: 1})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done := make(chan error, 1)
	go func() {
		_, err := f.send(ctx, 1<<30, load.Config{Batch: 12, Workers: 4, Rate: rate, DuplicatePercent: 3})
		done <- err
	}()
	watch := watchStalls(t, s.postgres.DSN(), partitions)
	s.await("every partition stores", time.Minute, func() bool { return watch.grown(time.Time{}, 5) })

	release := link.holdGroups()
	defer release()
	lost := time.Now()
	group.stable("audit-enricher", 1)
	replaced := time.Now()
	s.await("the zombie is quiet", 40*time.Second, func() bool { return time.Since(link.lastProduce()) > 4*time.Second })
	zombie := link.lastProduce().Sub(replaced)
	t.note("the group gave the enricher up %s after it lost its coordinator; it wrote for the last time %s after that",
		replaced.Sub(lost).Round(time.Millisecond), zombie.Round(time.Millisecond))
	if zombie > boundZombie {
		t.Errorf("the enricher went on writing for %s beside its successor, bound is %s", zombie, boundZombie)
	}
	if link.lastProduce().Before(lost.Add(time.Second)) {
		t.Error("the enricher wrote nothing after it had lost its coordinator: it lost more than that, and this shows nothing")
	}
	s.await("every partition stores again", time.Minute, func() bool { return watch.grown(replaced, 3) })
	stall, _ := watch.longest(lost, time.Now())
	t.recovered("the loss of the coordinator (the longest stall of a partition, 6 s of it until the group misses the member)", stall, goalRecovery)

	release()
	back := time.Now()
	group.stable("audit-enricher", 2)
	s.await("both write", time.Minute, func() bool { return link.lastProduce().After(back) && watch.grown(back, 6) })
	t.recovered("the return of the coordinator (until both write)", time.Since(back), goalRecovery)
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatalf("the load ended by itself: %v", err)
	}
	f.sent = int(f.progress.Acked.Load())
	s.expectClean(f)
	s.sameProcesses()
}
