package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/IBM/sarama"
)

// Problem is one thing about a topic that is not as it must be.
type Problem struct {
	// Topic is its name.
	Topic string
	// Setting is the name of the setting, or `topic`, `partitions`, `replication`.
	Setting string
	// Want and Got are the values; Got is empty when there is none.
	Want, Got string
}

// String says it in one line.
func (p Problem) String() string {
	got := p.Got
	if got == "" {
		got = "missing"
	}
	return fmt.Sprintf("topic %s: %s is %s, must be %s", p.Topic, p.Setting, got, p.Want)
}

// applicable says whether Apply may mend the problem. The number of partitions decides where a key lives, and replicas are moved by the
// cluster's operators.
func (p Problem) applicable() bool {
	return p.Setting != settingTopic && p.Setting != settingPartitions && p.Setting != settingReplication
}

const (
	settingTopic       = "topic"
	settingPartitions  = "partitions"
	settingReplication = "replication"
)

// Check compares every topic and every setting of it with what Specs wants. An error means that it could not compare.
func Check(ctx context.Context, s Settings, l Layout) ([]Problem, error) {
	a, err := NewAdmin(ctx, s)
	if err != nil {
		return nil, err
	}
	problems, err := a.check(ctx, l)
	return problems, errors.Join(err, a.Close())
}

func (a *Admin) check(ctx context.Context, l Layout) ([]Problem, error) {
	var problems []Problem
	for _, spec := range Specs(l) {
		p, err := a.checkTopic(ctx, spec)
		if err != nil {
			return nil, err
		}
		problems = append(problems, p...)
	}
	return problems, nil
}

func (a *Admin) checkTopic(ctx context.Context, spec Spec) ([]Problem, error) {
	topic, err := a.describe(ctx, spec.Name)
	switch {
	case errors.Is(err, ErrNoTopic):
		return []Problem{{Topic: spec.Name, Setting: settingTopic, Want: "there"}}, nil
	case err != nil:
		return nil, err
	}
	config, err := a.topicConfig(ctx, spec.Name)
	if err != nil {
		return nil, err
	}
	replicas := make([]int, len(topic.Partitions))
	for i, p := range topic.Partitions {
		replicas[i] = len(p.Replicas)
	}
	return compare(spec, replicas, config), nil
}

// compare is the pure part: replicas holds the number of replicas of each partition.
func compare(spec Spec, replicas []int, config map[string]string) []Problem {
	var problems []Problem
	add := func(setting, want, got string) {
		if want != got {
			problems = append(problems, Problem{Topic: spec.Name, Setting: setting, Want: want, Got: got})
		}
	}
	add(settingPartitions, strconv.Itoa(int(spec.Partitions)), strconv.Itoa(len(replicas)))
	if len(replicas) > 0 {
		add(settingReplication, strconv.Itoa(int(spec.Replication)), strconv.Itoa(slices.Min(replicas)))
	}
	names := make([]string, 0, len(spec.Config))
	for name := range spec.Config {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		add(name, spec.Config[name], config[name])
	}
	return problems
}

func (a *Admin) topicConfig(ctx context.Context, topic string) (map[string]string, error) {
	return await(ctx, "describe settings of "+topic, func() (map[string]string, error) {
		asked := []*sarama.ConfigResource{{Type: sarama.TopicResource, Name: topic}}
		results, err := a.admin.DescribeConfigs(asked, sarama.DescribeConfigsOptions{})
		if err != nil {
			return nil, err
		}
		config := map[string]string{}
		for _, r := range results {
			if r.ErrorCode != sarama.ErrNoError {
				return nil, &sarama.DescribeConfigError{Err: r.ErrorCode, ErrMsg: r.ErrorMsg}
			}
			for _, e := range r.Configs {
				config[e.Name] = e.Value
			}
		}
		return config, nil
	})
}

// CheckProducer says which of the topics would refuse what a producer with configuration c may send (R9). A producer that is larger than its
// topic has its messages refused one batch at a time, for ever; enricher and emitter ask at start and do not run then.
func (a *Admin) CheckProducer(ctx context.Context, c *sarama.Config, topics ...string) ([]Problem, error) {
	var problems []Problem
	for _, topic := range topics {
		config, err := a.topicConfig(ctx, topic)
		if err != nil {
			return nil, err
		}
		need := c.Producer.MaxMessageBytes + messageOverhead
		if got, err := strconv.Atoi(config["max.message.bytes"]); err != nil || got < need {
			problems = append(problems, Problem{Topic: topic, Setting: "max.message.bytes", Want: "at least " + strconv.Itoa(need), Got: config["max.message.bytes"]})
		}
	}
	return problems, nil
}
