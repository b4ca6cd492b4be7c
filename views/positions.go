package views

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"

	"github.com/maxviazov/audittrail/proto/stream"
)

// Positions says where topics and groups stand in Kafka. KafkaPositions is the real one.
type Positions interface {
	// LogRanges returns the range of each partition of a topic; read-committed.
	LogRanges(ctx context.Context, topic string) ([]stream.Range, error)
	// GroupNotes returns the commit of a group on each partition of a topic, with what stands beside it; stream.NoCommit where there is none.
	GroupNotes(ctx context.Context, group, topic string) ([]stream.Commit, error)
	// FirstReadable returns the first message that a consumer would get from the offsets [from, end), nil when there is none:
	// transaction markers and aborted records are not readable.
	FirstReadable(ctx context.Context, topic string, partition int32, from, end int64) (*Readable, error)
	// OpenTransactions returns the oldest open transaction of each partition that has one.
	OpenTransactions(ctx context.Context, topic string) (map[int32]OpenTransaction, error)
}

// Readable is a message that a consumer would get.
type Readable struct {
	Offset int64
	At     time.Time // of the broker's append; zero when the broker does not say
}

// KafkaPositions connects at the first call and again after an error. It is safe for concurrent use.
type KafkaPositions struct {
	settings stream.Settings

	lock   chan struct{} // holds a value while somebody has client and admin; unlike a mutex it can be waited for with a context
	client sarama.Client // nil: not connected
	admin  *stream.Admin
}

// NewKafkaPositions connects to nothing yet.
func NewKafkaPositions(settings stream.Settings) *KafkaPositions {
	return &KafkaPositions{settings: settings, lock: make(chan struct{}, 1)}
}

// Close ends the connections.
func (k *KafkaPositions) Close() error {
	k.lock <- struct{}{}
	defer k.unlock()
	return k.disconnect()
}

func (k *KafkaPositions) unlock() { <-k.lock }

// disconnect needs lock.
func (k *KafkaPositions) disconnect() error {
	if k.admin == nil {
		return nil
	}
	err := errors.Join(k.admin.Close(), k.client.Close())
	k.admin, k.client = nil, nil
	return err
}

func (k *KafkaPositions) connect(ctx context.Context) (*stream.Admin, sarama.Client, error) {
	select {
	case k.lock <- struct{}{}:
		defer k.unlock()
	case <-ctx.Done():
		return nil, nil, fmt.Errorf("connect to kafka: %w", ctx.Err())
	}
	if k.admin != nil {
		return k.admin, k.client, nil
	}
	admin, err := stream.NewAdmin(ctx, k.settings)
	if err != nil {
		return nil, nil, err
	}
	client, err := sarama.NewClient(k.settings.Brokers, stream.ClientConfig(k.settings))
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("connect to kafka: %w", err), admin.Close())
	}
	k.admin, k.client = admin, client
	return admin, client, nil
}

// failed drops connections that gave an error: the next call makes new ones.
func (k *KafkaPositions) failed(admin *stream.Admin, err error) error {
	k.lock <- struct{}{}
	defer k.unlock()
	if admin == k.admin {
		return errors.Join(err, k.disconnect())
	}
	return err
}

// LogRanges implements Positions.
func (k *KafkaPositions) LogRanges(ctx context.Context, topic string) ([]stream.Range, error) {
	admin, _, err := k.connect(ctx)
	if err != nil {
		return nil, err
	}
	ranges, err := admin.LogRanges(ctx, topic)
	if err != nil {
		return nil, k.failed(admin, err)
	}
	return ranges, nil
}

// GroupNotes implements Positions.
func (k *KafkaPositions) GroupNotes(ctx context.Context, group, topic string) ([]stream.Commit, error) {
	admin, _, err := k.connect(ctx)
	if err != nil {
		return nil, err
	}
	commits, err := admin.GroupNotes(ctx, group, topic)
	if err != nil {
		return nil, k.failed(admin, err)
	}
	return commits, nil
}

// FirstReadable implements Positions. A consumer cannot tell "nothing there" from "nothing yet": this reads the record batches themselves.
func (k *KafkaPositions) FirstReadable(ctx context.Context, topic string, partition int32, from, end int64) (*Readable, error) {
	admin, client, err := k.connect(ctx)
	if err != nil {
		return nil, err
	}
	type result struct {
		first *Readable
		err   error
	}
	done := make(chan result, 1)
	go func() { // sarama's calls cannot be cancelled; they end by their own time-outs
		first, err := firstReadable(ctx, client, topic, partition, from, end)
		done <- result{first, err}
	}()
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("fetch %s/%d: %w", topic, partition, ctx.Err())
	case r := <-done:
		if r.err != nil {
			return nil, k.failed(admin, fmt.Errorf("fetch %s/%d: %w", topic, partition, r.err))
		}
		return r.first, nil
	}
}

func firstReadable(ctx context.Context, client sarama.Client, topic string, partition int32, from, end int64) (*Readable, error) {
	for from < end && ctx.Err() == nil {
		leader, err := client.Leader(topic, partition)
		if err != nil {
			return nil, err
		}
		block, err := fetch(leader, topic, partition, from, sarama.ReadCommitted)
		if err != nil {
			return nil, err
		}
		first, next := readable(block, from, end)
		if first != nil || next == from { // found, or nothing before the last stable offset
			return first, nil
		}
		from = next
	}
	return nil, ctx.Err()
}

// fetch reads record batches from an offset on: at least one, when there is one.
func fetch(leader *sarama.Broker, topic string, partition int32, from int64, isolation sarama.IsolationLevel) (*sarama.FetchResponseBlock, error) {
	const maxBytes, maxWait = 64 << 10, 100 // bytes, of more than one batch; milliseconds
	request := &sarama.FetchRequest{
		Version: 11, MinBytes: 1, MaxBytes: maxBytes, MaxWaitTime: maxWait, Isolation: isolation, SessionEpoch: -1,
	}
	request.AddBlock(topic, partition, from, maxBytes, -1)
	response, err := leader.Fetch(request)
	if err != nil {
		return nil, err
	}
	block := response.GetBlock(topic, partition)
	if block == nil {
		return nil, errors.New("broker did not answer for the partition")
	}
	if !errors.Is(block.Err, sarama.ErrNoError) {
		return nil, block.Err
	}
	return block, nil
}

// readable looks for the first batch of [from, end) that a read-committed consumer would get. Otherwise it returns where to go on.
func readable(block *sarama.FetchResponseBlock, from, end int64) (first *Readable, next int64) {
	next = from
	for _, records := range block.RecordsSet {
		b := records.RecordBatch
		if b == nil || b.LastOffset() < from || b.PartialTrailingRecord && len(b.Records) == 0 {
			continue
		}
		if b.FirstOffset >= end {
			break
		}
		next = b.LastOffset() + 1
		if b.Control || b.IsTransactional && aborted(block, b) {
			continue
		}
		first = &Readable{Offset: max(from, b.FirstOffset), At: batchTime(b)}
		return first, next
	}
	return nil, next
}

// aborted says whether a batch belongs to a transaction that was aborted: one of its producer began before it and was not ended by a marker
// in between.
func aborted(block *sarama.FetchResponseBlock, batch *sarama.RecordBatch) bool {
	for _, t := range block.AbortedTransactions {
		if t.ProducerID != batch.ProducerID || t.FirstOffset > batch.FirstOffset {
			continue
		}
		ended := false
		for _, records := range block.RecordsSet {
			b := records.RecordBatch
			if b != nil && b.ProducerID == batch.ProducerID && b.FirstOffset >= t.FirstOffset && b.FirstOffset < batch.FirstOffset && abortMarker(b) {
				ended = true
			}
		}
		if !ended {
			return true
		}
	}
	return false
}

// abortMarker recognises the control record of an abort: key version int16, type int16 (0).
func abortMarker(b *sarama.RecordBatch) bool {
	return b.Control && len(b.Records) > 0 && len(b.Records[0].Key) >= 4 && binary.BigEndian.Uint16(b.Records[0].Key[2:]) == 0
}
