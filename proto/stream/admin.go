package stream

import (
	"context"
	"errors"
	"fmt"

	"github.com/IBM/sarama"
)

// ErrNoTopic says that a topic does not exist.
var ErrNoTopic = errors.New("topic does not exist")

// Admin reads where topics and groups stand. It is safe for concurrent use. Sarama's calls cannot be cancelled: when a context ends, the
// call is left behind and ends by the network time-outs, its result unused.
type Admin struct {
	admin sarama.ClusterAdmin
}

// NewAdmin connects to Kafka; it fails after a few seconds when no broker answers.
func NewAdmin(ctx context.Context, s Settings) (*Admin, error) {
	return await(ctx, "connect to kafka", func() (*Admin, error) {
		client, err := sarama.NewClient(s.Brokers, ClientConfig(s))
		if err != nil {
			return nil, err
		}
		admin, err := sarama.NewClusterAdminFromClient(client)
		if err != nil {
			return nil, errors.Join(err, client.Close())
		}
		if ctx.Err() != nil { // nobody waits for it any more
			return nil, errors.Join(context.Cause(ctx), admin.Close())
		}
		return &Admin{admin: admin}, nil
	})
}

// Close ends the connections.
func (a *Admin) Close() error { return a.admin.Close() }

// TopicID returns the id of a topic (KIP-516) and the number of its partitions. A topic that was deleted and made again has another id:
// offsets of the one mean nothing in the other (R18). Errors: ErrNoTopic.
func (a *Admin) TopicID(ctx context.Context, topic string) (id [16]byte, partitions int32, err error) {
	t, err := a.describe(ctx, topic)
	if err != nil {
		return id, 0, err
	}
	return t.Uuid, int32(len(t.Partitions)), nil
}

func (a *Admin) describe(ctx context.Context, topic string) (*sarama.TopicMetadata, error) {
	return await(ctx, "describe topic "+topic, func() (*sarama.TopicMetadata, error) {
		topics, err := a.admin.DescribeTopics([]string{topic})
		if err != nil {
			return nil, err
		}
		if len(topics) != 1 {
			return nil, fmt.Errorf("broker describes %d topics", len(topics))
		}
		switch t := topics[0]; {
		case errors.Is(t.Err, sarama.ErrUnknownTopicOrPartition):
			return nil, ErrNoTopic
		case !errors.Is(t.Err, sarama.ErrNoError):
			return nil, t.Err
		default:
			return t, nil
		}
	})
}

// Range is the part of a partition's log that exists.
type Range struct {
	// Start is the oldest offset that is kept.
	Start int64
	// End is the offset of the next record; read-committed, so that an open transaction is beyond it.
	End int64
}

// LogRange returns the range of one partition. Start is read first: both only grow, so Start ≤ End holds.
func (a *Admin) LogRange(ctx context.Context, topic string, partition int32) (start, end int64, err error) {
	r, err := a.logRanges(ctx, topic, []int32{partition})
	if err != nil {
		return 0, 0, err
	}
	return r[partition].Start, r[partition].End, nil
}

// LogRanges returns the ranges of all partitions of a topic, by partition.
func (a *Admin) LogRanges(ctx context.Context, topic string) ([]Range, error) {
	_, n, err := a.TopicID(ctx, topic)
	if err != nil {
		return nil, err
	}
	parts := make([]int32, n)
	for p := range parts {
		parts[p] = int32(p)
	}
	byPartition, err := a.logRanges(ctx, topic, parts)
	if err != nil {
		return nil, err
	}
	ranges := make([]Range, n)
	for p, r := range byPartition {
		ranges[p] = r
	}
	return ranges, nil
}

func (a *Admin) logRanges(ctx context.Context, topic string, partitions []int32) (map[int32]Range, error) {
	return await(ctx, "read offsets of "+topic, func() (map[int32]Range, error) {
		starts, err := a.offsets(topic, partitions, sarama.OffsetOldest, sarama.ReadCommitted)
		if err != nil {
			return nil, err
		}
		ends, err := a.offsets(topic, partitions, sarama.OffsetNewest, sarama.ReadCommitted)
		if err != nil {
			return nil, err
		}
		ranges := make(map[int32]Range, len(partitions))
		for _, p := range partitions {
			ranges[p] = Range{Start: starts[p], End: ends[p]}
		}
		return ranges, nil
	})
}

// HighWatermarks returns, by partition, the offset of the next record of a topic, whatever transaction it belongs to. One that was read before
// a Range and is beyond its End means that a transaction was open then: without one, the two ends are the same and only grow.
func (a *Admin) HighWatermarks(ctx context.Context, topic string) ([]int64, error) {
	_, n, err := a.TopicID(ctx, topic)
	if err != nil {
		return nil, err
	}
	return await(ctx, "read high watermarks of "+topic, func() ([]int64, error) {
		parts := make([]int32, n)
		for p := range parts {
			parts[p] = int32(p)
		}
		ends, err := a.offsets(topic, parts, sarama.OffsetNewest, sarama.ReadUncommitted)
		if err != nil {
			return nil, err
		}
		high := make([]int64, n)
		for p, end := range ends {
			high[p] = end
		}
		return high, nil
	})
}

func (a *Admin) offsets(topic string, partitions []int32, at int64, isolation sarama.IsolationLevel) (map[int32]int64, error) {
	query := make(map[int32]int64, len(partitions))
	for _, p := range partitions {
		query[p] = at
	}
	results, err := a.admin.ListOffsets(map[string]map[int32]int64{topic: query}, &sarama.ListOffsetsOptions{IsolationLevel: isolation})
	if err != nil {
		return nil, err
	}
	offsets := make(map[int32]int64, len(partitions))
	for _, p := range partitions {
		r := results[topic][p]
		switch {
		case r == nil:
			return nil, fmt.Errorf("partition %d: no answer", p)
		case r.Err != nil && !errors.Is(r.Err, sarama.ErrNoError):
			return nil, fmt.Errorf("partition %d: %w", p, r.Err)
		}
		offsets[p] = r.Offset
	}
	return offsets, nil
}

// NoCommit is the commit of a group that never committed.
const NoCommit = int64(-1)

// Commit is what a group has committed on a partition.
type Commit struct {
	Offset   int64 // NoCommit: nothing
	Metadata string
}

// GroupCommits returns the committed offset of each partition of a topic; NoCommit where there is none.
func (a *Admin) GroupCommits(ctx context.Context, group, topic string) ([]int64, error) {
	commits, err := a.GroupNotes(ctx, group, topic)
	if err != nil {
		return nil, err
	}
	offsets := make([]int64, len(commits))
	for p, c := range commits {
		offsets[p] = c.Offset
	}
	return offsets, nil
}

// GroupNotes is GroupCommits with what the group left beside its commits.
func (a *Admin) GroupNotes(ctx context.Context, group, topic string) ([]Commit, error) {
	_, n, err := a.TopicID(ctx, topic)
	if err != nil {
		return nil, err
	}
	return await(ctx, "read commits of group "+group, func() ([]Commit, error) {
		parts := make([]int32, n)
		for p := range parts {
			parts[p] = int32(p)
		}
		resp, err := a.admin.ListConsumerGroupOffsets(group, map[string][]int32{topic: parts})
		switch {
		// Brokers differ in what they say of a group that never was: nothing, or that it does not exist.
		case errors.Is(err, sarama.ErrGroupIDNotFound):
			resp = &sarama.OffsetFetchResponse{}
		case err != nil:
			return nil, err
		}
		commits := make([]Commit, n)
		for p := range commits {
			commits[p].Offset = NoCommit
			block := resp.GetBlock(topic, int32(p))
			if block == nil {
				continue
			}
			if !errors.Is(block.Err, sarama.ErrNoError) {
				return nil, fmt.Errorf("partition %d: %w", p, block.Err)
			}
			commits[p] = Commit{Offset: block.Offset, Metadata: block.Metadata}
		}
		return commits, nil
	})
}

// await runs a call that cannot be cancelled and returns when it or the context ends.
func await[T any](ctx context.Context, operation string, call func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	var zero T
	if ctx.Err() != nil {
		return zero, fmt.Errorf("%s: %w", operation, context.Cause(ctx))
	}
	done := make(chan result, 1)
	go func() {
		value, err := call()
		done <- result{value, err}
	}()
	select {
	case <-ctx.Done():
		return zero, fmt.Errorf("%s: %w", operation, context.Cause(ctx))
	case r := <-done:
		if r.err != nil {
			return zero, fmt.Errorf("%s: %w", operation, r.err)
		}
		return r.value, nil
	}
}
