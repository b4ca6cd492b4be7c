package group_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lovoo/goka"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/maxviazov/audittrail/internal/group"
)

// freePort is free now, and with luck a moment later.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// TestBrokerComesLate: goka's constructor fails until there is a broker.
func TestBrokerComesLate(t *testing.T) {
	port := freePort(t)
	offsets := make(chan int64, 100)
	w := newWrapper(t, group.Config{})
	addr := (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}).String()
	a := run(t, []string{addr}, w, func(ctx goka.Context, _ any) { offsets <- ctx.Offset() })
	waitFor(t, "it was tried twice", func() bool { return a.builds.Load() >= 2 })
	b := startBroker(t, 1, kfake.Ports(port))
	b.produce(1, 0)
	await(t, "a message", offsets)
	waitFor(t, "it is committed", func() bool { return b.committed(0) == 1 })
	a.stop()
}

// TestBrokerRestarts: the same processor goes on behind its commit, however long the broker is away.
func TestBrokerRestarts(t *testing.T) {
	port, dir := freePort(t), t.TempDir()
	opts := []kfake.Opt{kfake.Ports(port), kfake.DataDir(dir), kfake.SyncWrites()}
	b := startBroker(t, 1, opts...)
	b.produce(3, 0)
	offsets := make(chan int64, 100)
	registry := prometheus.NewRegistry()
	w := newWrapper(t, group.Config{Registerer: registry})
	a := run(t, b.addrs, w, func(ctx goka.Context, _ any) { offsets <- ctx.Offset() })
	for range 3 {
		await(t, "a message", offsets)
	}
	waitFor(t, "they are committed", func() bool { return b.committed(0) == 3 })
	b.client.Close()
	b.cluster.Close()
	waitFor(t, "joining failed more than once", func() bool { return sum(t, registry, "audittrail_group_join_errors_total") >= 3 })
	if w.Ready() {
		t.Error("ready without a broker")
	}
	again := startBroker(t, 1, opts...)
	again.produce(1, 0)
	if got := await(t, "a message after the outage", offsets); got != 3 {
		t.Errorf("delivery goes on at %d, not at 3", got)
	}
	waitFor(t, "it is committed", func() bool { return again.committed(0) == 4 })
	if n := a.builds.Load(); n != 1 {
		t.Errorf("processor was built %d times", n)
	}
	a.stop()
}

// TestPositionsMayWait: longer than the session time-out, and the group stays whole; and it learns when it has to give up.
func TestPositionsMayWait(t *testing.T) {
	b := startBroker(t, 2)
	b.produce(1, 0, 1)
	wait := 2 * settings().Consumer.Group.Session.Timeout
	var sessions atomic.Int64
	var gaveUp atomic.Bool
	release := make(chan struct{})
	w := newWrapper(t, group.Config{Positions: func(ctx context.Context, s *group.Session) error {
		sessions.Add(1)
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			gaveUp.Store(true)
			return ctx.Err()
		}
	}})
	offsets := make(chan int64, 100)
	a := run(t, b.addrs, w, func(ctx goka.Context, _ any) { offsets <- ctx.Offset() })
	waitFor(t, "positions are asked for", func() bool { return sessions.Load() == 1 })
	// Time itself is under test here: nothing may happen in it.
	time.Sleep(wait)
	if gaveUp.Load() || sessions.Load() != 1 {
		t.Fatalf("session was lost while Positions waited; %d sessions", sessions.Load())
	}
	other := run(t, b.addrs, newWrapper(t, group.Config{}), func(goka.Context, any) {})
	waitFor(t, "the rebalance reaches Positions", gaveUp.Load)
	waitFor(t, "and it is asked again", func() bool { return sessions.Load() >= 2 })
	close(release)
	await(t, "a message", offsets)
	other.stop()
	a.stop()
}
