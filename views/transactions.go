package views

import (
	"context"
	"fmt"
	"time"

	"github.com/IBM/sarama"

	"github.com/maxviazov/audittrail/proto/stream"
)

// OpenTransaction holds up a partition: consumers, which read only what is committed, get nothing from Offset on until it has ended, also
// nothing of other producers. Events behind it are acknowledged, and not stored.
type OpenTransaction struct {
	// Offset of its first record: the last stable offset.
	Offset int64
	// End is the high watermark: the offset of the next record, whatever transaction it belongs to.
	End int64
	// Since is when its first record was appended; zero when that is not known.
	Since time.Time
}

// transactionAlert is the age of an open transaction that alerts. Healthy ones take milliseconds; one whose producer is gone lasts until the
// time-out that the producer chose (a minute by default for Kafka's own client, 15 at most unless the broker allows more).
const transactionAlert = 10 * time.Second

// OpenTransactions implements Positions.
func (k *KafkaPositions) OpenTransactions(ctx context.Context, topic string) (map[int32]OpenTransaction, error) {
	admin, client, err := k.connect(ctx)
	if err != nil {
		return nil, err
	}
	high, err := admin.HighWatermarks(ctx, topic) // before the ranges: see there
	if err != nil {
		return nil, k.failed(admin, err)
	}
	ranges, err := admin.LogRanges(ctx, topic)
	if err != nil {
		return nil, k.failed(admin, err)
	}
	open := make(map[int32]OpenTransaction)
	for i, r := range ranges {
		if i >= len(high) || high[i] <= r.End {
			continue
		}
		p := int32(i)
		since, err := appendedAt(ctx, client, topic, p, r.End)
		if err != nil {
			return nil, k.failed(admin, fmt.Errorf("fetch %s/%d: %w", topic, p, err))
		}
		open[p] = OpenTransaction{Offset: r.End, End: high[i], Since: since}
	}
	return open, nil
}

// appendedAt is when the batch at an offset was appended, whether it is committed or not; zero when it is not there any more, or does not say.
func appendedAt(ctx context.Context, client sarama.Client, topic string, partition int32, offset int64) (time.Time, error) {
	type result struct {
		at  time.Time
		err error
	}
	done := make(chan result, 1)
	go func() { // sarama's calls cannot be cancelled; they end by their own time-outs
		leader, err := client.Leader(topic, partition)
		if err != nil {
			done <- result{err: err}
			return
		}
		block, err := fetch(leader, topic, partition, offset, sarama.ReadUncommitted)
		if err != nil {
			done <- result{err: err}
			return
		}
		for _, records := range block.RecordsSet {
			if b := records.RecordBatch; b != nil && b.LastOffset() >= offset {
				done <- result{at: batchTime(b)}
				return
			}
		}
		done <- result{}
	}()
	select {
	case <-ctx.Done():
		return time.Time{}, ctx.Err()
	case r := <-done:
		return r.at, r.err
	}
}

// batchTime is the broker's append of a batch, or the producer's time where the broker keeps that; zero for none.
func batchTime(b *sarama.RecordBatch) time.Time {
	switch {
	case b.LogAppendTime:
		return b.MaxTimestamp
	case b.FirstTimestamp.UnixMilli() > 0:
		return b.FirstTimestamp
	}
	return time.Time{}
}

// transactionAlertOf is what to say of an open transaction; "" while it is young.
func transactionAlertOf(topic string, p int32, open OpenTransaction, now time.Time) string {
	age := now.Sub(open.Since)
	if !open.Since.IsZero() && age <= transactionAlert {
		return ""
	}
	since := "a time that Kafka does not tell"
	if !open.Since.IsZero() {
		since = fmt.Sprintf("%s (%s)", open.Since.UTC().Format(time.RFC3339), age.Round(time.Second))
	}
	text := fmt.Sprintf("partition %d: an open transaction has held up %s at offset %d since %s: what is behind it is acknowledged and not stored; it goes on when "+
		"the producer's time-out has passed, or abort it (kafka-transactions.sh abort --topic %s --partition %d --start-offset %d)",
		p, topic, open.Offset, since, topic, p, open.Offset)
	if topic == stream.Records {
		text += "; only enrichers may write there, and they use no transactions"
	}
	return text
}
