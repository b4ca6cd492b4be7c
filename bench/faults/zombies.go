package faults

import (
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/maxviazov/audittrail/bench/stage"
	"github.com/maxviazov/audittrail/proto/stream"
)

var zombieScenarios = []Scenario{
	{ID: "F12-zombies", Title: "enricher and sink stopped in their tracks for longer than their session lasts, and let go on beside their successors, under load",
		Quick: true, Run: zombies},
}

// stopped is longer than a group waits for a member (6 s), so that another has taken over before the stopped one goes on.
const stopped = 9 * time.Second

// zombies holds R7, R8, R10 and R11 against a process that does not know that it was replaced, as one is whose machine was moved or
// swapped out: it goes on with what it has in memory, writes for a while beside its successor, and finds out. What an enricher writes
// then is a version of outputs that there are already, and an older value of the table; what a sink wants to write, PostgreSQL does not
// take.
func zombies(t *T) {
	s := startSystem(t, systemConfig{cluster: t.kafka(), partitions: 4, emitters: 1, enrichers: 2, sinks: 2, gateways: 1})
	p := s.press(29, 500)
	rounds := 1
	if t.Long {
		rounds = 6
	} else if t.Broker == "kafka" {
		rounds = 2
	}
	for round := range rounds {
		begin, resumed := p.zombie("enricher", string(stream.EnricherGroup), s.enrichers[round%2])
		if t.Broker == "kafka" { // by the times at which the broker took the outputs, which kfake does not keep
			written, last := s.zombieWrote(begin, resumed)
			t.note("the zombie of the enricher wrote %d outputs beside its successor, the last one %s after it went on", written, last.Round(time.Millisecond))
		}
		p.zombie("sink", string(stream.SinkGroup), s.sinks[round%2])
	}
	p.report(goalRecovery, boundRecovery)
	p.endClean()
}

// zombie stops a process until it has been replaced, lets it go on, and waits until it has found out and is a member again. It returns
// when the process was stopped, and when it went on.
func (p *pressure) zombie(role, group string, process *stage.Process) (begin, resumed time.Time) {
	p.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(p.Brokers...))
	if err != nil {
		p.t.Fatal(err)
	}
	defer client.Close()
	members := &scaling{system: p.system, admin: kadm.NewClient(client)}
	members.stable(group, 2)
	began := logFrom(p.t, process)
	p.fault(fmt.Sprintf("SIGSTOP of the %s for %s", role, stopped), func() {
		begin = time.Now()
		process.Pause()
		pause(p.t, stopped)
		members.stable(group, 1)
	})
	p.fault("SIGCONT of the "+role, func() {
		process.Resume()
		resumed = time.Now()
		waitFor(p.t, "the zombie finds out", time.Minute, func() bool { return began.count("session ended") > 0 })
		p.t.note("the zombie of the %s found out %s after it went on", role, time.Since(resumed).Round(10*time.Millisecond))
		members.stable(group, 2)
	})
	return begin, resumed
}

// zombieWrote counts, for every partition that was taken over between begin and resumed, the outputs that its former writer appended
// afterwards and before the last one of its successor, and how long after resumed the last of them came. Writers are told apart by
// the producer id that Kafka keeps with each message.
func (s *system) zombieWrote(begin, resumed time.Time) (written int, last time.Duration) {
	s.t.Helper()
	byPartition := map[int32][]*kgo.Record{}
	for _, r := range readTopic(s.t, s.Brokers, stream.Records) {
		byPartition[r.Partition] = append(byPartition[r.Partition], r)
	}
	for _, records := range byPartition {
		var former, successor int64 = -1, -1
		end := -1 // of the successor's records
		for i, r := range records {
			switch {
			case r.Timestamp.Before(begin):
				former = r.ProducerID
			case r.Timestamp.Before(resumed) && r.ProducerID != former:
				successor = r.ProducerID
			}
			if r.ProducerID == successor {
				end = i
			}
		}
		if successor < 0 {
			continue // it was the other one's all the time
		}
		for _, r := range records[:end+1] {
			if r.ProducerID == former && r.Timestamp.After(resumed) {
				written++
				last = max(last, r.Timestamp.Sub(resumed))
			}
		}
	}
	return written, last
}
