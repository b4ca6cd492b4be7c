package faults

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/maxviazov/audittrail/bench/judge"
)

// T is one run of one scenario. It stands in for testing.T, so that a scenario can use the parts made for tests: the embedded interface is
// nil, and every method of it that a scenario or such a part calls is defined here.
type T struct {
	testing.TB
	Settings
	name   string
	ctx    context.Context
	cancel context.CancelFunc
	out    func(line string)
	began  time.Time

	mu       sync.Mutex
	cleanups []func()
	result   Result
}

// Result is what came out of one scenario.
type Result struct {
	Scenario   string
	Title      string
	Broker     string
	Postgres   int
	Mutation   string `json:",omitempty"`
	Took       time.Duration
	Failures   []string
	Skipped    string           `json:",omitempty"`
	Verdicts   []*judge.Verdict // one for each time the scenario was judged; the last one counts all events
	Recoveries []Recovery
	Memory     map[string]int64 // most resident bytes of each process
	Notes      []string
	Log        []string `json:"-"`
}

// contractBroken begins the failure of a scenario whose verdict is not what the contract promises.
const contractBroken = "the contract is broken"

// Recovery is how long something took to go on after a fault.
type Recovery struct {
	After string
	Took  time.Duration
	Goal  time.Duration // 0: none
}

// OK reports whether the scenario ran and nothing was wrong.
func (r *Result) OK() bool { return len(r.Failures) == 0 && r.Skipped == "" }

// runScenario runs do in a goroutine of its own, as testing does, so that Fatal can end it.
func runScenario(ctx context.Context, settings Settings, name string, out func(string), do func(*T)) *Result {
	ctx, cancel := context.WithCancel(ctx)
	t := &T{Settings: settings, name: name, ctx: ctx, cancel: cancel, out: out, began: time.Now()}
	t.result.Memory = map[string]int64{}
	t.wait(func() { do(t) })
	t.end()
	t.result.Took = time.Since(t.began)
	return &t.result
}

// wait runs do in a goroutine and returns when it has ended, also by Fatal or a panic, which is a failure.
func (t *T) wait(do func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				stack := make([]byte, 16<<10)
				t.fail(fmt.Sprintf("panic: %v\n%s", p, stack[:runtime.Stack(stack, false)]))
			}
		}()
		do()
	}()
	<-done
}

// end cancels the context and runs the cleanups, the last one first.
func (t *T) end() {
	t.cancel()
	for {
		t.mu.Lock()
		n := len(t.cleanups)
		if n == 0 {
			t.mu.Unlock()
			return
		}
		f := t.cleanups[n-1]
		t.cleanups = t.cleanups[:n-1]
		t.mu.Unlock()
		t.wait(f)
	}
}

func (t *T) Helper()                  {}
func (t *T) Name() string             { return t.name }
func (t *T) Context() context.Context { return t.ctx }

func (t *T) Cleanup(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cleanups = append(t.cleanups, f)
}

// TempDir is a directory that is removed in the end, unless Settings.Keep names where to keep it.
func (t *T) TempDir() string {
	pattern := "audittrail-faults-"
	if t.Keep != "" {
		pattern = strings.NewReplacer("/", "-", " ", "-").Replace(t.name) + "-"
	}
	dir, err := os.MkdirTemp(t.Keep, pattern)
	if err != nil {
		t.Fatal(err)
	}
	if t.Keep == "" {
		t.Cleanup(func() { os.RemoveAll(dir) })
	}
	return filepath.Clean(dir)
}

func (t *T) Log(args ...any) { t.say(strings.TrimSuffix(fmt.Sprintln(args...), "\n")) }

func (t *T) Logf(format string, args ...any) { t.say(fmt.Sprintf(format, args...)) }

func (t *T) say(text string) {
	line := fmt.Sprintf("%-18s %6.1f  %s", t.name, time.Since(t.began).Seconds(), text)
	t.mu.Lock()
	t.result.Log = append(t.result.Log, line)
	t.mu.Unlock()
	t.out(line)
}

func (t *T) Error(args ...any) { t.fail(strings.TrimSuffix(fmt.Sprintln(args...), "\n")) }

func (t *T) Errorf(format string, args ...any) { t.fail(fmt.Sprintf(format, args...)) }

func (t *T) fail(text string) {
	t.mu.Lock()
	t.result.Failures = append(t.result.Failures, text)
	t.mu.Unlock()
	t.say("FAILED: " + text)
}

func (t *T) Fatal(args ...any) { t.Error(args...); runtime.Goexit() }

func (t *T) Fatalf(format string, args ...any) { t.Errorf(format, args...); runtime.Goexit() }

func (t *T) FailNow() {
	if !t.Failed() {
		t.fail("ended as failed")
	}
	runtime.Goexit()
}

func (t *T) Failed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.result.Failures) > 0
}

// Skip ends the scenario: something it needs is not here. The report says so; it never counts as passed.
func (t *T) Skip(args ...any) { t.Skipf("%s", strings.TrimSuffix(fmt.Sprintln(args...), "\n")) }

func (t *T) Skipf(format string, args ...any) {
	t.mu.Lock()
	t.result.Skipped = fmt.Sprintf(format, args...)
	t.mu.Unlock()
	t.Logf("SKIPPED: "+format, args...)
	runtime.Goexit()
}

// part runs a part of a scenario; Fatal ends the part alone.
func (t *T) part(name string, do func(*T)) {
	t.Logf("part: %s", name)
	t.wait(func() { do(t) })
}

// judged keeps a verdict for the report.
func (t *T) judged(v *judge.Verdict) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.result.Verdicts = append(t.result.Verdicts, v)
}

// recovered keeps how long it took to go on after a fault. Over the goal, if there is one, is said, not failed: times depend on
// what else the machine does.
func (t *T) recovered(after string, took, goal time.Duration) {
	t.mu.Lock()
	t.result.Recoveries = append(t.result.Recoveries, Recovery{After: after, Took: took, Goal: goal})
	t.mu.Unlock()
	over := ""
	if goal > 0 && took > goal {
		over = fmt.Sprintf(" (over the goal of %s)", goal)
	}
	t.Logf("after %s: went on in %s%s", after, took.Round(time.Millisecond), over)
}

// note keeps a sentence for the report.
func (t *T) note(format string, args ...any) {
	t.mu.Lock()
	t.result.Notes = append(t.result.Notes, fmt.Sprintf(format, args...))
	t.mu.Unlock()
	t.Logf(format, args...)
}

// remembers keeps the most memory that processes have had.
func (t *T) remembers(high map[string]int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, bytes := range high {
		t.result.Memory[name] = max(t.result.Memory[name], bytes)
	}
}

// memoryLine is the memory of all processes on one line.
func (r *Result) memoryLine() string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(r.Memory)) {
		parts = append(parts, fmt.Sprintf("%s %d", name, r.Memory[name]>>20))
	}
	return strings.Join(parts, ", ")
}
