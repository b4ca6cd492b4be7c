package stream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/IBM/sarama"
	"github.com/rs/zerolog"

	"github.com/maxviazov/audittrail/internal/embedded/embeddedtest"
)

func logger(t *testing.T) zerolog.Logger { return zerolog.New(zerolog.NewTestWriter(t)) }

func TestApplyThenCheckFindsNothing(t *testing.T) {
	s, l := cluster(t)
	for range 2 {
		problems, err := Check(t.Context(), s, l)
		if err != nil || len(problems) > 0 {
			t.Fatalf("Check = %v, %v, want nothing", problems, err)
		}
		if err := Apply(t.Context(), s, l, logger(t)); err != nil { // again changes nothing
			t.Fatal(err)
		}
	}
}

func TestCheckNamesEveryWrongSettingAndApplyMendsIt(t *testing.T) {
	s, l := cluster(t)
	a := admin(t, s)
	for _, spec := range Specs(l) {
		for name, want := range spec.Config {
			t.Run(spec.Name+"/"+name, func(t *testing.T) {
				wrong := map[string]string{
					"cleanup.policy": "compact,delete", "message.timestamp.type": "CreateTime", "unclean.leader.election.enable": "true",
				}[name]
				if wrong == "" {
					wrong = "1048577"
				}
				setConfig(t, a, spec.Name, name, wrong)
				problems, err := Check(t.Context(), s, l)
				if err != nil {
					t.Fatal(err)
				}
				if len(problems) != 1 || problems[0] != (Problem{Topic: spec.Name, Setting: name, Want: want, Got: wrong}) {
					t.Fatalf("Check = %v, want that %s of %s is %s", problems, name, spec.Name, wrong)
				}
				if err := Apply(t.Context(), s, l, logger(t)); err != nil {
					t.Fatal(err)
				}
				if problems, err := Check(t.Context(), s, l); err != nil || len(problems) > 0 {
					t.Fatalf("Check after Apply = %v, %v", problems, err)
				}
			})
		}
	}
}

func TestApplyNeverChangesThePartitionCount(t *testing.T) {
	s, l := cluster(t)
	wider := l
	wider.Partitions = 8
	err := Apply(t.Context(), s, wider, logger(t))
	if err == nil || !strings.Contains(err.Error(), "topic audit-events: partitions is 4, must be 8") {
		t.Fatalf("Apply = %v, want it refused by topic and count", err)
	}
	if _, n, err := admin(t, s).TopicID(t.Context(), Events); err != nil || n != 4 {
		t.Fatalf("partitions = %d, %v, want 4 still", n, err)
	}
}

func TestCheckNamesMissingTopics(t *testing.T) {
	s := Settings{Brokers: embeddedtest.Kafka(t)}
	problems, err := Check(t.Context(), s, SingleBrokerLayout())
	if err != nil || len(problems) != len(TopicNames()) || problems[0].String() != "topic audit-events: topic is missing, must be there" {
		t.Fatalf("Check = %v, %v, want each topic missing", problems, err)
	}
	if _, _, err := admin(t, s).TopicID(t.Context(), Events); !errors.Is(err, ErrNoTopic) {
		t.Fatalf("TopicID = %v, want %v; looking must not create", err, ErrNoTopic)
	}
}

func TestCheckProducerKnowsWhatTheTopicTakes(t *testing.T) {
	s, _ := cluster(t)
	a := admin(t, s)
	c := ProducerConfig(s, Table, Records, DeadLetters)
	if problems, err := a.CheckProducer(t.Context(), c, Table, Records, DeadLetters); err != nil || len(problems) > 0 {
		t.Fatalf("CheckProducer = %v, %v, want nothing", problems, err)
	}
	setConfig(t, a, Records, "max.message.bytes", "1048588")
	problems, err := a.CheckProducer(t.Context(), c, Table, Records, DeadLetters)
	if err != nil || len(problems) != 1 || problems[0].Topic != Records || problems[0].Got != "1048588" {
		t.Fatalf("CheckProducer = %v, %v, want %s", problems, err, Records)
	}
}

func TestLayoutListsAllProblems(t *testing.T) {
	for _, l := range []Layout{DefaultLayout(), SingleBrokerLayout()} {
		if p := l.Validate(); len(p) > 0 {
			t.Errorf("%+v: %v", l, p)
		}
	}
	if p := (Layout{MinInsync: 2}).Validate(); len(p) != 4 {
		t.Errorf("Validate = %v, want four problems", p)
	}
}

func TestAdminReadsIdsRangesAndCommits(t *testing.T) {
	s, l := cluster(t)
	a, ctx := admin(t, s), t.Context()
	id, n, err := a.TopicID(ctx, Events)
	if err != nil || n != l.Partitions || id == [16]byte{} {
		t.Fatalf("TopicID = %x, %d, %v", id, n, err)
	}
	producer, err := sarama.NewSyncProducer(s.Brokers, ProducerConfig(s, Events))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	for i := range 3 {
		if _, _, err := producer.SendMessage(&sarama.ProducerMessage{
			Topic: Events, Key: sarama.StringEncoder("k"), Value: sarama.StringEncoder(fmt.Sprint(i)),
			Headers: []sarama.RecordHeader{{Key: []byte(PartitionHeader), Value: []byte("2")}},
		}); err != nil {
			t.Fatal(err)
		}
	}
	if start, end, err := a.LogRange(ctx, Events, 2); err != nil || start != 0 || end != 3 {
		t.Fatalf("LogRange = %d, %d, %v, want 0, 3", start, end, err)
	}
	if err := a.admin.DeleteRecords(Events, map[int32]int64{2: 1}); err != nil {
		t.Fatal(err)
	}
	ranges, err := a.LogRanges(ctx, Events)
	if err != nil || len(ranges) != 4 || ranges[2] != (Range{1, 3}) || ranges[0] != (Range{}) {
		t.Fatalf("LogRanges = %v, %v, want [1, 3) in partition 2 and nothing elsewhere", ranges, err)
	}
	group := string(EnricherGroup)
	if commits, err := a.GroupCommits(ctx, group, Events); err != nil || len(commits) != 4 || commits[2] != NoCommit {
		t.Fatalf("GroupCommits = %v, %v, want none", commits, err)
	}
	if _, err := a.admin.AlterConsumerGroupOffsets(group, map[string]map[int32]sarama.OffsetAndMetadata{Events: {2: {Offset: 2}}}, nil); err != nil {
		t.Fatal(err)
	}
	if commits, err := a.GroupCommits(ctx, group, Events); err != nil || commits[2] != 2 || commits[1] != NoCommit {
		t.Fatalf("GroupCommits = %v, %v, want 2 in partition 2", commits, err)
	}
	// A topic that is deleted and made again is another topic (R18).
	if err := a.admin.DeleteTopic(Events); err != nil {
		t.Fatal(err)
	}
	if err := Apply(ctx, s, l, logger(t)); err != nil {
		t.Fatal(err)
	}
	if again, _, err := a.TopicID(ctx, Events); err != nil || again == id {
		t.Fatalf("TopicID of the new topic = %x, %v, want another", again, err)
	}
}

func TestAdminGivesUpWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	release, called := make(chan struct{}), make(chan struct{})
	defer close(release)
	go func() {
		<-called
		cancel()
	}()
	_, err := await(ctx, "hang", func() (int, error) { close(called); <-release; return 0, nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("await = %v, want %v", err, context.Canceled)
	}
	if _, err := NewAdmin(ctx, Settings{Brokers: []string{"127.0.0.1:1"}}); !errors.Is(err, context.Canceled) {
		t.Errorf("NewAdmin = %v, want %v", err, context.Canceled)
	}
}

func admin(t *testing.T, s Settings) *Admin {
	t.Helper()
	a, err := NewAdmin(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return a
}

func setConfig(t *testing.T, a *Admin, topic, name, value string) {
	t.Helper()
	if err := a.admin.IncrementalAlterConfig(sarama.TopicResource, topic, map[string]sarama.IncrementalAlterConfigsEntry{
		name: {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &value},
	}, false); err != nil {
		t.Fatal(err)
	}
}
