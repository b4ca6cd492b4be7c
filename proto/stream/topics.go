package stream

import (
	"fmt"
	"strconv"
	"time"

	"github.com/lovoo/goka"
)

// Names of the topics and consumer groups. They are part of the contract between versions of AuditTrail.
const (
	// Events carries what the emitter acknowledged. Key: source. Value: EncodeBatch, or one encoded Event of a raw producer.
	Events = "audit-events"
	// Table is the changelog of the enricher's group table. Key: source. Value: EncodeState.
	Table = "audit-enricher-table"
	// Records carries what the enricher decided. Key: source. Value: EncodeRecords. The enricher alone may write it.
	Records = "audit-records"
	// Sources is the registry of sources. Key: source. Value: an encoded SourceRegistration without envelope.
	Sources = "audit-sources"
	// DeadLetters repeats what could not be processed, for alerting and other consumers. Key: key of the original.
	// Value: EncodeDeadLetter.
	DeadLetters = "audit-deadletters"

	// EnricherGroup is the enricher's consumer group; goka derives the name of its table from it.
	EnricherGroup = goka.Group("audit-enricher")
	// SinkGroup is the sink's consumer group.
	SinkGroup = goka.Group("audit-sink")
)

// Limits of messages. What is over the batch limits is one dead letter as a whole: state or output of it could outgrow what may
// be sent, and the message would be replayed for ever.
const (
	// MaxBatchEvents is the greatest number of events in one message of Events.
	MaxBatchEvents = 500
	// MaxBatchBytes is the greatest length of the value of one message of Events, after decompression.
	MaxBatchBytes = 256 << 10
	// MaxEventsMessageBytes is max.message.bytes of Events: room for one message of MaxBatchBytes with headers, and for a
	// few smaller ones in one record batch.
	MaxEventsMessageBytes = 512 << 10
	// MaxMessageBytes is max.message.bytes of all other topics.
	MaxMessageBytes = 2 << 20

	// messageOverhead is kept free below max.message.bytes for what a broker counts beside key and value: the header of the
	// record batch (61 bytes), each record's own lengths and headers, and the worst case of compression.
	messageOverhead = 16 << 10
)

// TopicNames lists the topics in the order of the walk of an event.
func TopicNames() []string { return []string{Events, Table, Records, Sources, DeadLetters} }

// Layout is what an installation chooses about its topics.
type Layout struct {
	// Partitions of every topic: 1 to 1,000; fixed at creation for ever, since a key's partition depends on it. It bounds the
	// number of useful replicas of enricher and sink. Default 12.
	Partitions int32
	// Replication is the number of copies of a partition: 1 to the number of brokers. Default 3.
	Replication int16
	// MinInsync is how many copies must have a record before it is acknowledged: 1 to Replication. Default 2.
	MinInsync int16
	// Window is the enricher's dedup window. The table's records are kept twice as long before they may be compacted.
	// Default 15 min; at most 7 d.
	Window time.Duration
}

// DefaultLayout is the layout of a cluster of three brokers or more.
func DefaultLayout() Layout {
	return Layout{Partitions: 12, Replication: 3, MinInsync: 2, Window: 15 * time.Minute}
}

// SingleBrokerLayout is the layout on one broker: the embedded one and those of tests. Four partitions: the embedded program runs
// one replica of each role, each partition costs it files, buffers and a Merkle log, and four still exercise everything that
// having several logs can get wrong.
func SingleBrokerLayout() Layout {
	return Layout{Partitions: 4, Replication: 1, MinInsync: 1, Window: 15 * time.Minute}
}

// Validate lists all problems, each a string that names the field.
func (l Layout) Validate() []string {
	var p []string
	if l.Partitions < 1 || l.Partitions > 1000 {
		p = append(p, fmt.Sprintf("partitions is %d, must be 1 to 1000", l.Partitions))
	}
	if l.Replication < 1 {
		p = append(p, fmt.Sprintf("replication is %d, must be at least 1", l.Replication))
	}
	if l.MinInsync < 1 || l.MinInsync > l.Replication {
		p = append(p, fmt.Sprintf("min_insync_replicas is %d, must be 1 to replication (%d)", l.MinInsync, l.Replication))
	}
	if l.Window <= 0 || l.Window > 7*24*time.Hour {
		p = append(p, fmt.Sprintf("window is %s, must be above 0 and at most 168h", l.Window))
	}
	return p
}

// Spec is one topic with every setting that matters to us.
type Spec struct {
	// Name of the topic.
	Name string
	// Partitions and Replication as in Layout.
	Partitions  int32
	Replication int16
	// Config holds Kafka's topic settings by name.
	Config map[string]string
}

const day = 24 * time.Hour

// Specs returns the topics as they must be.
//
// LogAppendTime everywhere but in Sources: an import of old events must not be deleted by retention on arrival, and compaction lag
// is taken from the timestamps of the records (with an hour-old CreateTime it does nothing). Never `compact,delete` for a table: it
// deletes latest values too. segment.ms is short for the table: the active segment is never compacted. Records are kept no longer
// than events: a sink that must start over asks the enricher again, which needs the events.
func Specs(l Layout) []Spec {
	logAppend := map[string]string{"message.timestamp.type": "LogAppendTime"}
	return []Spec{
		l.spec(Events, MaxEventsMessageBytes, deleteAfter(7*day), logAppend),
		l.spec(Table, MaxMessageBytes, compacted(time.Hour), logAppend, map[string]string{
			"min.compaction.lag.ms": millis(2 * l.Window),
		}),
		l.spec(Records, MaxMessageBytes, deleteAfter(7*day), logAppend),
		l.spec(Sources, MaxMessageBytes, compacted(day)),
		l.spec(DeadLetters, MaxMessageBytes, deleteAfter(30*day), logAppend),
	}
}

func (l Layout) spec(name string, maxMessage int, parts ...map[string]string) Spec {
	config := map[string]string{
		"max.message.bytes":              strconv.Itoa(maxMessage),
		"min.insync.replicas":            strconv.Itoa(int(l.MinInsync)),
		"unclean.leader.election.enable": "false",
	}
	for _, part := range parts {
		for k, v := range part {
			config[k] = v
		}
	}
	return Spec{Name: name, Partitions: l.Partitions, Replication: l.Replication, Config: config}
}

func deleteAfter(d time.Duration) map[string]string {
	return map[string]string{"cleanup.policy": "delete", "retention.ms": millis(d), "retention.bytes": "-1"}
}

func compacted(segment time.Duration) map[string]string {
	return map[string]string{"cleanup.policy": "compact", "segment.ms": millis(segment)}
}

func millis(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// maxMessageBytes is the topic limit of a topic of ours; of others the smallest.
func maxMessageBytes(topic string) int {
	switch topic {
	case Table, Records, Sources, DeadLetters:
		return MaxMessageBytes
	default:
		return MaxEventsMessageBytes
	}
}
