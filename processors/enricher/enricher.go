package enricher

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/lovoo/goka"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/maxviazov/audittrail/internal/group"
	"github.com/maxviazov/audittrail/processors/enricher/table"
	"github.com/maxviazov/audittrail/proto/stream"
)

// Enricher is one replica of the role. Any number of them, up to the number of partitions, share the work out among
// themselves by the consumer group.
type Enricher struct {
	config  Config
	log     zerolog.Logger
	metrics *metrics
	group   *group.Wrapper
	stores  *stores

	generation atomic.Pointer[generation] // the session that runs; set in positions
	attending  sync.WaitGroup             // of all sessions

	adminMu sync.Mutex // guards admin
	admin   *stream.Admin
}

// New makes an enricher; it does not connect. The error lists every problem of the configuration. Two in one process need
// two registerers; nil registers no metrics.
func New(c Config, log zerolog.Logger, r prometheus.Registerer) (*Enricher, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	m, err := newMetrics(r)
	if err != nil {
		return nil, fmt.Errorf("register metrics of the enricher: %w", err)
	}
	log = log.With().Str("role", "enricher").Logger()
	e := &Enricher{config: c, log: log, metrics: m, stores: newStores(c, log, m)}
	e.group, err = group.New(group.Config{
		Group:      string(stream.EnricherGroup),
		Settings:   stream.GroupConfig(c.Kafka, c.Group),
		Log:        log,
		Registerer: r,
		Positions:  e.positions,
		Recovered:  e.recovered,
	})
	if err != nil {
		return nil, err
	}
	return e, nil
}

// Run processes until ctx is done, and returns nil then. It rides out whatever passes by itself (brokers that are down,
// rebalances) and returns an error only for what does not: a group.Refusal. At the end it saves snapshots.
func (e *Enricher) Run(ctx context.Context) error {
	keeping, stop := context.WithCancel(context.WithoutCancel(ctx))
	var keeper sync.WaitGroup
	keeper.Go(func() { e.stores.keep(keeping) })
	err := e.group.Supervise(ctx, func() (*goka.Processor, error) { return e.build(ctx) })
	e.attending.Wait()
	stop()
	keeper.Wait()
	e.stores.close()
	return errors.Join(err, e.disconnect())
}

// Ready says whether messages are processed now, with the table recovered.
func (e *Enricher) Ready() bool { return e.group.Ready() }

// build makes a goka processor; the supervisor calls it again when one has died.
func (e *Enricher) build(ctx context.Context) (*goka.Processor, error) {
	if err := e.check(ctx); err != nil {
		return nil, err
	}
	common := stream.Goka{Settings: e.config.Kafka, Log: e.log}
	options := common.ProcessorOptions(stream.Records, stream.Table)
	options = append(options, e.group.Options(e.producerBuilder())...)
	options = append(options, goka.WithStorageBuilder(e.stores.builder), goka.WithUpdateCallback(e.stores.update))
	return goka.NewProcessor(e.config.Kafka.Brokers, e.graph(), options...)
}

// graph is decoded in the callback throughout: goka dies on an error of a codec (R1).
func (e *Enricher) graph() *goka.GroupGraph {
	return goka.DefineGroup(stream.EnricherGroup,
		goka.Input(stream.Events, stream.BytesCodec{}, group.Guard(e.process)),
		goka.Join(stream.Sources, stream.BytesCodec{}),
		goka.Output(stream.Records, stream.BytesCodec{}),
		goka.Persist(table.Codec{}))
}

// check refuses to run when a topic would refuse what this enricher sends (R9), or when an output cannot go to the
// partition of its input.
func (e *Enricher) check(ctx context.Context) error {
	return e.ask(ctx, func(admin *stream.Admin) error {
		written := []string{stream.Records, stream.Table}
		problems, err := admin.CheckProducer(ctx, stream.ProducerConfig(e.config.Kafka, written...), written...)
		if err != nil {
			return fmt.Errorf("check topics: %w", err)
		}
		var errs []error
		for _, p := range problems {
			errs = append(errs, errors.New(p.String()))
		}
		uneven, err := unevenPartitions(ctx, admin)
		if err != nil {
			return fmt.Errorf("check topics: %w", err)
		}
		if errs = append(errs, uneven...); len(errs) > 0 {
			return group.Refusal{Err: errors.Join(errs...)}
		}
		return nil
	})
}

func (e *Enricher) newLane(s *group.Session, c group.Claim, ids topicIDs, partitions int32) *lane {
	return &lane{
		decider: decider{topicID: ids.events, partition: c.Partition, partitions: partitions, maxFuture: e.config.MaxFuture + clockDifference},
		headers: stream.PartitionHeaders(c.Partition),
		label:   label(c.Partition),
		logStart: func() (int64, error) {
			log, err := s.LogRange(c.Topic, c.Partition)
			return log.Start, err
		},
		placement: func(ctx context.Context) (int64, error) {
			log, err := s.LogRange(c.Topic, c.Partition) // before the count: what is in it was placed by an earlier one
			if err != nil {
				return 0, err
			}
			return log.End, e.placement(ctx, ids, partitions)
		},
	}
}

func (e *Enricher) producerBuilder() goka.ProducerBuilder {
	return stream.Goka{Settings: e.config.Kafka, Log: e.log}.ProducerBuilder(stream.Records, stream.Table)
}

func (e *Enricher) newProducer() (goka.Producer, error) {
	return e.producerBuilder()(e.config.Kafka.Brokers, e.config.Kafka.ClientID, stream.NewHasher)
}

// ask asks about topics, over a connection that is made when first needed and again after an error.
func (e *Enricher) ask(ctx context.Context, question func(*stream.Admin) error) error {
	e.adminMu.Lock()
	defer e.adminMu.Unlock()
	if e.admin == nil {
		admin, err := stream.NewAdmin(ctx, e.config.Kafka)
		if err != nil {
			return err
		}
		e.admin = admin
	}
	err := question(e.admin)
	if err != nil {
		_ = e.admin.Close()
		e.admin = nil
	}
	return err
}

func (e *Enricher) disconnect() error {
	e.adminMu.Lock()
	defer e.adminMu.Unlock()
	if e.admin == nil {
		return nil
	}
	err := e.admin.Close()
	e.admin = nil
	return err
}
