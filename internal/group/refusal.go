package group

import (
	"errors"
	"fmt"
)

// Refusal is an error that trying again cannot mend: a log that went backwards (R2), a topic that was recreated (R18),
// an envelope version this program does not know. Returned by a Hook, or handed to EndSession, Session.End,
// goka's Fail or a deferred commit, it stops the processor for good: the wrapper records it (goka flattens errors), and
// the supervisor returns it instead of restarting.
type Refusal struct {
	Err error
}

// Refusef makes a Refusal; the format may use %w.
func Refusef(format string, args ...any) error {
	return Refusal{Err: fmt.Errorf(format, args...)}
}

func (r Refusal) Error() string { return "refused: " + r.Err.Error() }

func (r Refusal) Unwrap() error { return r.Err }

func isRefusal(err error) bool {
	var r Refusal
	return errors.As(err, &r)
}
