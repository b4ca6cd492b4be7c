package views

import (
	"context"
	"fmt"

	"github.com/lovoo/goka"
	"github.com/lovoo/goka/storage"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/maxviazov/audittrail/processors/enricher/table"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/stream"
)

// SourceViews puts two goka views together: the enricher's table, which says what was seen of a source, and the registry, which says what an
// operator said of it. Both are in memory: the last value of each source, about 1 KB.
type SourceViews struct {
	activity *tableView
	registry *tableView
	paths    *pathIndex
	log      zerolog.Logger
}

var _ Sources = (*SourceViews)(nil)

// NewSourceViews connects to nothing; Run does.
func NewSourceViews(settings stream.Settings, log zerolog.Logger, registerer prometheus.Registerer) *SourceViews {
	paths := newPathIndex()
	m := newViewMetrics(registerer)
	return &SourceViews{
		activity: newTableView(settings, goka.GroupTable(stream.EnricherGroup), table.Update, paths, m, log),
		registry: newTableView(settings, goka.Table(stream.Sources), updateRegistry, paths, m, log),
		paths:    paths,
		log:      log,
	}
}

// updateRegistry keeps the last registration; a nil value removes it.
func updateRegistry(_ goka.UpdateContext, s storage.Storage, key string, value []byte) error {
	if value == nil {
		return s.Delete(key)
	}
	return s.Set(key, value)
}

// Run keeps both views up to date until ctx ends. While Kafka is away they keep what they have and try again.
func (v *SourceViews) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return v.activity.run(ctx) })
	g.Go(func() error { return v.registry.run(ctx) })
	return g.Wait()
}

// Ready implements Sources: nil when both views have everything that was in Kafka when they last connected.
func (v *SourceViews) Ready() error {
	for _, t := range []*tableView{v.activity, v.registry} {
		if !t.ready() {
			return fmt.Errorf("view of %s has not caught up", t.topic)
		}
	}
	return nil
}

// Get implements Sources.
func (v *SourceViews) Get(path string) (*audittrailv1.Source, error) {
	state, err := v.activity.get(path)
	if err != nil {
		return nil, err
	}
	registered, err := v.registry.get(path)
	if err != nil || state == nil && registered == nil {
		return nil, err
	}
	source := &audittrailv1.Source{Source: path}
	if state != nil {
		s, err := stream.DecodeState(state)
		if err != nil {
			return nil, fmt.Errorf("decode state: %w", err)
		}
		source.Activity = table.ToActivity(s)
	}
	if registered != nil {
		r := new(audittrailv1.SourceRegistration)
		if err := r.UnmarshalVT(registered); err != nil {
			// Somebody else wrote to the topic; the enricher takes it for no registration as well.
			v.log.Warn().Str("topic", stream.Sources).Msg("registration does not decode")
		} else {
			source.Registration = r
		}
	}
	return source, nil
}

// Paths implements Sources.
func (v *SourceViews) Paths(prefix, after string, n int) ([]string, error) {
	if !v.activity.complete() || !v.registry.complete() {
		return nil, ErrNotReady
	}
	return v.paths.list(prefix, after, n), nil
}
