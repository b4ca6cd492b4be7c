package group_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lovoo/goka"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/maxviazov/audittrail/internal/group"
)

// seen is what members processed, by partition.
type seen struct {
	mu      sync.Mutex
	who     map[int32]string
	last    map[int32]time.Time
	longest map[int32]time.Duration
}

func newSeen() *seen {
	return &seen{who: map[int32]string{}, last: map[int32]time.Time{}, longest: map[int32]time.Duration{}}
}

func (s *seen) callback(name string) goka.ProcessCallback {
	return func(ctx goka.Context, _ any) {
		s.mu.Lock()
		defer s.mu.Unlock()
		p, now := ctx.Partition(), time.Now()
		if last, ok := s.last[p]; ok {
			s.longest[p] = max(s.longest[p], now.Sub(last))
		}
		s.who[p], s.last[p] = name, now
	}
}

func (s *seen) owners() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := map[string]int{}
	for _, who := range s.who {
		n[who]++
	}
	return n
}

// TestRebalanceDoesNotStopTheWorld goes from one member to two and back under a steady stream. goka alone needs more than
// 5 s each time, because it sleeps that long.
func TestRebalanceDoesNotStopTheWorld(t *testing.T) { rebalanceUnderLoad(t, startBroker(t, 4)) }

func rebalanceUnderLoad(t *testing.T, b *broker) {
	const partitions = 4
	ctx, cancel := context.WithCancel(t.Context())
	var producing sync.WaitGroup
	producing.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			for p := range int32(partitions) {
				b.client.Produce(ctx, &kgo.Record{Topic: input, Partition: p, Key: []byte("k"), Value: []byte("v")}, nil)
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
	defer producing.Wait()
	defer cancel()

	s := newSeen()
	registry := prometheus.NewRegistry()
	one := run(t, b.addrs, newWrapper(t, group.Config{Registerer: registry}), s.callback("one"))
	waitFor(t, "one has all", func() bool { return s.owners()["one"] == partitions })
	two := run(t, b.addrs, newWrapper(t, group.Config{}), s.callback("two"))
	waitFor(t, "two have half each", func() bool { o := s.owners(); return o["one"] == 2 && o["two"] == 2 })
	two.stop()
	waitFor(t, "one has all again", func() bool { return s.owners()["one"] == partitions })
	s.mu.Lock()
	for p, d := range s.longest {
		t.Logf("partition %d stood still for %v", p, d)
		if d > 2*time.Second {
			t.Errorf("partition %d stood still for %v", p, d)
		}
	}
	s.mu.Unlock()
	one.stop()
	for name, want := range map[string]float64{"sessions_total": 3, "stall_seconds": 2, "rejoin_seconds": 2, "session_seconds": 3} {
		if got := sum(t, registry, "audittrail_group_"+name); got < want {
			t.Errorf("%s is %v, want at least %v", name, got, want)
		}
	}
	if got := sum(t, registry, "audittrail_group_restarts_total"); got != 0 {
		t.Errorf("%v restarts", got)
	}
}

// sum is the sum of a counter, or the count of a histogram, over its labels.
func sum(t *testing.T, r *prometheus.Registry, name string) (n float64) {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				n += m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
			return n
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// TestRebalanceLosesNothing: a batch is in flight when another member takes its partition; the batch fails, the other gets
// every message of it.
func TestRebalanceLosesNothing(t *testing.T) { rebalanceWithBatch(t, startBroker(t, 2)) }

func rebalanceWithBatch(t *testing.T, b *broker) {
	b.produce(5, 0, 1)
	mine, theirs := make(chan held, 100), make(chan held, 100)
	one := run(t, b.addrs, newWrapper(t, group.Config{}), hold(mine))
	for _, m := range take(t, mine, 10) {
		if m.offset >= 3 {
			m.commit(nil)
		}
	}
	two := run(t, b.addrs, newWrapper(t, group.Config{}), hold(theirs))
	got := take(t, theirs, 5)
	for i, m := range got {
		if m.offset != int64(i) {
			t.Errorf("message %d is offset %d", i, m.offset)
		}
		m.commit(nil)
	}
	for _, m := range take(t, mine, 5) {
		m.commit(nil)
	}
	waitFor(t, "all is committed", func() bool { return b.committed(0) == 5 && b.committed(1) == 5 })
	if one.builds.Load() != 1 || two.builds.Load() != 1 {
		t.Error("a processor died of the rebalance")
	}
	two.stop()
	one.stop()
}

// TestStaticMember: the instance id reaches the broker, and a second process with it makes the first one stop for good.
func TestStaticMember(t *testing.T) { staticMember(t, startBroker(t, 1)) }

func staticMember(t *testing.T, b *broker) {
	b.produce(1, 0)
	c := settings()
	c.Consumer.Group.InstanceId = "pod-0"
	messages := make(chan held, 100)
	one := run(t, b.addrs, newWrapper(t, group.Config{Settings: c}), hold(messages))
	await(t, "a message", messages)
	groups, err := b.admin.DescribeGroups(t.Context(), gokaApp)
	if err != nil {
		t.Fatal(err)
	}
	members := groups[gokaApp].Members
	if len(members) != 1 || members[0].InstanceID == nil || *members[0].InstanceID != "pod-0" {
		t.Errorf("members of the group: %+v", members)
	}
	two := run(t, b.addrs, newWrapper(t, group.Config{Settings: c}), hold(messages))
	await(t, "the first one stops", one.done)
	var r group.Refusal
	if !errors.As(one.err, &r) {
		t.Errorf("the first one stopped with %v", one.err)
	}
	m := await(t, "a message", messages)
	for m.session.Context().Err() != nil {
		m = await(t, "a message of the second one", messages)
	}
	m.commit(nil)
	waitFor(t, "the second one commits", func() bool { return b.committed(0) == 1 })
	two.stop()
}

// TestClosedClaimIsClaimedAgain: sarama gives up a claim (here: the log was cut under it) and the session starts over.
func TestClosedClaimIsClaimedAgain(t *testing.T) {
	b := startBroker(t, 1)
	b.produce(1, 0)
	var armed, cut atomic.Bool
	b.cluster.ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (resp kmsg.Response, err error, handled bool) {
		b.cluster.KeepControl()
		req := r.(*kmsg.FetchRequest)
		if !armed.Load() || len(req.Topics) == 0 || len(req.Topics[0].Partitions) == 0 || !cut.CompareAndSwap(false, true) {
			return nil, nil, false
		}
		f := req.ResponseKind().(*kmsg.FetchResponse)
		ft := kmsg.NewFetchResponseTopic()
		ft.Topic, ft.TopicID = req.Topics[0].Topic, req.Topics[0].TopicID
		fp := kmsg.NewFetchResponseTopicPartition()
		fp.ErrorCode = 1 // OFFSET_OUT_OF_RANGE
		ft.Partitions = append(ft.Partitions, fp)
		f.Topics = append(f.Topics, ft)
		return f, nil, true
	})
	var sessions sync.Map
	messages := make(chan int64, 100)
	a := run(t, b.addrs, newWrapper(t, group.Config{}), func(ctx goka.Context, _ any) {
		sessions.Store(group.SessionFrom(ctx.Context()), true)
		messages <- ctx.Offset()
	})
	await(t, "a message", messages)
	waitFor(t, "it is committed", func() bool { return b.committed(0) == 1 })
	armed.Store(true) // not before the commit: a session that ended without it would rightly begin at 0
	waitFor(t, "the claim ends", cut.Load)
	b.produce(1, 0)
	if got := await(t, "a message of the new session", messages); got != 1 {
		t.Errorf("delivery goes on at %d, not at 1", got)
	}
	n := 0
	sessions.Range(func(any, any) bool { n++; return true })
	if n != 2 {
		t.Errorf("%d sessions, want 2", n)
	}
	a.stop()
}
