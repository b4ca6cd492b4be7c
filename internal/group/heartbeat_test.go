package group_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/lovoo/goka"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/maxviazov/audittrail/internal/group"
)

// TestCoordinatorHangs: a member whose heartbeats are not answered ends its session a session time-out after the last one, not when its
// network time-outs and tries have passed (20 s here), and takes part again as soon as it can.
func TestCoordinatorHangs(t *testing.T) {
	b := startBroker(t, 1, kfake.SleepOutOfOrder())
	b.produce(1, 0)
	sessions, offsets := make(chan context.Context, 100), make(chan int64, 100)
	w := newWrapper(t, group.Config{Positions: func(ctx context.Context, _ *group.Session) error { sessions <- ctx; return nil }})
	a := run(t, b.addrs, w, func(ctx goka.Context, _ any) { offsets <- ctx.Offset() })
	session := await(t, "a session", sessions)
	await(t, "a message", offsets)
	waitFor(t, "it is committed", func() bool { return b.committed(0) == 1 })

	release, hung := make(chan struct{}), make(chan struct{}, 100)
	b.cluster.ControlKey(int16(kmsg.Heartbeat), func(kmsg.Request) (kmsg.Response, error, bool) {
		hung <- struct{}{}
		b.cluster.SleepControl(func() { <-release })
		return nil, nil, false
	})
	await(t, "a heartbeat that hangs", hung)
	began := time.Now()
	await(t, "the end of the session", session.Done())
	took, timeout := time.Since(began), settings().Consumer.Group.Session.Timeout
	if took < timeout/2 || took > settings().Net.ReadTimeout {
		t.Errorf("the session ended after %s, want a session time-out of %s, and no network time-out of %s", took, timeout, settings().Net.ReadTimeout)
	}
	if cause := context.Cause(session); cause == nil || !strings.Contains(cause.Error(), "no heartbeat was sent") {
		t.Errorf("the session ended for another reason: %v", cause)
	}
	close(release)
	b.produce(1, 0)
	if got := await(t, "a message of the next session", offsets); got != 1 {
		t.Errorf("delivery goes on at %d, not at 1", got)
	}
	a.stop()
}
