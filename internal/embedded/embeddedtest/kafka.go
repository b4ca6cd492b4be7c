package embeddedtest

import (
	"strconv"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
)

// KafkaOption changes what Kafka starts.
type KafkaOption func(*kafkaOptions)

type kafkaOptions struct {
	brokers int
	configs map[string]string
	extra   []kfake.Opt
}

// Brokers sets the number of brokers. Default: 1.
func Brokers(n int) KafkaOption { return func(o *kafkaOptions) { o.brokers = n } }

// MaxMessageBytes sets message.max.bytes of the brokers. Default: 16 MiB.
func MaxMessageBytes(n int) KafkaOption {
	return BrokerConfig("message.max.bytes", strconv.Itoa(n))
}

// BrokerConfig sets one setting of the brokers, by its Kafka name.
func BrokerConfig(name, value string) KafkaOption {
	return func(o *kafkaOptions) { o.configs[name] = value }
}

// KafkaOpts passes options straight to kfake.
func KafkaOpts(opts ...kfake.Opt) KafkaOption {
	return func(o *kafkaOptions) { o.extra = append(o.extra, opts...) }
}

// Kafka starts an in-process Kafka cluster in memory, without topics and without automatic creation of topics, and returns
// the addresses of its brokers. It is closed when the test ends.
func Kafka(tb testing.TB, opts ...KafkaOption) []string {
	tb.Helper()
	return KafkaCluster(tb, opts...).ListenAddrs()
}

// KafkaCluster is Kafka for tests that need kfake's own means: to inject faults, move leaders, and so on.
func KafkaCluster(tb testing.TB, opts ...KafkaOption) *kfake.Cluster {
	tb.Helper()
	o := kafkaOptions{brokers: 1, configs: map[string]string{"message.max.bytes": strconv.Itoa(16 << 20)}}
	for _, opt := range opts {
		opt(&o)
	}
	cluster, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(o.brokers), kfake.BrokerConfigs(o.configs)}, o.extra...)...)
	if err != nil {
		tb.Fatalf("start kafka: %v", err)
	}
	tb.Cleanup(cluster.Close)
	return cluster
}
