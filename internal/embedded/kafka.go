package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kfake"
)

// KafkaConfig says how the broker listens.
type KafkaConfig struct {
	// Listen is the loopback address and port of the broker, also given to clients. Port 0 takes a free one, another at each start.
	// Default: 127.0.0.1:0.
	Listen string
	// Flag names what the user changes Listen with, for error messages. Default: --kafka-listen.
	Flag string
	// MaxMessageBytes is the broker's message.max.bytes; topics may set their own. Default: 4 MiB.
	MaxMessageBytes int
	// Log receives the broker's warnings and errors.
	Log zerolog.Logger
}

func (cfg KafkaConfig) withDefaults() KafkaConfig {
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	if cfg.Flag == "" {
		cfg.Flag = "--kafka-listen"
	}
	if cfg.MaxMessageBytes == 0 {
		cfg.MaxMessageBytes = 4 << 20
	}
	return cfg
}

// Validate reports all problems at once.
func (cfg KafkaConfig) Validate() error {
	cfg = cfg.withDefaults()
	var errs []error
	if addr, err := netip.ParseAddrPort(cfg.Listen); err != nil {
		errs = append(errs, fmt.Errorf("%s %q: want a loopback address and port, such as 127.0.0.1:9092", cfg.Flag, cfg.Listen))
	} else if !addr.Addr().IsLoopback() {
		errs = append(errs, fmt.Errorf("%s %s: the embedded broker has no access control and listens on loopback only", cfg.Flag, cfg.Listen))
	}
	if cfg.MaxMessageBytes < 0 {
		errs = append(errs, fmt.Errorf("message.max.bytes %d: must be positive", cfg.MaxMessageBytes))
	}
	return errors.Join(errs...)
}

// Kafka is a broker in this process.
type Kafka struct {
	cluster *kfake.Cluster
	addrs   []string
}

// StartKafka runs one broker in this process on <data>/kafka: franz-go's kfake, which speaks Kafka's protocol and here syncs
// every batch and every commit before it acknowledges. Topics are never created by themselves.
//
// It neither compacts nor expires while it runs. kfake's compaction deletes a partition's files before it writes the new ones, so
// a kill -9 in between would lose the topic; and a log whose segments have all expired starts at offset 0 again, which
// its readers must take for a recreated topic. Instead sealed segments past their topic's retention.ms are removed here, before the
// broker starts; compacted topics keep everything.
func StartKafka(data *Data, cfg KafkaConfig) (*Kafka, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("start Kafka: %w", err)
	}
	dir := data.path("kafka")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("start Kafka: %w", err)
	}
	// Members of consumer groups that a former run saved lived in its process: with their state loaded, each group would wait for
	// them until their session ends.
	if err := remove(filepath.Join(dir, "session_state.json")); err != nil {
		return nil, fmt.Errorf("start Kafka: %w", err)
	}
	if err := expireSegments(dir, cfg.Log); err != nil {
		return nil, fmt.Errorf("start Kafka: expire old segments: %w", err)
	}
	cluster, err := kfake.NewCluster(
		kfake.NumBrokers(1),
		kfake.ClusterID("audittrail-embedded"),
		kfake.DataDir(dir),
		kfake.SyncWrites(),
		kfake.WithLogger(kafkaLog{cfg.Log}),
		kfake.BrokerConfigs(map[string]string{
			"message.max.bytes":         strconv.Itoa(cfg.MaxMessageBytes),
			"log.segment.bytes":         strconv.Itoa(segmentBytes),
			"log.cleaner.backoff.ms":    never,
			"offsets.retention.minutes": strconv.Itoa(10 * 365 * 24 * 60),
		}),
		kfake.ListenFn(func(network, _ string) (net.Listener, error) {
			ln, err := net.Listen(network, cfg.Listen)
			if err != nil {
				return nil, portError("Kafka", cfg.Listen, cfg.Flag, err)
			}
			return ln, nil
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("start Kafka: %w", err)
	}
	// What an orderly shutdown saved about the sequence numbers of producers has been loaded. Found again after a kill -9, it would
	// be out of date, and producers in other processes that outlived the broker would be refused.
	if err := remove(filepath.Join(dir, "seq_windows.json")); err != nil {
		cluster.Close()
		return nil, fmt.Errorf("start Kafka: %w", err)
	}
	return &Kafka{cluster: cluster, addrs: cluster.ListenAddrs()}, nil
}

// never is the longest interval, in ms, that fits Go's durations: a hundred years.
const never = "3153600000000"

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Addrs are the broker's addresses, host:port.
func (k *Kafka) Addrs() []string { return k.addrs }

// Close saves what makes the next start quick and stops the broker. Stop its clients first.
func (k *Kafka) Close() { k.cluster.Close() }

// kafkaLog sends kfake's lines to zerolog. Below warnings kfake logs every request.
type kafkaLog struct{ log zerolog.Logger }

func (l kafkaLog) Logf(level kfake.LogLevel, format string, args ...any) {
	switch level {
	case kfake.LogLevelError:
		l.log.Error().Str("detail", fmt.Sprintf(format, args...)).Msg("embedded kafka")
	case kfake.LogLevelWarn:
		l.log.Warn().Str("detail", fmt.Sprintf(format, args...)).Msg("embedded kafka")
	}
}
