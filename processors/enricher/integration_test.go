package enricher

import (
	"fmt"
	"testing"

	"github.com/maxviazov/audittrail/proto/event"
)

func TestDuplicatesAcrossMessagesAndWithinOne(t *testing.T) {
	p := newPipe(t, 2)
	p.start(p.config(t.TempDir())).awaitReady()
	const source = "acme/pay"
	a, b, c := testEvent(source, "a"), testEvent(source, "b"), testEvent(source, "c")
	partition, _ := p.sendBatch(source, a, b, a)
	p.sendBatch(source, b, c)
	_, last := p.sendBatch(source, a)
	p.awaitCommit(partition, last+1)

	s := p.sink(partition, 0)
	want := map[event.ID]slot{event.IDOf(a): {0, 0}, event.IDOf(b): {0, 1}, event.IDOf(c): {1, 1}}
	if fmt.Sprint(s.stored) != fmt.Sprint(want) {
		t.Errorf("stored %v, want %v", s.stored, want)
	}
	if s.drops != 3 {
		t.Errorf("%d drops, want 3", s.drops)
	}
	if s.next != (slot{last + 1, 0}) {
		t.Errorf("covered up to %v, want %d", s.next, last+1)
	}
}
