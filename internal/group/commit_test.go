package group_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/lovoo/goka"

	"github.com/maxviazov/audittrail/internal/group"
)

// held is a message whose commit the test holds in its hand.
type held struct {
	offset  int64
	session *group.Session
	commit  func(error)
	keep    func() bool // the end of the session does not fail the commit
}

// hold delivers every message with its commit deferred. When the session ends it fails what the test has not finished, as
// a batcher does.
func hold(to chan<- held) goka.ProcessCallback {
	return func(ctx goka.Context, _ any) {
		s, commit := group.SessionFrom(ctx.Context()), ctx.DeferCommit()
		keep := context.AfterFunc(s.Context(), func() { commit(errors.New("session is over")) })
		to <- held{ctx.Offset(), s, commit, keep}
	}
}

func take(t *testing.T, from <-chan held, n int) []held {
	t.Helper()
	var got []held
	for range n {
		got = append(got, await(t, "a message", from))
	}
	return got
}

// TestOnlyThePrefixIsCommitted is R3: of ten messages all but one finish, the session ends without warning, and the commit
// is that of the one.
func TestOnlyThePrefixIsCommitted(t *testing.T) { onlyThePrefix(t, startBroker(t, 1)) }

func onlyThePrefix(t *testing.T, b *broker) {
	b.produce(10, 0)
	messages := make(chan held, 100)
	a := run(t, b.addrs, newWrapper(t, group.Config{}), hold(messages))

	first := take(t, messages, 10)
	for _, m := range slices.Backward(first) {
		if m.offset != 3 {
			m.commit(nil)
		}
	}
	waitFor(t, "the prefix is committed", func() bool { return b.committed(0) == 3 })
	first[3].keep()
	first[3].session.End(errors.New("the process is killed"))
	first[3].commit(nil) // too late: the session is over

	again := take(t, messages, 7)
	if again[0].offset != 3 {
		t.Errorf("the next session starts at %d, not at 3", again[0].offset)
	}
	for _, m := range again {
		m.commit(nil)
	}
	waitFor(t, "all is committed", func() bool { return b.committed(0) == 10 })
	a.stop()
}

// TestFailedCommitIsDeliveredAgain: the processor lives on in a new session.
func TestFailedCommitIsDeliveredAgain(t *testing.T) {
	b := startBroker(t, 1)
	b.produce(5, 0)
	messages := make(chan held, 100)
	a := run(t, b.addrs, newWrapper(t, group.Config{}), hold(messages))

	first := take(t, messages, 5)
	first[0].commit(nil)
	first[2].commit(nil)
	first[1].commit(errors.New("send failed"))

	again := take(t, messages, 4)
	if again[0].offset != 1 {
		t.Errorf("the next session starts at %d, not at 1", again[0].offset)
	}
	if again[0].session == first[0].session {
		t.Error("no new session")
	}
	for _, m := range again {
		m.commit(nil)
	}
	waitFor(t, "all is committed", func() bool { return b.committed(0) == 5 })
	if n := a.builds.Load(); n != 1 {
		t.Errorf("processor was built %d times", n)
	}
	a.stop()
}
