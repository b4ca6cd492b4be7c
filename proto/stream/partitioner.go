package stream

import (
	"fmt"
	"strconv"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"
)

// PartitionHeader is the header that carries the partition a message must go to, as a decimal number. The enricher sets it on all
// it writes: its outputs belong into the partition of their input, whatever the key says (a wrongly keyed message of a raw
// producer included).
const PartitionHeader = "p"

// PartitionHeaders returns the headers for Emit that send a message to the partition.
func PartitionHeaders(partition int32) goka.Headers {
	return goka.Headers{PartitionHeader: strconv.AppendInt(nil, int64(partition), 10)}
}

// NewPartitioner is sarama's partitioner of all our producers: the partition of PartitionHeader where there is one, else that of the
// key by Murmur2. A header that names no partition of the topic is an error: a guess would put a record into another's log.
func NewPartitioner(topic string) sarama.Partitioner { return partitioner{topic} }

type partitioner struct{ topic string }

// Partition implements sarama.Partitioner.
func (p partitioner) Partition(message *sarama.ProducerMessage, numPartitions int32) (int32, error) {
	for _, h := range message.Headers {
		if string(h.Key) != PartitionHeader {
			continue
		}
		n, err := strconv.ParseInt(string(h.Value), 10, 32)
		if err != nil || n < 0 || int32(n) >= numPartitions {
			return -1, fmt.Errorf("partition header %q of a message to %s: no partition of 0 to %d", h.Value, p.topic, numPartitions-1)
		}
		return int32(n), nil
	}
	if message.Key == nil {
		return -1, fmt.Errorf("message to %s has neither key nor partition header", p.topic)
	}
	key, err := message.Key.Encode()
	if err != nil {
		return -1, fmt.Errorf("key of a message to %s: %w", p.topic, err)
	}
	return Murmur2(key) % numPartitions, nil
}

// RequiresConsistency implements sarama.Partitioner: a key keeps its partition also while that partition has no leader.
func (p partitioner) RequiresConsistency() bool { return true }
