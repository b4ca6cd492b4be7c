package group

import (
	"fmt"
	"hash"

	"github.com/lovoo/goka"
)

// ContextWrapper registers every message as its callback starts, and makes Fail and failed deferred commits end the
// session. A processor with a wrapper of its own composes them; this one must see every message.
// A Visit of the group must not be named like an input topic.
func (w *Wrapper) ContextWrapper() goka.ContextWrapper {
	return func(ctx goka.Context) goka.Context {
		s := SessionFrom(ctx.Context())
		if s == nil {
			return ctx // goka's tester, which has no group
		}
		s.begin(ctx.Context(), string(ctx.Topic()), ctx.Partition(), ctx.Offset())
		return &callbackContext{gokaContext: ctx, session: s}
	}
}

// gokaContext is embedded under a name of its own: goka.Context has a method Context.
type gokaContext = goka.Context

type callbackContext struct {
	gokaContext
	session *Session
}

// Fail stops the callback always, and ends the session. goka's own returns when the context is done; the callback would
// go on with whatever made it fail, and its message would be committed.
func (c *callbackContext) Fail(err error) {
	c.session.fail(err)
	panic(err)
}

// DeferCommit: when the commit fails the session ends first. goka alone would stop taking messages of the partition and
// wait up to 60 s for the others in flight, in a session that goes on.
func (c *callbackContext) DeferCommit() func(error) {
	commit := c.gokaContext.DeferCommit()
	return func(err error) {
		if err != nil {
			c.session.fail(err)
		}
		commit(err)
	}
}

// Guard makes a panic in a callback end the session before goka handles it, for the same reason as DeferCommit. goka's
// own methods panic too (SetValue on a closed storage, a codec error). Every callback of a processor is to be guarded.
func Guard(callback goka.ProcessCallback) goka.ProcessCallback {
	return func(ctx goka.Context, msg any) {
		defer func() {
			r := recover()
			if r == nil {
				return
			}
			if s := SessionFrom(ctx.Context()); s != nil {
				err, ok := r.(error)
				if !ok {
					err = fmt.Errorf("%v", r)
				}
				s.fail(fmt.Errorf("callback %s/%d@%d: %w", ctx.Topic(), ctx.Partition(), ctx.Offset(), err))
			}
			panic(r)
		}()
		callback(ctx, msg)
	}
}

// Producer makes every failed send of goka's producer end the session it was sent in, before goka hears of it.
func (w *Wrapper) Producer(build goka.ProducerBuilder) goka.ProducerBuilder {
	return func(brokers []string, clientID string, hasher func() hash.Hash32) (goka.Producer, error) {
		p, err := build(brokers, clientID, hasher)
		if err != nil {
			return nil, err
		}
		return &producer{p, w}, nil
	}
}

type producer struct {
	goka.Producer
	wrapper *Wrapper
}

func (p *producer) Emit(topic, key string, value []byte) *goka.Promise {
	return p.watch(topic, p.Producer.Emit(topic, key, value))
}

func (p *producer) EmitWithHeaders(topic, key string, value []byte, headers goka.Headers) *goka.Promise {
	return p.watch(topic, p.Producer.EmitWithHeaders(topic, key, value, headers))
}

func (p *producer) watch(topic string, sent *goka.Promise) *goka.Promise {
	s := p.wrapper.current.Load()
	if s == nil {
		return sent
	}
	return sent.Then(func(err error) {
		if err != nil {
			s.fail(fmt.Errorf("send to %s: %w", topic, err))
		}
	})
}
