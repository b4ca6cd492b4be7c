package group

import (
	"errors"

	"github.com/IBM/sarama"
)

// ending is how an attempt to consume ended.
type ending int

const (
	stopped    ending = iota // the processor is stopping
	refused                  // never again
	closed                   // the group was closed
	joinFailed               // there was no session
	rebalanced               // the group rebalances
	byOwner                  // Session.End
	failed                   // anything else: setup, callback, send, heartbeat, a claim that ended
)

func (e ending) String() string {
	return [...]string{"shutdown", "refusal", "closed", "join", "rebalance", "owner", "failure"}[e]
}

// outcome is what is known after sarama's Consume returned.
type outcome struct {
	err         error // what it returned: of joining, Setup or Cleanup
	contextDone bool  // the processor is stopping
	refusal     error // recorded
	session     bool  // there was one
	cause       error // why its context ended
	owner       error // what the owner of the session ended it with, if that ended it
}

// ending classifies the outcome. The cause counts for more than the error: when a session is over, deferred commits are
// failed on purpose, goka returns their errors from Cleanup, and that is no failure.
func (o outcome) ending() ending {
	switch {
	case o.refusal != nil, isRefusal(o.err), o.fenced() != nil:
		return refused
	case errors.Is(o.err, sarama.ErrClosedConsumerGroup):
		return closed
	case o.contextDone:
		return stopped
	case !o.session && o.err == nil:
		return rebalanced // ended by EndSession before it began
	case !o.session:
		return joinFailed
	case o.owner != nil:
		return byOwner
	}
	for _, rebalance := range []error{sarama.ErrRebalanceInProgress, sarama.ErrUnknownMemberId, sarama.ErrIllegalGeneration,
		sarama.ErrSessionPartitionCountChanged} {
		if errors.Is(o.cause, rebalance) {
			return rebalanced
		}
	}
	return failed
}

// fenced says that another process joined with the same static member name. Both would throw each other out for ever, so
// the older one, which is the one that is told, stops.
func (o outcome) fenced() error {
	for _, err := range []error{o.err, o.cause} {
		if errors.Is(err, sarama.ErrFencedInstancedId) {
			return Refusef("another process runs with this group instance id: %w", err)
		}
	}
	return nil
}

// asRefusal finds the Refusal in err, which may be nil when it is recorded already.
func asRefusal(err error) error {
	var r Refusal
	if errors.As(err, &r) {
		return r
	}
	return Refusal{Err: err}
}
