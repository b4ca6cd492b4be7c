package stream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/IBM/sarama"
	"github.com/rs/zerolog"
)

// Apply makes the topics as Specs wants them: creates those that are missing, changes settings that differ (a line in the log for each),
// and returns when the leader of every partition answers, so that whoever starts next finds them. It never changes the number of
// partitions or replicas of a topic that is there: that is an error, after everything else was applied. Running it again changes
// nothing; when it dies half-way, running it again finishes.
func Apply(ctx context.Context, s Settings, l Layout, log zerolog.Logger) error {
	if p := l.Validate(); len(p) > 0 {
		return fmt.Errorf("layout: %s", strings.Join(p, "; "))
	}
	a, err := NewAdmin(ctx, s)
	if err != nil {
		return err
	}
	return errors.Join(a.apply(ctx, l, log), a.Close())
}

func (a *Admin) apply(ctx context.Context, l Layout, log zerolog.Logger) error {
	var left []error
	for _, spec := range Specs(l) {
		problems, err := a.checkTopic(ctx, spec)
		if err != nil {
			return err
		}
		if len(problems) == 1 && problems[0].Setting == settingTopic {
			if err := a.create(ctx, spec, log); err != nil {
				return err
			}
			continue
		}
		for _, p := range problems {
			if !p.applicable() {
				left = append(left, errors.New(p.String()))
				continue
			}
			if err := a.set(ctx, p, log); err != nil {
				return err
			}
		}
	}
	for _, spec := range Specs(l) {
		if err := a.awaitLeaders(ctx, spec.Name); err != nil {
			return err
		}
	}
	return errors.Join(left...)
}

func (a *Admin) create(ctx context.Context, spec Spec, log zerolog.Logger) error {
	detail := &sarama.TopicDetail{
		NumPartitions:     spec.Partitions,
		ReplicationFactor: spec.Replication,
		ConfigEntries:     make(map[string]*string, len(spec.Config)),
	}
	for name, value := range spec.Config {
		detail.ConfigEntries[name] = &value
	}
	created, err := await(ctx, "create topic "+spec.Name, func() (bool, error) {
		err := a.admin.CreateTopic(spec.Name, detail, false)
		if errors.Is(err, sarama.ErrTopicAlreadyExists) {
			return false, nil // another Apply, a moment ago
		}
		return err == nil, err
	})
	if created {
		log.Info().Str("topic", spec.Name).Int32("partitions", spec.Partitions).Int16("replication", spec.Replication).Msg("topic created")
	}
	return err
}

func (a *Admin) set(ctx context.Context, p Problem, log zerolog.Logger) error {
	value := p.Want
	_, err := await(ctx, "set "+p.Setting+" of "+p.Topic, func() (struct{}, error) {
		return struct{}{}, a.admin.IncrementalAlterConfig(sarama.TopicResource, p.Topic, map[string]sarama.IncrementalAlterConfigsEntry{
			p.Setting: {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &value},
		}, false)
	})
	if err == nil {
		log.Warn().Str("topic", p.Topic).Str("setting", p.Setting).Str("from", p.Got).Str("to", p.Want).Msg("topic setting changed")
	}
	return err
}

// awaitLeaders returns when every partition answers a request for its offsets, which only a leader that serves does.
func (a *Admin) awaitLeaders(ctx context.Context, topic string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 30*time.Second, errors.New("not all leaders answered within 30s"))
	defer cancel()
	var last error
	for delay := 20 * time.Millisecond; ; delay = min(2*delay, time.Second) {
		if _, last = a.LogRanges(ctx, topic); last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("await leaders of %s: %w (last: %w)", topic, context.Cause(ctx), last)
		case <-time.After(delay):
		}
	}
}
