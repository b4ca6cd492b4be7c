package group

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

// LogRange is what a partition's log holds: offsets in [Start, End).
//
// End is the high watermark: the offset the next message will get, as far as the replicas have it. Under read-committed
// isolation the last stable offset may be lower while a transaction is open; End is right for "is this position inside
// the log", because a position at an offset that is not yet stable is valid and merely waits.
type LogRange struct {
	Start, End int64
}

// Contains says whether n is a position a consumer can start from: Start ≤ n ≤ End.
func (r LogRange) Contains(n int64) bool { return r.Start <= n && n <= r.End }

// OutOfLogError is returned for a position that the log does not have. The caller decides: R2 starts at Start when the
// position is below it, and refuses when it is above End.
type OutOfLogError struct {
	Topic     string
	Partition int32
	Position  int64
	Log       LogRange
}

func (e *OutOfLogError) Error() string {
	return fmt.Sprintf("position %d of %s/%d is outside the log [%d, %d]", e.Position, e.Topic, e.Partition, e.Log.Start, e.Log.End)
}

// ErrStarted is returned by SetPosition after Positions returned.
var ErrStarted = errors.New("session has started: positions are fixed")

// LogRange asks the leader of a partition, claimed or not, for its log's start and end. It usually takes milliseconds; while a leader moves some
// seconds; and with a broker that hangs one network time-out of the settings for each of a few tries, but one only once the session is over. It uses
// connections of its own, so it does not wait behind a fetch.
func (s *Session) LogRange(topic string, partition int32) (LogRange, error) {
	var r LogRange
	err := s.kafka.try(s.ctx, func(c sarama.Client) (err error) {
		if r.Start, err = c.GetOffset(topic, partition, sarama.OffsetOldest); err != nil {
			return err
		}
		r.End, err = c.GetOffset(topic, partition, sarama.OffsetNewest)
		return err
	})
	if err != nil {
		return LogRange{}, fmt.Errorf("read log range %s/%d: %w", topic, partition, err)
	}
	return r, nil
}

// Committed returns the group's commit for a claimed partition as it was when the session began, and whether there is
// one. What this session commits later does not change it.
func (s *Session) Committed(topic string, partition int32) (offset int64, ok bool, err error) {
	c, ok, err := s.commit(topic, partition)
	return c.offset, ok, err
}

// CommittedMetadata returns what stands beside the commit that Committed returns; "" when there is none.
func (s *Session) CommittedMetadata(topic string, partition int32) (string, error) {
	c, _, err := s.commit(topic, partition)
	return c.metadata, err
}

func (s *Session) commit(topic string, partition int32) (c commit, ok bool, err error) {
	if s.tracker(topic, partition) == nil {
		return commit{}, false, fmt.Errorf("read commit: %s/%d is not claimed", topic, partition)
	}
	s.committedMu.Lock()
	defer s.committedMu.Unlock()
	if s.committed == nil {
		if s.committed, err = s.kafka.commits(s.ctx, s.inner.Claims()); err != nil {
			return commit{}, false, fmt.Errorf("read commit %s/%d: %w", topic, partition, err)
		}
	}
	c, ok = s.committed[Claim{topic, partition}]
	return c, ok, nil
}

// SetPosition makes the session start a claimed partition exactly at offset n, in either direction, and makes n the
// group's commit (with the next automatic commit). Only inside Positions; else ErrStarted. A position outside the log is an
// *OutOfLogError and changes nothing. A partition without SetPosition starts at the group's commit, or without one at
// the initial offset of the settings.
func (s *Session) SetPosition(topic string, partition int32, n int64) error {
	t := s.tracker(topic, partition)
	if t == nil {
		return fmt.Errorf("set position: %s/%d is not claimed", topic, partition)
	}
	if s.started.Load() {
		return ErrStarted
	}
	r, err := s.LogRange(topic, partition)
	if err != nil {
		return fmt.Errorf("set position: %w", err)
	}
	if !r.Contains(n) {
		return &OutOfLogError{Topic: topic, Partition: partition, Position: n, Log: r}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	// Mark moves forward only, reset backward only, so both together move anywhere.
	s.inner.MarkOffset(topic, partition, n, t.metadata)
	s.inner.ResetOffset(topic, partition, n, t.metadata)
	t.next = n
	return nil
}

// positions asks Kafka about logs and commits, over a client of its own, made when first needed.
type positions struct {
	brokers []string
	group   string
	config  *sarama.Config

	mu     sync.Mutex
	client sarama.Client
	closed bool
}

func (p *positions) get() (sarama.Client, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, sarama.ErrClosedClient
	}
	if p.client == nil {
		c, err := sarama.NewClient(p.brokers, p.config)
		if err != nil {
			return nil, err
		}
		p.client = c
	}
	return p.client, nil
}

func (p *positions) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.client == nil {
		return nil
	}
	return p.client.Close()
}

// try calls ask until it succeeds, five times at most over about 1.5 s: enough for a leader or a coordinator that moves.
// A longer outage is the caller's to wait for.
func (p *positions) try(ctx context.Context, ask func(sarama.Client) error) error {
	for i := 0; ; i++ {
		c, err := p.get()
		if err == nil {
			err = ask(c)
		}
		if err == nil || i == 4 {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(100 * time.Millisecond << i):
		}
	}
}

// commit is what the group has committed on a partition.
type commit struct {
	offset   int64
	metadata string
}

func (p *positions) commits(ctx context.Context, claims map[string][]int32) (map[Claim]commit, error) {
	found := make(map[Claim]commit)
	err := p.try(ctx, func(c sarama.Client) error {
		coordinator, err := c.Coordinator(p.group)
		if err != nil {
			return err
		}
		req := sarama.NewOffsetFetchRequest(p.config.Version, p.group, claims)
		req.RequireStable = req.Version >= 7
		resp, err := coordinator.FetchOffset(req)
		if err != nil {
			_ = coordinator.Close()
			return errors.Join(err, c.RefreshCoordinator(p.group))
		}
		for topic, partitions := range claims {
			for _, partition := range partitions {
				block := resp.GetBlock(topic, partition)
				switch {
				case block == nil && resp.Err != sarama.ErrNoError:
					return errors.Join(resp.Err, c.RefreshCoordinator(p.group))
				case block == nil:
					return sarama.ErrIncompleteResponse
				case block.Err != sarama.ErrNoError:
					return errors.Join(block.Err, c.RefreshCoordinator(p.group))
				case block.Offset >= 0:
					found[Claim{topic, partition}] = commit{block.Offset, block.Metadata}
				}
			}
		}
		return nil
	})
	return found, err
}
