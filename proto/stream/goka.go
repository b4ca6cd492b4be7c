package stream

import (
	"fmt"
	"hash"
	"strings"
	"time"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"
	"github.com/rs/zerolog"
)

// Goka gives the options that all our goka processors, views and emitters share. Each default of goka's that it replaces lost data or
// hung in a test (see the package's documentation); the consumer group's builder is the business of package internal/group.
type Goka struct {
	// Settings say how to reach Kafka.
	Settings Settings
	// Log takes goka's messages, at debug level but for those that look like trouble.
	Log zerolog.Logger
}

// ProcessorOptions are for goka.NewProcessor; producing names the topics the processor writes (its table included).
func (g Goka) ProcessorOptions(producing ...string) []goka.ProcessorOption {
	return []goka.ProcessorOption{
		goka.WithClientID(g.clientID()),
		goka.WithLogger(g.logger()),
		goka.WithHasher(NewHasher),
		goka.WithTopicManagerBuilder(g.TopicManagerBuilder()),
		goka.WithConsumerSaramaBuilder(g.ConsumerBuilder()),
		goka.WithProducerBuilder(g.ProducerBuilder(producing...)),
		// By default goka commits a nil value without calling back.
		goka.WithNilHandling(goka.NilProcess),
		goka.WithBackoffBuilder(backoff),
		goka.WithBackoffResetTimeout(backoffReset),
	}
}

// ViewOptions are for goka.NewView. The view reconnects by itself.
func (g Goka) ViewOptions() []goka.ViewOption {
	return []goka.ViewOption{
		goka.WithViewClientID(g.clientID()),
		goka.WithViewLogger(g.logger()),
		goka.WithViewHasher(NewHasher),
		goka.WithViewTopicManagerBuilder(g.TopicManagerBuilder()),
		goka.WithViewConsumerSaramaBuilder(g.ConsumerBuilder()),
		goka.WithViewAutoReconnect(),
		goka.WithViewBackoffBuilder(backoff),
		goka.WithViewBackoffResetTimeout(backoffReset),
	}
}

// EmitterOptions are for goka.NewEmitter of the topic.
func (g Goka) EmitterOptions(topic string) []goka.EmitterOption {
	return []goka.EmitterOption{
		goka.WithEmitterClientID(g.clientID()),
		goka.WithEmitterLogger(g.logger()),
		goka.WithEmitterHasher(NewHasher),
		goka.WithEmitterTopicManagerBuilder(g.TopicManagerBuilder()),
		goka.WithEmitterProducerBuilder(g.ProducerBuilder(topic)),
	}
}

// TopicManagerBuilder builds goka's topic manager so that it never creates a topic: of 20 first starts 6 died when it did.
func (g Goka) TopicManagerBuilder() goka.TopicManagerBuilder {
	return func(brokers []string) (goka.TopicManager, error) {
		tm := goka.NewTopicManagerConfig()
		tm.NoCreate = true
		return goka.NewTopicManager(brokers, ClientConfig(g.Settings), tm)
	}
}

// ConsumerBuilder builds the consumer of tables, joins and views.
func (g Goka) ConsumerBuilder() goka.SaramaConsumerBuilder {
	return func(brokers []string, clientID string) (sarama.Consumer, error) {
		c := ClientConfig(g.Settings)
		c.ClientID = clientID
		return sarama.NewConsumer(brokers, c)
	}
}

// ProducerBuilder builds a producer to the topics. Unlike goka's own builders it keeps our partitioner; goka's hasher is not used.
func (g Goka) ProducerBuilder(topics ...string) goka.ProducerBuilder {
	return func(brokers []string, clientID string, _ func() hash.Hash32) (goka.Producer, error) {
		c := ProducerConfig(g.Settings, topics...)
		c.ClientID = clientID
		return goka.NewProducer(brokers, c)
	}
}

func (g Goka) clientID() string { return baseConfig(g.Settings).ClientID }

func (g Goka) logger() goka.Logger { return gokaLogger{g.Log.With().Str("component", "goka").Logger()} }

const backoffReset = 10 * time.Second

// backoff replaces goka's steps of 10 s up to 2 min: a view that is two minutes behind a broker's restart is an outage of its own.
func backoff() (goka.Backoff, error) {
	return goka.NewSimpleBackoff(250*time.Millisecond, 5*time.Second), nil
}

// gokaLogger adapts zerolog. Goka has one level and free text; the text goes into a field, so that messages stay constant.
type gokaLogger struct{ log zerolog.Logger }

func (l gokaLogger) write(text string) {
	event := l.log.Debug()
	if low := strings.ToLower(text); strings.Contains(low, "error") || strings.Contains(low, "fail") || strings.Contains(low, "panic") {
		event = l.log.Warn()
	}
	event.Str("text", strings.TrimSpace(text)).Msg("goka")
}

// Print implements goka.Logger.
func (l gokaLogger) Print(v ...any) { l.write(fmt.Sprint(v...)) }

// Println implements goka.Logger.
func (l gokaLogger) Println(v ...any) { l.write(fmt.Sprintln(v...)) }

// Printf implements goka.Logger.
func (l gokaLogger) Printf(format string, v ...any) { l.write(fmt.Sprintf(format, v...)) }
