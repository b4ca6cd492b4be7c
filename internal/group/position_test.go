package group_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/lovoo/goka"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/maxviazov/audittrail/internal/group"
)

// TestSetPosition starts one group again and again from a position that is not its commit.
func TestSetPosition(t *testing.T) { setPosition(t, startBroker(t, 1)) }

func setPosition(t *testing.T, b *broker) {
	b.produce(100, 0)
	for _, c := range []struct {
		name   string
		commit int64 // the group's before, -1 for none
		start  int64
	}{
		{"no commit", -1, 40},
		{"no commit, first message", -1, 0},
		{"backward", 100, 40},
		{"backward to the first", 70, 0},
		{"forward", 40, 90},
		{"where it is", 40, 40},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.t = t
			b.setCommit(0, c.commit)
			messages := make(chan held, 100)
			w := newWrapper(t, group.Config{Positions: func(_ context.Context, s *group.Session) error {
				at, ok, err := s.Committed(input, 0)
				if err != nil || ok != (c.commit >= 0) || ok && at != c.commit {
					return group.Refusef("committed %d, %v, %w", at, ok, err)
				}
				return s.SetPosition(input, 0, c.start)
			}})
			a := run(t, b.addrs, w, hold(messages))
			m := await(t, "the first message", messages)
			if m.offset != c.start {
				t.Errorf("starts at %d, not at %d", m.offset, c.start)
			}
			if err := m.session.SetPosition(input, 0, 1); !errors.Is(err, group.ErrStarted) {
				t.Errorf("position set in a running session: %v", err)
			}
			waitFor(t, "the position is the commit", func() bool { return b.committed(0) == c.start })
			a.stop()
		})
	}
}

// TestPositionAtEnd: what comes next is delivered, nothing before it.
func TestPositionAtEnd(t *testing.T) {
	b := startBroker(t, 1)
	b.produce(100, 0)
	messages := make(chan held, 100)
	positioned := make(chan struct{})
	w := newWrapper(t, group.Config{Positions: func(_ context.Context, s *group.Session) error {
		defer close(positioned)
		return s.SetPosition(input, 0, 100)
	}})
	a := run(t, b.addrs, w, hold(messages))
	await(t, "positions", positioned)
	b.produce(1, 0)
	m := await(t, "the first message", messages)
	if m.offset != 100 {
		t.Errorf("starts at %d, not at 100", m.offset)
	}
	m.commit(nil)
	a.stop()
}

// TestPositionOutsideTheLog: refused, nothing changed, and the caller may clamp.
func TestPositionOutsideTheLog(t *testing.T) { outsideTheLog(t, startBroker(t, 1)) }

func outsideTheLog(t *testing.T, b *broker) {
	b.produce(100, 0)
	if _, err := b.admin.DeleteRecords(t.Context(), kadm.Offsets{input: {0: {Topic: input, Partition: 0, At: 50}}}); err != nil {
		t.Fatal(err)
	}
	messages := make(chan held, 100)
	problems := make(chan error, 2)
	w := newWrapper(t, group.Config{Positions: func(_ context.Context, s *group.Session) error {
		if err := s.SetPosition("nobody's", 0, 1); err == nil {
			problems <- errors.New("position of a topic that is not claimed was set")
		}
		for _, n := range []int64{49, 101} {
			err := s.SetPosition(input, 0, n)
			var out *group.OutOfLogError
			if !errors.As(err, &out) || out.Log != (group.LogRange{Start: 50, End: 100}) || out.Position != n {
				problems <- fmt.Errorf("position %d: %w", n, err)
			}
		}
		return s.SetPosition(input, 0, 50)
	}})
	a := run(t, b.addrs, w, hold(messages))
	m := await(t, "the first message", messages)
	if m.offset != 50 {
		t.Errorf("starts at %d, not at 50", m.offset)
	}
	select {
	case err := <-problems:
		t.Error(err)
	default:
	}
	a.stop()
}

// TestMetadata: committed although no message is, and read by the next session.
func TestMetadata(t *testing.T) {
	b := startBroker(t, 1)
	b.produce(1, 0)
	messages := make(chan held, 100)
	a := run(t, b.addrs, newWrapper(t, group.Config{}), hold(messages))
	m := await(t, "a message", messages)
	m.commit(nil)
	waitFor(t, "the commit", func() bool { return b.committed(0) == 1 })
	m.session.SetMetadata(input, 0, "refill 7")
	waitFor(t, "the metadata", func() bool { o, _ := b.commit(0); return o.At == 1 && o.Metadata == "refill 7" })
	b.produce(1, 0)
	await(t, "a message", messages).commit(nil)
	waitFor(t, "the next commit with it", func() bool { o, _ := b.commit(0); return o.At == 2 && o.Metadata == "refill 7" })
	a.stop()
	read := make(chan string, 10)
	a = run(t, b.addrs, newWrapper(t, group.Config{Positions: func(_ context.Context, s *group.Session) error {
		metadata, err := s.CommittedMetadata(input, 0)
		read <- metadata
		return err
	}}), hold(messages))
	if got := await(t, "the next session", read); got != "refill 7" {
		t.Errorf("the next session reads %q", got)
	}
	a.stop()
}

// TestRecoveredRunsBetweenTablesAndDelivery.
func TestRecoveredRunsBetweenTablesAndDelivery(t *testing.T) {
	b := startBroker(t, 1)
	b.produce(1, 0)
	order := make(chan string, 10)
	w := newWrapper(t, group.Config{
		Positions: func(context.Context, *group.Session) error { order <- "positions"; return nil },
		Recovered: func(context.Context, *group.Session) error { order <- "recovered"; return nil },
	})
	a := run(t, b.addrs, w, func(goka.Context, any) { order <- "message" }, persist())
	for _, want := range []string{"positions", "recovered", "message"} {
		if got := await(t, want, order); got != want {
			t.Errorf("%s came instead of %s", got, want)
		}
	}
	if !w.Ready() {
		t.Error("not ready while delivering")
	}
	a.stop()
	if w.Ready() {
		t.Error("ready after the end")
	}
}

// setCommit makes the group's commit what the test wants; the group must be empty.
func (b *broker) setCommit(partition int32, at int64) {
	b.t.Helper()
	var err error
	waitFor(b.t, "the group is empty", func() bool {
		if at < 0 {
			_, err = b.admin.DeleteGroups(context.Background(), gokaApp)
		} else {
			err = b.admin.CommitAllOffsets(context.Background(), gokaApp, kadm.Offsets{input: {partition: {Topic: input, Partition: partition, At: at, LeaderEpoch: -1}}})
		}
		return err == nil && b.committed(partition) == at
	})
}
