package views

import (
	"context"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// follower reads the heads for all tails together, and only while there are any. Polling needs no session of its own in PostgreSQL, survives
// poolers and fail-overs, and a round costs one small statement.
type follower struct {
	poll time.Duration
	read func(context.Context) (sizes, error)
	log  zerolog.Logger

	mu       sync.Mutex
	watchers int
	wake     chan struct{} // closed by the first watcher
	state    headState
	changed  chan struct{} // closed with each new state
}

// headState is what the last reading said.
type headState struct {
	sizes sizes
	at    time.Time
	err   error
}

func newFollower(poll time.Duration, read func(context.Context) (sizes, error), log zerolog.Logger) *follower {
	return &follower{poll: poll, read: read, log: log, wake: make(chan struct{}), changed: make(chan struct{})}
}

// watch keeps the follower reading until the returned function is called. False: there are max watchers already.
func (f *follower) watch(max int) (stop func(), ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watchers == max {
		return nil, false
	}
	if f.watchers++; f.watchers == 1 {
		f.state = headState{} // of the last time somebody watched
		close(f.wake)
	}
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.watchers--; f.watchers == 0 {
			f.wake = make(chan struct{})
		}
	}, true
}

// current returns the last state and a channel that is closed when there is another.
func (f *follower) current() (headState, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state, f.changed
}

// watched returns a channel that is closed while somebody watches.
func (f *follower) watched() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.wake
}

func (f *follower) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.watched():
		}
		seen, err := f.read(ctx)
		if err != nil && ctx.Err() != nil {
			return nil
		}
		f.mu.Lock()
		if err != nil && f.state.err == nil {
			f.log.Warn().Err(err).Msg("heads not read")
		}
		f.state = headState{sizes: seen, at: time.Now(), err: err}
		close(f.changed)
		f.changed = make(chan struct{})
		f.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(f.poll):
		}
	}
}
