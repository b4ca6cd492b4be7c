package sink

import (
	"testing"

	"github.com/maxviazov/audittrail/proto/stream"
)

// TestWedgeDetector is R21: also while outputs keep coming, so that the sink never stands at the end of audit-records as it is now.
func TestWedgeDetector(t *testing.T) {
	type look struct {
		next        slot
		position    int64
		commit, end int64
		wedged      bool
	}
	for name, looks := range map[string][]look{
		"idle, all is stored":        {{slot{3, 0}, 7, 3, 7, false}},
		"idle, a slot is open":       {{slot{2, 5}, 7, 3, 7, true}},
		"the enricher has no commit": {{slot{0, 0}, 7, stream.NoCommit, 7, false}},
		"on the way to the end":      {{slot{2, 0}, 6, 3, 7, false}},
		"behind, but all arrives":    {{slot{2, 0}, 6, 3, 7, false}, {slot{3, 0}, 8, 9, 20, false}},
		"a slot is open under load":  {{slot{2, 0}, 6, 3, 7, false}, {slot{2, 0}, 8, 5, 12, true}, {slot{2, 0}, 10, 6, 14, true}},
		"the end that was seen first counts": {{slot{2, 0}, 6, 3, 20, false}, {slot{2, 0}, 8, 5, 30, false}, {slot{2, 0}, 19, 6, 40, false},
			{slot{2, 0}, 20, 7, 50, true}},
		"filled again under load": {{slot{2, 0}, 7, 3, 7, true}, {slot{2, 0}, 9, 3, 12, true}, {slot{4, 0}, 13, 6, 20, false}},
	} {
		t.Run(name, func(t *testing.T) {
			var w wedgeDetector
			for i, l := range looks {
				if is := w.observe(seen{l.next, l.position}, l.commit, l.end); is != l.wedged {
					t.Errorf("look %d: wedged %v, want %v", i, is, l.wedged)
				}
			}
		})
	}
}
