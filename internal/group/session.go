package group

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
)

// Claim is one partition that a session owns.
type Claim struct {
	Topic     string
	Partition int32
}

// Session is one generation of the group as this member lives it: the claims it got, until a rebalance, an error or End.
// Two sessions may carry the same generation number (a member that rejoins an unchanged group keeps it), so work is bound
// to the Session, never to the number. All methods may be called from any goroutine.
type Session struct {
	inner  sarama.ConsumerGroupSession
	ctx    context.Context // sarama's, with the Session as a value; goka derives the contexts of the callbacks from it
	cancel context.CancelCauseFunc
	refuse func(error)
	kafka  *positions

	began    time.Time
	claims   []Claim
	trackers map[string]map[int32]*tracker // read-only after newSession

	cause     atomic.Pointer[error] // what End was called with, when it was what ended the session
	broken    atomic.Bool           // and that was a failure of the processor, not its owner's wish
	sealed    atomic.Bool           // nothing is committed any more
	started   atomic.Bool           // positions are fixed
	running   atomic.Bool           // claims are delivered, or about to be
	progress  atomic.Bool           // the finished prefix of some partition grew
	delivered sync.Once
	onFirst   func()         // first message of the session
	over      chan time.Time // when the context ended; one value
	watching  sync.WaitGroup // what runs beside the session until its context ends

	committedMu sync.Mutex
	committed   map[Claim]commit // nil until fetched
}

type sessionKey struct{}

// SessionFrom returns the session a callback belongs to, from goka's ctx.Context(), or nil.
func SessionFrom(ctx context.Context) *Session {
	s, _ := ctx.Value(sessionKey{}).(*Session)
	return s
}

func newSession(inner sarama.ConsumerGroupSession, kafka *positions, cancel context.CancelCauseFunc, refuse func(error)) *Session {
	s := &Session{
		inner: inner, cancel: cancel, refuse: refuse, kafka: kafka,
		began:    time.Now(),
		over:     make(chan time.Time, 1),
		trackers: make(map[string]map[int32]*tracker),
	}
	s.ctx = context.WithValue(inner.Context(), sessionKey{}, s)
	for topic, partitions := range inner.Claims() {
		s.trackers[topic] = make(map[int32]*tracker, len(partitions))
		for _, p := range partitions {
			s.claims = append(s.claims, Claim{topic, p})
			s.trackers[topic][p] = newTracker()
		}
	}
	slices.SortFunc(s.claims, func(a, b Claim) int {
		if c := strings.Compare(a.Topic, b.Topic); c != 0 {
			return c
		}
		return int(a.Partition) - int(b.Partition)
	})
	return s
}

// Context is done when the session is over, whatever the reason; context.Cause tells it. From then on goka waits up to
// 60 s for every message whose callback has returned but that is not finished (deferred commits, sends), and until then no
// partition of this member is consumed by anyone. So whoever holds deferred commits fails them when it is done
// (context.AfterFunc), and a producer rejects what is outstanding.
func (s *Session) Context() context.Context { return s.ctx }

// Claims returns the partitions of this session by topic and number. It may be empty. The caller must not change it.
func (s *Session) Claims() []Claim { return s.claims }

// Generation is the group's generation number, for logs.
func (s *Session) Generation() int32 { return s.inner.GenerationID() }

// MemberID is what the group calls this member, for logs.
func (s *Session) MemberID() string { return s.inner.MemberID() }

var errEnded = errors.New("session ended by its owner")

// End ends the session, so that everything claimed is claimed again by a new one: sarama cannot seek inside a claim. From
// its return on nothing of this session is committed any more, also what is in flight; what was committed before stays.
// It does not wait, so it may be called inside a callback. A second call changes nothing, but a Refusal is always
// recorded. A nil err is allowed.
func (s *Session) End(err error) {
	if err == nil {
		err = errEnded
	}
	if isRefusal(err) {
		s.refuse(err)
	}
	s.sealed.Store(true)
	if s.ctx.Err() == nil {
		s.cause.CompareAndSwap(nil, &err)
	}
	s.cancel(err)
}

// fail is End for an error that may just as well be a consequence of the session being over (a batcher that fails its
// deferred commits): then the failed message alone stays unfinished, and what else finishes in time is committed.
func (s *Session) fail(err error) {
	over := s.ctx.Err() != nil
	if !over {
		s.broken.Store(true)
	}
	if !over || isRefusal(err) {
		s.End(err)
	}
}

// SetMetadata sets the metadata that goes with each commit of the partition from now on (Kafka's limit is 4 KiB by
// default), and commits it with the next automatic commit even if nothing else is. This is the place of the refill
// request of R21: the sink announces the first open slot here, enrichers read it from the sink's group. A new session
// starts with empty metadata and its first commit replaces the old: announce again in Positions, before SetPosition.
func (s *Session) SetMetadata(topic string, partition int32, metadata string) {
	t := s.tracker(topic, partition)
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.metadata = metadata
	if t.next >= 0 && !s.sealed.Load() {
		// sarama takes a reset to the position it has as a change, and so commits it with the new metadata.
		s.inner.ResetOffset(topic, partition, t.next, metadata)
	}
}

func (s *Session) tracker(topic string, partition int32) *tracker {
	return s.trackers[topic][partition]
}

func (s *Session) String() string {
	return fmt.Sprintf("generation %d of %s", s.Generation(), s.MemberID())
}

// begin notes that the callback of a message starts; ctx is that of the callback.
func (s *Session) begin(ctx context.Context, topic string, partition int32, offset int64) {
	if t := s.tracker(topic, partition); t != nil {
		t.register(offset, ctx.Err() != nil)
		if s.onFirst != nil {
			s.delivered.Do(s.onFirst)
		}
	}
}

// finish notes that a message is finished: its callback returned, and all its sends and deferred commits succeeded.
func (s *Session) finish(topic string, partition int32, offset int64) {
	t := s.tracker(topic, partition)
	if t == nil || s.sealed.Load() && !maxWinsCommits {
		return
	}
	grew := t.complete(offset, s.ctx.Err() != nil, func(next int64, metadata string) {
		s.inner.MarkOffset(topic, partition, next, metadata)
	})
	if grew && !s.progress.Load() {
		s.progress.Store(true)
	}
}
