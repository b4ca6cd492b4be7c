//go:build mutations

package enricher

import (
	"math/rand/v2"
	"runtime"
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

// TestRandomCrashesNotice runs the same as TestRandomCrashes without one rule of the program after the other: something must go wrong in one of the
// runs, or they show nothing.
func TestRandomCrashesNotice(t *testing.T) {
	for name, rule := range map[string]*bool{
		"only an earlier slot makes a duplicate (R6)":       &seenBefore,
		"the window knows the slot of each first copy (R6)": &entryWithoutSlot,
		"outputs cover the holes before them (R4)":          &outputOverHole,
	} {
		*rule = true
		noticed := false
		for seed := uint64(0); seed < 120 && !noticed; seed++ {
			noticed = failsWith(t, seed)
		}
		*rule = false
		if !noticed {
			t.Errorf("without the rule that %s nothing goes wrong", name)
		}
	}
}

// failsWith says whether a random run fails.
func failsWith(t *testing.T, seed uint64) bool {
	f := &failing{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		newSim(f, rand.New(rand.NewPCG(seed, 77))).run()
	}()
	<-done
	return f.failed
}

// failing notes that a test fails, and lets the one around it go on.
type failing struct {
	testing.TB
	failed bool
}

func (f *failing) Helper()               {}
func (f *failing) Errorf(string, ...any) { f.failed = true }
func (f *failing) Failed() bool          { return f.failed }
func (f *failing) Fatal(...any)          { f.failed = true; runtime.Goexit() }
func (f *failing) Fatalf(string, ...any) { f.failed = true; runtime.Goexit() }
