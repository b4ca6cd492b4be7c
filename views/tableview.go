package views

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"
	"github.com/lovoo/goka/storage"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/maxviazov/audittrail/processors/enricher/table"
	"github.com/maxviazov/audittrail/proto/stream"
)

// viewMetrics of the views of sources.
type viewMetrics struct {
	ready *prometheus.GaugeVec // by topic
	lag   *prometheus.GaugeVec // by topic
}

func newViewMetrics(r prometheus.Registerer) *viewMetrics {
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "audittrail", Subsystem: "gateway", Name: name, Help: help}, []string{"topic"})
	}
	m := &viewMetrics{
		ready: gauge("view_ready", "1 when the view has everything that was in Kafka when it last connected."),
		lag:   gauge("view_lag_messages", "Offsets between the view and the end of its topic."),
	}
	r.MustRegister(m.ready, m.lag)
	return m
}

// tableView runs one goka view and knows when it can be believed. Goka's constructor fails while no broker answers, and goka calls a view
// running as soon as it is connected again, before it has caught up: the one is tried again here, the other checked against the offsets.
type tableView struct {
	settings stream.Settings
	topic    goka.Table
	update   goka.UpdateCallback
	paths    *pathIndex
	metrics  *viewMetrics
	log      zerolog.Logger

	mu         sync.Mutex
	partitions map[int32]*indexedStorage
	caughtUp   bool // now
	usable     bool // once since the storages were made: what they hold may be old, but nothing is missing
}

func newTableView(settings stream.Settings, topic goka.Table, update goka.UpdateCallback, paths *pathIndex, m *viewMetrics,
	log zerolog.Logger,
) *tableView {
	m.ready.WithLabelValues(string(topic))
	m.lag.WithLabelValues(string(topic))
	return &tableView{settings: settings, topic: topic, update: update, paths: paths, metrics: m,
		log: log.With().Str("topic", string(topic)).Logger()}
}

// indexedStorage tells the index of new keys.
type indexedStorage struct {
	*table.Storage
	paths *pathIndex
}

// Set implements storage.Storage.
func (s indexedStorage) Set(key string, value []byte) error {
	s.paths.add(key)
	return s.Storage.Set(key, value)
}

func (v *tableView) ready() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.caughtUp
}

func (v *tableView) complete() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.usable
}

// get returns the value of a key, nil when there is none. Errors: ErrNotReady.
func (v *tableView) get(key string) ([]byte, error) {
	v.mu.Lock()
	usable := v.usable
	var part *indexedStorage
	if usable {
		part = v.partitions[stream.Partition(key, int32(len(v.partitions)))]
	}
	v.mu.Unlock()
	if part == nil {
		return nil, ErrNotReady
	}
	return part.Get(key)
}

// run builds the view and keeps it running until ctx ends, with a pause that grows to a few seconds after each failure.
func (v *tableView) run(ctx context.Context) error {
	const first, last = 250 * time.Millisecond, 5 * time.Second
	for pause := first; ; pause = min(2*pause, last) {
		started := time.Now()
		err := v.once(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(started) > time.Minute {
			pause = first
		}
		v.log.Warn().Err(err).Dur("pause", pause).Msg("view stopped, it will be built again")
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// once builds the view and runs it. It closes what goka opens and leaves open.
func (v *tableView) once(ctx context.Context) error {
	g := stream.Goka{Settings: v.settings, Log: v.log}
	var opened []interface{ Close() error }
	defer func() {
		for _, o := range opened {
			o.Close() // nothing was written
		}
	}()
	var offsets goka.TopicManager
	view, err := goka.NewView(v.settings.Brokers, v.topic, stream.BytesCodec{}, append(g.ViewOptions(),
		goka.WithViewStorageBuilder(v.build),
		goka.WithViewCallback(v.update),
		goka.WithViewConsumerSaramaBuilder(func(brokers []string, clientID string) (sarama.Consumer, error) {
			consumer, err := g.ConsumerBuilder()(brokers, clientID)
			if err == nil {
				opened = append(opened, consumer)
			}
			return consumer, err
		}),
		goka.WithViewTopicManagerBuilder(func(brokers []string) (goka.TopicManager, error) {
			tm, err := g.TopicManagerBuilder()(brokers)
			if err == nil && offsets == nil { // the first is the view's, the second it closes
				offsets = tm
				opened = append(opened, tm)
			}
			return tm, err
		}))...)
	if err != nil {
		return fmt.Errorf("build view: %w", err)
	}
	v.mu.Lock()
	v.partitions, v.usable, v.caughtUp = make(map[int32]*indexedStorage), false, false
	v.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		v.watch(ctx, view, offsets)
	}()
	err = view.Run(ctx)
	cancel()
	<-watched
	return err
}

func (v *tableView) build(_ string, partition int32) (storage.Storage, error) {
	s := &indexedStorage{table.NewStorage(), v.paths}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.partitions[partition] = s
	return s, nil
}

// watch decides whether the view has caught up: it is running, and each partition is as far as the end of the topic was after it began
// to run.
func (v *tableView) watch(ctx context.Context, view *goka.View, offsets goka.TopicManager) {
	const every, lagEvery = 50 * time.Millisecond, 5 * time.Second
	states := view.ObserveStateChanges()
	defer states.Stop()
	tick := time.NewTicker(every)
	defer tick.Stop()
	defer v.set(false)
	var ends map[int32]int64
	var measured time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case state := <-states.C():
			if goka.ViewState(state) != goka.ViewStateRunning {
				ends = nil
				v.set(false)
			}
			continue
		case <-tick.C:
		}
		if view.CurrentState() != goka.ViewStateRunning {
			ends = nil
			v.set(false)
			continue
		}
		caughtUp := v.ready()
		if !caughtUp && ends == nil || time.Since(measured) > lagEvery {
			now, err := v.ends(offsets)
			if err != nil {
				v.log.Debug().Err(err).Msg("end of topic not read")
				continue
			}
			measured = time.Now()
			v.metrics.lag.WithLabelValues(string(v.topic)).Set(float64(v.behind(now)))
			if !caughtUp && ends == nil {
				ends = now
			}
		}
		if !caughtUp && v.behind(ends) == 0 {
			v.set(true)
		}
	}
}

func (v *tableView) set(caughtUp bool) {
	v.mu.Lock()
	changed := v.caughtUp != caughtUp
	v.caughtUp = caughtUp
	v.usable = v.usable || caughtUp
	sources := len(v.partitions)
	v.mu.Unlock()
	if !changed {
		return
	}
	value := 0.0
	if caughtUp {
		value = 1
	}
	v.metrics.ready.WithLabelValues(string(v.topic)).Set(value)
	v.log.Info().Bool("caught_up", caughtUp).Int("partitions", sources).Msg("view changed")
}

// ends returns the first offset that a partition need not have reached.
func (v *tableView) ends(offsets goka.TopicManager) (map[int32]int64, error) {
	v.mu.Lock()
	n := int32(len(v.partitions))
	v.mu.Unlock()
	ends := make(map[int32]int64, n)
	for p := range n {
		start, err := offsets.GetOffset(string(v.topic), p, sarama.OffsetOldest)
		if err != nil {
			return nil, err
		}
		end, err := offsets.GetOffset(string(v.topic), p, sarama.OffsetNewest)
		if err != nil {
			return nil, err
		}
		if start < end { // an empty log has nothing to be reached
			ends[p] = end
		}
	}
	return ends, nil
}

// behind sums up how far the partitions are from their ends.
func (v *tableView) behind(ends map[int32]int64) int64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	var n int64
	for p, end := range ends {
		at, err := v.partitions[p].GetOffset(-1)
		if err == nil {
			n += max(0, end-1-at)
		}
	}
	return n
}
