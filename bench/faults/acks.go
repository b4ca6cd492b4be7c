package faults

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/maxviazov/audittrail/bench/load"
	"github.com/maxviazov/audittrail/bench/traffic"
	"github.com/maxviazov/audittrail/internal/kafkatest"
)

// acksOfAll holds R19 and what DESIGN 5 says of producers: an event is acknowledged when the brokers in sync have it, not
// when its leader has. The followers are stopped in their tracks for a moment, the leader is killed, and a follower takes over. With
// acks=all nothing is acknowledged in that moment, and producers try again. With acks=1 the leader acknowledges what dies with it.
func acksOfAll(t *T) {
	kafka := kafkatest.Start(t, kafkatest.Options{Nodes: 3, Properties: map[string]string{
		"broker.session.timeout.ms": "6000", "broker.heartbeat.interval.ms": "500"}})
	s := startSystem(t, systemConfig{brokers: kafka.Brokers(), partitions: 3, replicas: 3, minInsync: 2, emitters: 1, enrichers: 1, sinks: 1, gateways: 1})
	f := s.newFeed(traffic.Shape{Seed: 6, Sources: 30, Run: 1})
	f.mustSend(500, load.Config{Batch: 50, Workers: 2})
	s.awaitStored(500, time.Minute)
	s.killTheOnlyOneThatHasIt(f, kafka)
	s.expectUntouched(f)
}

// killTheOnlyOneThatHasIt sends events while one broker alone can take them, and kills it.
func (s *system) killTheOnlyOneThatHasIt(f *feed, kafka *kafkatest.Cluster) {
	s.t.Helper()
	leader := 0
	s.ledBy(kafka, leader)
	f.mustSend(100, load.Config{Batch: 50, Workers: 2}) // the emitter knows the new leaders
	s.awaitStored(f.sent, time.Minute)
	kafka.Pause(1)
	kafka.Pause(2)
	paused := time.Now()
	done := make(chan error, 1)
	go func() {
		// A call that waits for the killed leader is made again soon.
		_, err := f.send(s.t.Context(), 400, load.Config{Batch: 20, Workers: 4, Timeout: 3 * time.Second})
		done <- err
	}()
	// With acks=all nothing more than before is acknowledged; the time is well below that after which a follower leaves the in-sync
	// replicas or a broker its cluster.
	before := int(f.progress.Acked.Load())
	for time.Since(paused) < 2*time.Second && int(f.progress.Acked.Load()) < before+400 {
		time.Sleep(10 * time.Millisecond)
	}
	s.t.Logf("%d events were acknowledged by the leader alone", int(f.progress.Acked.Load())-before)
	kafka.Kill9(leader)
	kafka.Resume(1)
	kafka.Resume(2)
	if err := <-done; err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Minute)
	defer cancel()
	if err := errors.Join(kafka.Restart(ctx, leader), kafka.WaitInSync(ctx)); err != nil {
		s.t.Fatal(err)
	}
}

// ledBy makes one broker the leader of all partitions of audit-events.
func (s *system) ledBy(kafka *kafkatest.Cluster, node int) {
	s.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(kafka.Brokers()...))
	if err != nil {
		s.t.Fatal(err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	leads := func() bool {
		topics, err := admin.ListTopics(s.t.Context(), "audit-events")
		if err != nil {
			s.t.Fatal(err)
		}
		all := true
		topics.EachPartition(func(p kadm.PartitionDetail) { all = all && p.Leader == kafka.NodeID(node) })
		return all
	}
	topics, err := admin.ListTopics(s.t.Context(), "audit-events")
	if err != nil {
		s.t.Fatal(err)
	}
	var move kadm.AlterPartitionAssignmentsReq
	var elect kadm.TopicsSet
	topics.EachPartition(func(p kadm.PartitionDetail) {
		replicas := []int32{kafka.NodeID(node)}
		for _, r := range p.Replicas {
			if r != kafka.NodeID(node) {
				replicas = append(replicas, r)
			}
		}
		move.Assign("audit-events", p.Partition, replicas)
		elect.Add("audit-events", p.Partition)
	})
	if _, err := admin.AlterPartitionAssignments(s.t.Context(), move); err != nil {
		s.t.Fatal(err)
	}
	s.await("one broker leads audit-events", 30*time.Second, func() bool {
		_, err := admin.ElectLeaders(s.t.Context(), kadm.ElectPreferredReplica, elect)
		return err == nil && leads()
	})
}
