package stream

import (
	"net"
	"time"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"
)

// Settings say how to reach Kafka. The zero value of everything but Brokers is usable.
type Settings struct {
	// Brokers are the addresses to begin with, host:port; at least one.
	Brokers []string
	// ClientID names this process in the broker's logs and quotas. Default `audittrail`.
	ClientID string
	// TLS makes the connections to the brokers; nil: they are plaintext. Every connection goes through it, those to brokers that metadata
	// names included, with the address as the broker advertises it.
	TLS Dialer
	// SASL says who we are; nil: no authentication but TLS's.
	SASL *SASL
}

// Dialer connects to a broker and returns an encrypted connection to a server that it has verified.
type Dialer interface {
	Dial(network, addr string) (net.Conn, error)
}

// version is the protocol version spoken: it gives topic ids in metadata, and brokers from 3.6 to 4.x speak it.
var version = sarama.V3_6_0_0

func baseConfig(s Settings) *sarama.Config {
	c := sarama.NewConfig()
	c.Version = version
	c.ClientID = s.ClientID
	if c.ClientID == "" {
		c.ClientID = "audittrail"
	}
	// A topic made by accident has the wrong settings and the wrong partition count.
	c.Metadata.AllowAutoTopicCreation = false
	c.Metadata.RefreshFrequency = time.Minute
	c.Net.DialTimeout, c.Net.ReadTimeout, c.Net.WriteTimeout = 3*time.Second, 10*time.Second, 10*time.Second
	c.Metadata.Retry.Max, c.Metadata.Retry.Backoff = 5, 250*time.Millisecond
	if s.TLS != nil {
		// Not sarama's own TLS: its configuration is fixed for the life of a client, and certificates are not.
		c.Net.Proxy.Enable, c.Net.Proxy.Dialer = true, s.TLS
	}
	s.SASL.apply(c)
	// Read what is committed, from the start, and rather fail than jump over what retention took (R1).
	c.Consumer.IsolationLevel = sarama.ReadCommitted
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Group.ResetInvalidOffsets = false
	c.Consumer.Return.Errors = true
	// A callback may wait for PostgreSQL; below this sarama drops and re-makes the subscription each time.
	c.Consumer.MaxProcessingTime = time.Second
	// Sarama gives up a partition, and takes a new one, only between two fetches: a fetch that waits for data delays each rebalance, for
	// tables at their end twice. With sarama's 500 ms an enricher's partitions stood still for 1.2 to 1.5 s when one joined or left, with
	// this for 0.5 to 1.1 s (bench, TestRealKafkaScaleUnderLoad).
	c.Consumer.MaxWaitTime = maxFetchWait
	return c
}

// maxFetchWait is how long a broker keeps a fetch when there is nothing to fetch: an idle consumer asks each broker ten times a second.
const maxFetchWait = 100 * time.Millisecond

// ClientConfig is for clients that neither produce nor join a group: views, administration.
func ClientConfig(s Settings) *sarama.Config { return baseConfig(s) }

// ProducerConfig is for producers to the topics named. The greatest message it sends fits all of them, since sarama also packs
// small messages into batches of that size and a broker refuses a batch over the topic's limit as a whole. With no topic it fits
// every topic of ours.
//
// A send is retried for about a quarter of an hour; callers that cannot wait bound it themselves. Messages have no timestamp of
// ours: sarama stamps the time of sending, which most topics replace on append.
func ProducerConfig(s Settings, topics ...string) *sarama.Config {
	c := baseConfig(s)
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Idempotent = true
	c.Net.MaxOpenRequests = 1
	c.Producer.Timeout = 8 * time.Second
	c.Producer.Retry.Max = 1000
	c.Producer.Retry.BackoffFunc = retryBackoff
	// Without a known leader sarama does not retry the message but asks for metadata: 60 times 500 ms bridge an election.
	c.Metadata.Retry.Max, c.Metadata.Retry.Backoff = 60, 500*time.Millisecond
	c.Producer.Compression = sarama.CompressionLZ4
	c.Producer.Partitioner = NewPartitioner
	c.Producer.Return.Successes = true
	c.Producer.Return.Errors = true
	c.Producer.MaxMessageBytes = MaxProducerMessageBytes(topics...)
	if acksOne {
		c.Producer.RequiredAcks, c.Producer.Idempotent = sarama.WaitForLocal, false
	}
	return c
}

// MaxProducerMessageBytes is the greatest message (key, value and headers, before compression) that a producer of ours sends to
// all of the topics.
func MaxProducerMessageBytes(topics ...string) int {
	n := MaxMessageBytes
	if len(topics) == 0 {
		n = MaxEventsMessageBytes
	}
	for _, t := range topics {
		n = min(n, maxMessageBytes(t))
	}
	return n - messageOverhead
}

// retryBackoff doubles from 50 ms to 1 s.
func retryBackoff(retries, _ int) time.Duration {
	return min(50*time.Millisecond<<min(retries, 5), time.Second)
}

// GroupBufferedMessages is how many messages of one partition sarama holds in front of a callback that waits, as a sink's does while it
// catches up or PostgreSQL hangs. Messages of ours take up to 256 KiB in Events and 2 MiB in Records: sarama's 256 would be up to 64 and
// 512 MiB for each partition. Fewer than this cost throughput when messages are small.
const GroupBufferedMessages = 32

// GroupTuning are the time-outs of a consumer group. They are chosen together: a processor that has lost its coordinator tries
// again until its network time-outs end that (four times Read when the coordinator hangs; internal/group stops the writing before, after
// Session), but JoinGroup blocks up to Rebalance, and a Read below that kills the member while it waits.
type GroupTuning struct {
	// Heartbeat is how often a member shows that it lives, and how soon it learns of a rebalance. Default 500 ms.
	Heartbeat time.Duration
	// Session is how long a silent member keeps its partitions. Default 6 s, the least that brokers allow by default.
	Session time.Duration
	// Rebalance is how long a rebalance waits for members that are known. Default 5 s: less than Session, so that a member
	// that died while the group rebalances holds the others up no longer than one that died in peace. A member that needs
	// longer to stop what it does loses its partitions, which is safe.
	Rebalance time.Duration
	// Read is the network read time-out. Default 12 s: more than twice Rebalance, since kfake begins to wait anew with each
	// member that joins, and a member that gives up and joins again holds the others up: at 8 s and 10 s two of them kept each
	// other waiting for minutes.
	Read time.Duration
	// InstanceID makes the membership static (KIP-345); empty: dynamic. Must be unique in the group.
	InstanceID string
}

// DefaultGroupTuning returns the measured defaults.
func DefaultGroupTuning() GroupTuning {
	return GroupTuning{Heartbeat: 500 * time.Millisecond, Session: 6 * time.Second, Rebalance: 5 * time.Second, Read: 12 * time.Second}
}

func (t GroupTuning) withDefaults() GroupTuning {
	d := DefaultGroupTuning()
	if t.Heartbeat == 0 {
		t.Heartbeat = d.Heartbeat
	}
	if t.Session == 0 {
		t.Session = d.Session
	}
	if t.Rebalance == 0 {
		t.Rebalance = d.Rebalance
	}
	if t.Read == 0 {
		t.Read = max(d.Read, 2*t.Rebalance+2*time.Second)
	}
	return t
}

// GroupConfig is for consumer groups, and for them only: its time-outs are tight. Partitions are shared out by goka's strategy, which
// keeps those of several topics together; never a cooperative one, with which goka keeps stale tables.
func GroupConfig(s Settings, t GroupTuning) *sarama.Config {
	t = t.withDefaults()
	c := baseConfig(s)
	c.Net.DialTimeout, c.Net.WriteTimeout = 3*time.Second, 5*time.Second
	c.Net.ReadTimeout = t.Read
	c.Metadata.Retry.Max, c.Metadata.Retry.Backoff = 3, 250*time.Millisecond
	c.Consumer.Group.Heartbeat.Interval = t.Heartbeat
	c.Consumer.Group.Session.Timeout = t.Session
	c.Consumer.Group.Rebalance.Timeout = t.Rebalance
	// Sarama's 2 s between tries to join would be a stall of its own.
	c.Consumer.Group.Rebalance.Retry.Backoff = 200 * time.Millisecond
	c.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{goka.CopartitioningStrategy}
	c.Consumer.Group.InstanceId = t.InstanceID
	c.ChannelBufferSize = GroupBufferedMessages
	c.Consumer.Offsets.AutoCommit.Enable = true
	c.Consumer.Offsets.AutoCommit.Interval = time.Second
	return c
}
