package group

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/IBM/sarama"
)

// saramaSession records what is marked.
type saramaSession struct {
	sarama.ConsumerGroupSession
	ctx    context.Context
	marked []int64
}

func (s *saramaSession) Context() context.Context   { return s.ctx }
func (s *saramaSession) Claims() map[string][]int32 { return map[string][]int32{"in": {0}} }
func (s *saramaSession) MarkOffset(_ string, _ int32, offset int64, _ string) {
	s.marked = append(s.marked, offset)
}

func openSession(t *testing.T) (*Session, *saramaSession) {
	ctx, cancel := context.WithCancelCause(t.Context())
	inner := &saramaSession{ctx: ctx}
	return newSession(inner, nil, cancel, func(error) {}), inner
}

// TestLateWorkCountsForItsOwnSession: goka gives up waiting after 60 s, so what an old session started may finish while a
// new one, of the same generation even, handles the same offsets.
func TestLateWorkCountsForItsOwnSession(t *testing.T) {
	old, oldInner := openSession(t)
	young, youngInner := openSession(t)
	for _, s := range []*Session{old, young} {
		s.begin(s.Context(), "in", 0, 5)
		s.begin(s.Context(), "in", 0, 6)
	}
	SessionFrom(old.Context()).finish("in", 0, 5)
	if len(youngInner.marked) != 0 || !slices.Equal(oldInner.marked, []int64{6}) {
		t.Errorf("marked %v in the old session, %v in the new one", oldInner.marked, youngInner.marked)
	}
}

func TestNothingIsCommittedAfterEnd(t *testing.T) {
	s, inner := openSession(t)
	for o := range int64(3) {
		s.begin(s.Context(), "in", 0, o)
	}
	s.finish("in", 0, 0)
	boom := errors.New("boom")
	s.End(boom)
	s.finish("in", 0, 1)
	if !slices.Equal(inner.marked, []int64{1}) {
		t.Errorf("marked %v", inner.marked)
	}
	if !errors.Is(context.Cause(s.Context()), boom) || !errors.Is(*s.cause.Load(), boom) {
		t.Errorf("cause %v, recorded %v", context.Cause(s.Context()), s.cause.Load())
	}
}

// TestFailureAfterTheEnd: a batcher that fails its commits because the session is over neither changes why it ended nor
// stops the commit of what finished.
func TestFailureAfterTheEnd(t *testing.T) {
	s, inner := openSession(t)
	for o := range int64(3) {
		s.begin(s.Context(), "in", 0, o)
	}
	s.cancel(sarama.ErrRebalanceInProgress)
	s.fail(errors.New("session is over"))
	s.finish("in", 0, 0)
	if !slices.Equal(inner.marked, []int64{1}) || s.cause.Load() != nil || s.broken.Load() {
		t.Errorf("marked %v, cause %v, broken %v", inner.marked, s.cause.Load(), s.broken.Load())
	}
}

// TestUnclaimedTopicIsIgnored: goka hands a Visit to the context wrapper too, under its name.
func TestUnclaimedTopicIsIgnored(t *testing.T) {
	s, inner := openSession(t)
	s.begin(s.Context(), "visit", 0, 0)
	s.finish("visit", 0, 0)
	if len(inner.marked) != 0 {
		t.Errorf("marked %v", inner.marked)
	}
}
