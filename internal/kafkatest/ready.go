package kafkatest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/IBM/sarama"

	"github.com/maxviazov/audittrail/proto/stream"
)

// errExited is in the error when a broker ended by itself.
var errExited = errors.New("broker ended")

// pollInterval is the time between two questions to a broker that is not ready yet.
const pollInterval = 100 * time.Millisecond

// WaitReady returns when every node that should run answers and names all of them as alive, or with an
// error when one has ended by itself or ctx is done.
func (c *Cluster) WaitReady(ctx context.Context) error {
	return c.poll(ctx, func(m *sarama.MetadataResponse) error {
		for _, n := range c.nodes {
			alive := func(b *sarama.Broker) bool { return b.ID() == int32(n.id) }
			if n.cmd != nil && !slices.ContainsFunc(m.Brokers, alive) {
				return fmt.Errorf("does not know node %d", n.id)
			}
		}
		return nil
	})
}

// WaitInSync returns when every partition of every topic has all its replicas in sync, so that the
// next node may be killed without making a partition unavailable. All nodes must run.
func (c *Cluster) WaitInSync(ctx context.Context) error {
	return c.poll(ctx, func(m *sarama.MetadataResponse) error {
		for _, t := range m.Topics {
			for _, p := range t.Partitions {
				if p.Err != sarama.ErrNoError || len(p.Isr) < len(p.Replicas) {
					return fmt.Errorf("%s/%d has %d of %d replicas in sync", t.Name, p.ID, len(p.Isr), len(p.Replicas))
				}
			}
		}
		return nil
	})
}

// poll asks each node that should run for its metadata until check accepts the answer.
func (c *Cluster) poll(ctx context.Context, check func(*sarama.MetadataResponse) error) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for _, n := range c.nodes {
		for n.cmd != nil {
			m, err := n.metadata()
			if err == nil {
				err = check(m)
			}
			if err == nil {
				break
			}
			select {
			case <-n.exited:
				return fmt.Errorf("node %d: %w\n%s", n.id, errExited, n.logTail())
			case <-ctx.Done():
				return fmt.Errorf("node %d: %w; last: %w\n%s", n.id, context.Cause(ctx), err, n.logTail())
			case <-tick.C:
			}
		}
	}
	return nil
}

// metadata asks one broker, over a connection of its own, for all topics.
func (n *node) metadata() (*sarama.MetadataResponse, error) {
	cfg := sarama.NewConfig()
	if n.secure != nil {
		cfg = stream.ClientConfig(n.secure.Client)
	}
	cfg.Version = sarama.V3_6_0_0
	cfg.Net.DialTimeout = time.Second
	cfg.Net.ReadTimeout = 5 * time.Second
	cfg.Net.WriteTimeout = 5 * time.Second
	b := sarama.NewBroker(n.addr())
	if err := b.Open(cfg); err != nil {
		return nil, err
	}
	defer b.Close()
	return b.GetMetadata(sarama.NewMetadataRequest(cfg.Version, nil))
}
