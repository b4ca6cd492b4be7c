package emitters

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/lovoo/goka"
	"github.com/rs/zerolog"

	"github.com/maxviazov/audittrail/proto/stream"
)

// ErrNotConnected is the error of a message that came while there is no producer.
var ErrNotConnected = errors.New("no connection to kafka")

// GokaPublisher publishes by goka's emitter to audit-events. goka.NewEmitter fails while no broker answers, so it is built in the
// background, with back-off; until then messages fail at once. Once built, sarama reconnects by itself.
type GokaPublisher struct {
	settings stream.Settings
	log      zerolog.Logger
	failures zerolog.Logger // at most one line a second

	emitter atomic.Pointer[goka.Emitter]
}

// NewGokaPublisher returns a publisher that connects when Run runs.
func NewGokaPublisher(settings stream.Settings, log zerolog.Logger) *GokaPublisher {
	return &GokaPublisher{settings: settings, log: log,
		failures: log.Sample(&zerolog.BurstSampler{Burst: 1, Period: time.Second})}
}

// Ready implements Publisher.
func (p *GokaPublisher) Ready() bool { return p.emitter.Load() != nil }

// Publish implements Publisher.
func (p *GokaPublisher) Publish(key string, value []byte, done func(error)) {
	emitter := p.emitter.Load()
	if emitter == nil {
		done(ErrNotConnected)
		return
	}
	promise, err := emitter.Emit(key, value)
	if err != nil {
		done(fmt.Errorf("emit to %s: %w", stream.Events, err))
		return
	}
	promise.Then(func(err error) {
		if err != nil {
			p.failures.Warn().Err(err).Int("bytes", len(value)).Msg("message not acknowledged")
		}
		done(err)
	})
}

// Run implements Publisher. At its end it waits for the messages that sarama still holds, at most 15 minutes when brokers are down;
// Server.Run does not wait that long.
func (p *GokaPublisher) Run(ctx context.Context) error {
	wait := connectMin
	for {
		emitter, err := p.connect(ctx)
		if err == nil {
			p.log.Info().Strs("brokers", p.settings.Brokers).Msg("connected to kafka")
			p.emitter.Store(emitter)
			<-ctx.Done()
			p.emitter.Store(nil)
			return emitter.Finish()
		}
		p.log.Warn().Err(err).Dur("again_in", wait).Msg("kafka does not answer")
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
		wait = min(2*wait, connectMax)
	}
}

// Waits between attempts to connect.
const (
	connectMin = 100 * time.Millisecond
	connectMax = 2 * time.Second
)

// connect builds the emitter. Building takes half a minute without a broker and cannot be interrupted, so it first looks whether one
// is there.
func (p *GokaPublisher) connect(ctx context.Context) (*goka.Emitter, error) {
	var problems []error
	for _, addr := range p.settings.Brokers {
		dialer := net.Dialer{Timeout: connectMax}
		conn, err := dialer.DialContext(ctx, "tcp", addr)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		conn.Close()
		options := stream.Goka{Settings: p.settings, Log: p.log}.EmitterOptions(stream.Events)
		emitter, err := goka.NewEmitter(p.settings.Brokers, goka.Stream(stream.Events), stream.BytesCodec{}, options...)
		if err != nil {
			return nil, fmt.Errorf("build emitter of %s: %w", stream.Events, err)
		}
		return emitter, nil
	}
	return nil, errors.Join(problems...)
}
