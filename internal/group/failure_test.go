package group_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lovoo/goka"
	"github.com/lovoo/goka/codec"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/maxviazov/audittrail/internal/group"
)

// failProduce makes the broker refuse what is sent to a topic, while on.
func (b *broker) failProduce(topic string, on *atomic.Bool) {
	b.cluster.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		b.cluster.KeepControl()
		req := r.(*kmsg.ProduceRequest)
		if !on.Load() || len(req.Topics) != 1 || req.Topics[0].Topic != topic {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.ProduceResponse)
		st := kmsg.NewProduceResponseTopic()
		st.Topic = topic
		for _, p := range req.Topics[0].Partitions {
			sp := kmsg.NewProduceResponseTopicPartition()
			sp.Partition, sp.ErrorCode = p.Partition, kerr.MessageTooLarge.Code
			st.Partitions = append(st.Partitions, sp)
		}
		resp.Topics = append(resp.Topics, st)
		return resp, nil, true
	})
}

// emitting keeps deferred commits open beside the sends while the broker refuses: only the end of the session closes them,
// and goka waits 60 s for them if nothing ends it.
func emitting(broken *atomic.Bool, emit goka.ProcessCallback) goka.ProcessCallback {
	return func(ctx goka.Context, m any) {
		if broken.Load() {
			commit := ctx.DeferCommit()
			context.AfterFunc(ctx.Context(), func() { commit(errors.New("session is over")) })
		}
		emit(ctx, m)
	}
}

// TestFailedSend: a message whose output the broker refuses is never committed, sessions and at last the processor are
// renewed, and when the broker takes it, everything is there.
func TestFailedSend(t *testing.T) {
	for topic, callback := range map[string]goka.ProcessCallback{
		output:             func(ctx goka.Context, m any) { ctx.Emit(output, ctx.Key(), m) },
		gokaApp + "-table": func(ctx goka.Context, m any) { ctx.SetValue(m) },
	} {
		t.Run(topic, func(t *testing.T) {
			b := startBroker(t, 1)
			var broken atomic.Bool
			b.failProduce(topic, &broken)
			broken.Store(true)
			b.produce(10, 0)
			var sessions atomic.Int64
			w := newWrapper(t, group.Config{RebuildAfter: 2, Positions: func(context.Context, *group.Session) error {
				sessions.Add(1)
				return nil
			}})
			a := run(t, b.addrs, w, emitting(&broken, callback), persist(), goka.Output(output, new(codec.Bytes)))
			waitFor(t, "the processor is built again", func() bool { return a.builds.Load() >= 3 })
			if n := sessions.Load(); n < 4 {
				t.Errorf("%d sessions for 2 dead processors", n)
			}
			if at := b.committed(0); at > 0 {
				t.Errorf("committed %d, but nothing was sent", at)
			}
			broken.Store(false)
			waitFor(t, "all is committed", func() bool { return b.committed(0) == 10 })
			ends, err := b.admin.ListEndOffsets(t.Context(), topic)
			if o, _ := ends.Lookup(topic, 0); err != nil || o.Offset < 10 {
				t.Errorf("%d messages were sent, %v", o.Offset, err)
			}
			a.stop()
		})
	}
}

// TestPanicEndsTheSession: a callback panics while others of the partition wait for their commit, which only the end of the
// session brings. Without Guard goka waits 60 s for them.
func TestPanicEndsTheSession(t *testing.T) {
	for name, stumble := range map[string]func(ctx goka.Context){
		"panic":            func(goka.Context) { panic("stumbled") },
		"Fail":             func(ctx goka.Context) { ctx.Fail(errors.New("stumbled")) },
		"goka's own panic": func(ctx goka.Context) { ctx.Value() }, // there is no table
	} {
		t.Run(name, func(t *testing.T) {
			b := startBroker(t, 1)
			b.produce(10, 0)
			messages := make(chan held, 100)
			waiting := hold(messages)
			var stumbled atomic.Bool
			a := run(t, b.addrs, newWrapper(t, group.Config{}), func(ctx goka.Context, m any) {
				if ctx.Offset() == 5 && stumbled.CompareAndSwap(false, true) {
					stumble(ctx)
				}
				waiting(ctx, m)
			})
			first := take(t, messages, 5)
			began := time.Now()
			again := take(t, messages, 10)
			if again[0].offset != 0 || again[0].session == first[0].session {
				t.Errorf("delivery goes on at %d", again[0].offset)
			}
			if d := time.Since(began); d > 5*time.Second {
				t.Errorf("the partition stood still for %v", d)
			}
			for _, m := range again {
				m.commit(nil)
			}
			waitFor(t, "all is committed", func() bool { return b.committed(0) == 10 })
			if n := a.builds.Load(); n != 1 {
				t.Errorf("processor was built %d times", n)
			}
			a.stop()
		})
	}
}

// TestFailThatDoesNotStop: goka's Fail returns once the session is over, and the callback ends as if all were well. Its
// message is not committed.
func TestFailThatDoesNotStop(t *testing.T) {
	b := startBroker(t, 1)
	b.produce(3, 0)
	inCallback := make(chan *group.Session)
	went := make(chan struct{}, 1)
	var stuck atomic.Bool
	done := make(chan int64, 100)
	a := run(t, b.addrs, newWrapper(t, group.Config{}), func(ctx goka.Context, _ any) {
		if ctx.Offset() == 1 && stuck.CompareAndSwap(false, true) {
			inCallback <- group.SessionFrom(ctx.Context())
			<-ctx.Context().Done()
			ctx.Value() // goka calls Fail: there is no table
			went <- struct{}{}
			return
		}
		done <- ctx.Offset()
	})
	await(t, "the callback", inCallback)
	waitFor(t, "the one before is committed", func() bool { return b.committed(0) == 1 })
	a.stop() // not End, after which nothing would be committed anyway
	await(t, "Fail does not stop the callback", went)
	if at := b.committed(0); at != 1 {
		t.Errorf("committed %d past the failed message 1", at)
	}
}

// TestEndSession from outside and from inside a callback: everything is claimed again, at once.
func TestEndSession(t *testing.T) {
	b := startBroker(t, 2)
	b.produce(2, 0, 1)
	messages := make(chan held, 100)
	inside := make(chan bool, 1)
	w := newWrapper(t, group.Config{})
	waiting := hold(messages)
	a := run(t, b.addrs, w, func(ctx goka.Context, m any) {
		waiting(ctx, m)
		select {
		case <-inside:
			w.EndSession(errors.New("inside"))
		default:
		}
	})
	first := take(t, messages, 4)
	began := time.Now()
	w.EndSession(errors.New("outside"))
	if cause := context.Cause(first[0].session.Context()); cause == nil || cause.Error() != "outside" {
		t.Errorf("cause of the end: %v", cause)
	}
	second := take(t, messages, 4)
	inside <- true
	b.produce(1, 0)
	last := await(t, "a message of the third session", messages)
	for last.session == second[0].session {
		last = await(t, "a message of the third session", messages)
	}
	if d := time.Since(began); d > 4*time.Second {
		t.Errorf("two sessions were replaced in %v", d)
	}
	// Whoever still works for an old session does not end the new one.
	second[0].session.End(errors.New("late"))
	if err := last.session.Context().Err(); err != nil {
		t.Errorf("the new session ended: %v", err)
	}
	last.commit(nil)
	for _, m := range take(t, messages, 4) {
		m.commit(nil)
	}
	waitFor(t, "all is committed", func() bool { return b.committed(0) == 3 && b.committed(1) == 2 })
	if n := a.builds.Load(); n != 1 {
		t.Errorf("processor was built %d times", n)
	}
	a.stop()
}

// TestRefusal stops the processor for good, wherever it comes from.
func TestRefusal(t *testing.T) {
	no := group.Refusef("log went backwards: %w", errors.New("why"))
	for name, from := range map[string]struct {
		hook     group.Hook
		callback goka.ProcessCallback
		outside  bool
	}{
		"positions":       {hook: func(context.Context, *group.Session) error { return no }},
		"session":         {hook: func(_ context.Context, s *group.Session) error { s.End(no); return nil }},
		"fail":            {callback: func(ctx goka.Context, _ any) { ctx.Fail(no) }},
		"fail, wrapped":   {callback: func(ctx goka.Context, _ any) { ctx.Fail(fmt.Errorf("place: %w", no)) }},
		"deferred commit": {callback: func(ctx goka.Context, _ any) { ctx.DeferCommit()(no) }},
		"outside":         {outside: true},
	} {
		t.Run(name, func(t *testing.T) {
			b := startBroker(t, 1)
			b.produce(1, 0)
			var sessions atomic.Int64
			w := newWrapper(t, group.Config{Positions: func(ctx context.Context, s *group.Session) error {
				sessions.Add(1)
				if from.hook == nil {
					return nil
				}
				return from.hook(ctx, s)
			}})
			seen := make(chan struct{}, 10)
			a := run(t, b.addrs, w, func(ctx goka.Context, m any) {
				seen <- struct{}{}
				if from.callback != nil {
					from.callback(ctx, m)
				}
			})
			if from.outside {
				await(t, "a message", seen)
				w.EndSession(no)
			}
			await(t, "the supervisor gives up", a.done)
			var r group.Refusal
			if !errors.As(a.err, &r) || !errors.As(w.Err(), &r) {
				t.Errorf("supervisor returned %v, recorded %v", a.err, w.Err())
			}
			if a.err != nil && !strings.Contains(a.err.Error(), no.Error()) {
				t.Errorf("supervisor returned %v, which does not say %q", a.err, no)
			}
			if a.builds.Load() != 1 || sessions.Load() != 1 {
				t.Errorf("processor was built %d times, had %d sessions", a.builds.Load(), sessions.Load())
			}
			if at := b.committed(0); from.callback != nil && at > 0 {
				t.Errorf("committed %d", at)
			}
		})
	}
	t.Run("build", func(t *testing.T) {
		w := newWrapper(t, group.Config{})
		err := w.Supervise(t.Context(), func() (*goka.Processor, error) { return nil, no })
		if !errors.Is(err, w.Err()) || err == nil {
			t.Errorf("supervisor returned %v", err)
		}
	})
}

// TestHookErrorsAreRetried: an error before delivery costs a session, not the processor.
func TestHookErrorsAreRetried(t *testing.T) {
	b := startBroker(t, 1)
	b.produce(1, 0)
	var positions, recovered atomic.Int64
	failFirst := func(n *atomic.Int64) group.Hook {
		return func(context.Context, *group.Session) error {
			if n.Add(1) == 1 {
				return errors.New("not yet")
			}
			return nil
		}
	}
	offsets := make(chan int64, 10)
	w := newWrapper(t, group.Config{Positions: failFirst(&positions), Recovered: failFirst(&recovered)})
	a := run(t, b.addrs, w, func(ctx goka.Context, m any) {
		ctx.SetValue(m)
		offsets <- ctx.Offset()
	}, persist())
	if got := await(t, "a message", offsets); got != 0 {
		t.Errorf("starts at %d", got)
	}
	waitFor(t, "it is committed", func() bool { return b.committed(0) == 1 })
	if positions.Load() != 3 || recovered.Load() != 2 || a.builds.Load() != 1 {
		t.Errorf("positions %d times, recovered %d times, %d processors", positions.Load(), recovered.Load(), a.builds.Load())
	}
	a.stop()
}
