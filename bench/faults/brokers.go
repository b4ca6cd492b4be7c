package faults

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/maxviazov/audittrail/proto/stream"
)

var brokerScenarios = []Scenario{
	{ID: "F06-leader-loop", Title: "kill -9 of the leading one of three brokers in a loop under load: no error for producers through the client library, nothing lost",
		Needs: Kafka, Run: killLeaders},
	{ID: "F07-broker-restart", Title: "three brokers restarted in good order, one after the other, under load: no error for producers through the client library, nothing lost",
		Needs: Kafka, Run: restartBrokers},
}

// threeBrokers is a system on three brokers, as DESIGN wants it in production, under load.
func threeBrokers(t *T, seed uint64) (*cluster, *pressure) {
	c := t.realKafka(3)
	s := startSystem(t, systemConfig{cluster: c, partitions: 6, replicas: 3, minInsync: 2, emitters: 2, enrichers: 1, sinks: 1, gateways: 1})
	return c, s.press(seed, 400)
}

// killLeaders holds R19 and what DESIGN 5 says of producers: the broker that leads most partitions is killed, the partitions go on with
// the two others, and once it is back and in sync the next one is killed.
func killLeaders(t *T) {
	c, p := threeBrokers(t, 27)
	kills := 3
	if t.Long {
		kills = 9
	}
	const name = "kill -9 of the leading broker"
	for range kills {
		node := p.leading(c)
		p.fault(name, func() { c.real.Kill9(node) })
		c.backInSync(t, node)
		p.goOn("the broker is back")
	}
	p.report(goalRecovery, boundRecovery)
	p.endClean()
}

// restartBrokers restarts every broker as an operator does: it hands its partitions over, is away for a moment, comes back, and the
// next one follows when all are in sync.
func restartBrokers(t *T) {
	c, p := threeBrokers(t, 28)
	const down, up = "orderly stop of a broker", "return of a broker"
	for node := range 3 {
		p.fault(down, func() { c.real.StopNode(node) })
		p.fault(up, func() { c.backInSync(t, node) })
	}
	p.report(goalRecovery, boundRecovery)
	p.endClean()
}

// backInSync starts a node again and waits until the next one may be missed.
func (c *cluster) backInSync(t *T, node int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := errors.Join(c.real.Restart(ctx, node), c.real.WaitInSync(ctx)); err != nil {
		t.Fatal(err)
	}
}

// leading is the node that leads most partitions of audit-events.
func (s *system) leading(c *cluster) int {
	s.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(s.Brokers...))
	if err != nil {
		s.t.Fatal(err)
	}
	defer client.Close()
	topics, err := kadm.NewClient(client).ListTopics(s.t.Context(), stream.Events)
	if err != nil {
		s.t.Fatal(err)
	}
	leads := map[int32]int{}
	topics.EachPartition(func(p kadm.PartitionDetail) { leads[p.Leader]++ })
	most := 0
	for node := range s.Brokers {
		if leads[c.real.NodeID(node)] > leads[c.real.NodeID(most)] {
			most = node
		}
	}
	return most
}
