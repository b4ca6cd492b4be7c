//go:build mutations

package group_test

import (
	"errors"
	"testing"

	"github.com/maxviazov/audittrail/internal/group"
)

// TestMaxWinsLoses is TestOnlyThePrefixIsCommitted without the rule: the unfinished message never comes again. It shows
// that the rule is needed, and that the test of it can fail.
func TestMaxWinsLoses(t *testing.T) {
	group.SetMaxWins(true)
	defer group.SetMaxWins(false)
	b := startBroker(t, 1)
	b.produce(10, 0)
	messages := make(chan held, 100)
	a := run(t, b.addrs, newWrapper(t, group.Config{}), hold(messages))
	first := take(t, messages, 10)
	for _, m := range first {
		if m.offset != 3 {
			m.commit(nil)
		}
	}
	waitFor(t, "the highest is committed", func() bool { return b.committed(0) == 10 })
	first[3].session.End(errors.New("the process is killed"))
	b.produce(1, 0)
	if m := await(t, "the next message", messages); m.offset != 10 {
		t.Errorf("delivery goes on at %d, so nothing was lost", m.offset)
	}
	a.stop()
}
