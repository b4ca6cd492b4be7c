//go:build mutations

package enricher

import (
	"strings"
	"testing"
)

// TestUnsureNamedIsNoticed is testdata/unsure.txtar without the rule: a first copy that may be missing from the log is named, and the sink, which
// cannot believe it, has a gap where the event was. It shows that the rule is needed, and that the scenario can fail.
func TestUnsureNamedIsNoticed(t *testing.T) {
	unsureNamed = true
	defer func() { unsureNamed = false }()
	out := play(t, "message 0 at=10:00:00 key=acme/pay\nevent a\nunsure 1\nmessage 1 at=10:00:09 key=acme/pay\nevent a at=10:00:00\n")
	if !strings.Contains(out, ".0 drop, first at 0.0") {
		t.Errorf("nothing was lost:\n%s", out)
	}
}
