package faults

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/maxviazov/audittrail/bench/judge"
)

func run(t *testing.T, do func(*T)) *Result {
	return runScenario(t.Context(), Settings{}, "X", func(string) {}, do)
}

// TestResultSaysWhatHappened: a scenario cannot end in a way that the report takes for a pass when it was none.
func TestResultSaysWhatHappened(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(*T)
		ok   bool
		says string
	}{
		{"nothing wrong", func(t *T) { t.Log("fine") }, true, ""},
		{"error", func(t *T) { t.Errorf("lost %d", 3) }, false, "lost 3"},
		{"fatal", func(t *T) { t.Fatal("no broker"); panic("goes on") }, false, "no broker"},
		{"panic", func(t *T) { panic("nil map") }, false, "panic: nil map"},
		{"fail now", func(t *T) { t.FailNow() }, false, "failed"},
		{"in a cleanup", func(t *T) { t.Cleanup(func() { t.Error("left over") }) }, false, "left over"},
		{"in a part", func(t *T) { t.part("p", func(t *T) { t.Fatal("part broke") }) }, false, "part broke"},
		{"skipped", func(t *T) { t.Skip("no java") }, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := run(t, c.do)
			if r.OK() != c.ok {
				t.Errorf("OK() = %v, failures %q", r.OK(), r.Failures)
			}
			if !strings.Contains(strings.Join(r.Failures, "\n"), c.says) {
				t.Errorf("failures %q do not say %q", r.Failures, c.says)
			}
		})
	}
}

// TestCleanupsRunBackwards, after the end of the context and whatever ended the scenario.
func TestCleanupsRunBackwards(t *testing.T) {
	var order []string
	run(t, func(t *T) {
		t.Cleanup(func() { order = append(order, "first") })
		t.Cleanup(func() {
			if t.Context().Err() == nil {
				order = append(order, "context goes on")
			}
			order = append(order, "second")
			t.Cleanup(func() { order = append(order, "of the cleanup") })
		})
		t.Fatal("end")
	})
	if want := []string{"second", "of the cleanup", "first"}; !slices.Equal(order, want) {
		t.Errorf("cleanups ran as %q, want %q", order, want)
	}
}

// TestReport: counts are added up, and a failure is on the first page.
func TestReport(t *testing.T) {
	good := run(t, func(t *T) { t.judged(&judge.Verdict{Acked: 10, Stored: 11}); t.recovered("a kill", 0, 0) })
	bad := run(t, func(t *T) { t.judged(&judge.Verdict{Acked: 5, Stored: 3, Lost: 2}); t.Error("the contract is broken") })
	good.Scenario, bad.Scenario = "F01", "F02"
	good.Recoveries = append(good.Recoveries, Recovery{After: "a long outage", Took: 20 * time.Second, Goal: 15 * time.Second})
	good.Memory, bad.Memory = map[string]int64{"sink-0": 80 << 20, "sink-1": 90 << 20}, map[string]int64{"sink-0": 70 << 20}
	var b strings.Builder
	if err := WriteReport(&b, Page{Command: "make faults", Environment: [][2]string{{"commit", "abc"}}}, []*Result{good, bad}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"2 scenarios, 1 passed, 1 failed, 0 skipped", "| 15 | 14 | 2 | 0 | 0 | 0 |", "| commit | abc |", "`make faults`", "| sink | 90 | F01 |",
		"| a long outage | 20s | 15s | **over** |", "## F02: FAILED", "the contract is broken", "| a kill |"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the report does not say %q:\n%s", want, b.String())
		}
	}
	if line := bad.Verdict(); !strings.Contains(line, "FAILED") || !strings.Contains(line, "lost 2") {
		t.Errorf("verdict line: %q", line)
	}
}

// TestScenariosAreNamedOnce: ids are what the command line, the mutations and the documentation go by.
func TestScenariosAreNamedOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range Scenarios() {
		if seen[s.ID] || s.Title == "" || s.Run == nil {
			t.Errorf("scenario %q is there twice, or has no title or body", s.ID)
		}
		seen[s.ID] = true
	}
	for _, m := range Mutations() {
		found, err := Find([]string{m.Scenario})
		if err != nil || len(found) != 1 || !found[0].runsOn(m.Broker) {
			t.Errorf("mutation %s: scenario %s: %d found, %v", m.Name, m.Scenario, len(found), err)
		}
	}
	if _, err := Find([]string{"F99"}); err == nil {
		t.Error("F99 was found")
	}
}

// TestAgain: what failed without a broken contract is tried once more, alone, and the report says of both; what a judge found is not.
func TestAgain(t *testing.T) {
	slow, broken, never := 0, 0, 0
	scenarios := []Scenario{
		{ID: "slow", Run: func(t *T) {
			if slow++; slow == 1 {
				t.Fatal("not within 30s")
			}
			t.judged(&judge.Verdict{Acked: 1, Stored: 1})
		}},
		{ID: "broken", Run: func(t *T) {
			broken++
			t.judged(&judge.Verdict{Acked: 1, Lost: 1})
			t.Error(contractBroken)
		}},
		{ID: "never", Run: func(t *T) { never++; t.Fatal("not within 30s") }},
	}
	results := Runner{Settings: Settings{Broker: "kfake"}, Again: true, Out: func(string) {}}.Run(t.Context(), scenarios)
	if slow != 2 || broken != 1 || never != 2 {
		t.Errorf("ran %d, %d and %d times", slow, broken, never)
	}
	if !results[0].OK() || results[1].OK() || results[2].OK() {
		t.Errorf("ok: %v, %v, %v", results[0].OK(), results[1].OK(), results[2].OK())
	}
	if notes := strings.Join(results[0].Notes, "\n"); !strings.Contains(notes, "not within 30s") {
		t.Errorf("the report does not say of the first try: %q", notes)
	}
}
