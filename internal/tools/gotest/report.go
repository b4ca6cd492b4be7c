package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// event is one line of `go test -json` (see `go doc test2json`).
type event struct {
	Action, Package, ImportPath, Test, Output string
}

// name identifies a test; without Test, the package.
type name struct{ pkg, test string }

type report struct {
	out     io.Writer
	output  map[name]*strings.Builder // of what has not ended yet
	passed  int
	failed  int
	skipped []skip
}

type skip struct {
	name
	reason string
}

func newReport(out io.Writer) *report {
	return &report{out: out, output: map[name]*strings.Builder{}}
}

// add takes one line of output. What is no JSON is passed on: the build's own complaints.
func (r *report) add(line []byte) {
	var e event
	if err := json.Unmarshal(line, &e); err != nil {
		_, _ = r.out.Write(line)
		return
	}
	n := name{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		fmt.Fprint(r.out, e.Output)
	case "output":
		r.keep(n, e.Output)
	case "pass", "fail", "skip":
		r.ended(n, e.Action)
	}
}

func (r *report) keep(n name, text string) {
	b := r.output[n]
	if b == nil {
		b = &strings.Builder{}
		r.output[n] = b
	}
	b.WriteString(text)
}

// ended counts a test, and prints what it wrote if it failed. A test's output goes to its parent's,
// where subtests are, so that one failure prints the whole story once.
func (r *report) ended(n name, action string) {
	var text string
	if b := r.output[n]; b != nil {
		text = b.String()
		delete(r.output, n)
	}
	if n.test == "" {
		r.packageEnded(action, text)
		return
	}
	switch action {
	case "pass":
		r.passed++
	case "fail":
		r.failed++
		fmt.Fprint(r.out, text)
	case "skip":
		r.skipped = append(r.skipped, skip{n, reason(text)})
	}
}

// packageEnded prints a package's closing line, or everything it wrote outside of tests if it failed (a
// panic, for example, or TestMain). Packages without tests are not worth a line.
func (r *report) packageEnded(action, text string) {
	for line := range strings.Lines(text) {
		ok := strings.HasPrefix(line, "ok  \t")
		if ok || (action == "fail" && line != "FAIL\n" && line != "PASS\n") {
			fmt.Fprint(r.out, line)
		}
	}
}

// reason is what a test wrote before it was skipped, without go test's own lines.
func reason(text string) string {
	var kept []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "=== ") && !strings.HasPrefix(line, "--- SKIP") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, " ")
}

// finish prints the summary and returns the exit code; testErr is how `go test` ended.
func (r *report) finish(testErr error, strict bool) int {
	// Left without an end are tests that ran when their program died: say what they wrote last.
	left := make([]name, 0, len(r.output))
	for n := range r.output {
		left = append(left, n)
	}
	slices.SortFunc(left, func(a, b name) int { return strings.Compare(a.pkg+"\x00"+a.test, b.pkg+"\x00"+b.test) })
	for _, n := range left {
		fmt.Fprintf(r.out, "%s %s did not end:\n%s", n.pkg, n.test, r.output[n])
	}
	for _, s := range r.skipped {
		fmt.Fprintf(r.out, "left out: %s %s: %s\n", s.pkg, s.test, s.reason)
	}
	fmt.Fprintf(r.out, "%d passed, %d failed, %d skipped\n", r.passed, r.failed, len(r.skipped))
	switch {
	case testErr != nil || r.failed > 0:
		return 1
	case strict && len(r.skipped) > 0:
		fmt.Fprintln(r.out, "CI=true: a test that is left out is a failure")
		return 1
	case strict && r.passed == 0:
		fmt.Fprintln(r.out, "CI=true: no test ran")
		return 1
	}
	return 0
}
