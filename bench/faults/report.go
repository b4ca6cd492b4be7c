package faults

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// Verdict is the one line of a scenario.
func (r *Result) Verdict() string {
	line := fmt.Sprintf("%-20s %-7s", r.Scenario, r.word())
	if n := len(r.Verdicts); n > 0 {
		v := r.Verdicts[n-1]
		line += fmt.Sprintf(" acked %d, stored %d, lost %d, duplicated %d, never sent %d, changed %d", v.Acked, v.Stored, v.Lost, v.Duplicated, v.Phantom, v.Changed)
	}
	if len(r.Failures) > 0 {
		first, _, _ := strings.Cut(r.Failures[0], "\n")
		line += "; " + first
	}
	return line
}

// WriteReport writes the page.
func WriteReport(w io.Writer, heading string, results []*Result) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n", heading)
	failed, skipped := 0, 0
	var acked, stored, lost, duplicated, phantom, changed int
	for _, r := range results {
		if len(r.Failures) > 0 {
			failed++
		} else if r.Skipped != "" {
			skipped++
		}
		if n := len(r.Verdicts); n > 0 {
			v := r.Verdicts[n-1]
			acked, stored, lost, duplicated, phantom, changed = acked+v.Acked, stored+v.Stored, lost+v.Lost, duplicated+v.Duplicated, phantom+v.Phantom, changed+v.Changed
		}
	}
	fmt.Fprintf(&b, "%d scenarios, %d failed, %d skipped. Events acknowledged %d, stored %d, lost %d, duplicated %d, never sent %d, changed %d.\n\n",
		len(results), failed, skipped, acked, stored, lost, duplicated, phantom, changed)
	b.WriteString("| scenario | broker, PostgreSQL | verdict | acked | stored | lost | duplicated | never sent | changed | took |\n|---|---|---|---|---|---|---|---|---|---|\n")
	for _, r := range results {
		counts := "| | | | | | "
		if n := len(r.Verdicts); n > 0 {
			v := r.Verdicts[n-1]
			counts = fmt.Sprintf("| %d | %d | %d | %d | %d | %d ", v.Acked, v.Stored, v.Lost, v.Duplicated, v.Phantom, v.Changed)
		}
		fmt.Fprintf(&b, "| %s | %s, %d | %s %s| %s |\n", r.Scenario, r.Broker, r.Postgres, r.word(), counts, r.Took.Round(time.Second))
	}
	for _, r := range results {
		fmt.Fprintf(&b, "\n## %s: %s\n\n%s.\n", r.Scenario, r.word(), r.Title)
		for _, f := range r.Failures {
			fmt.Fprintf(&b, "\n- **failed**: %s", strings.ReplaceAll(f, "\n", "\n  "))
		}
		if r.Skipped != "" {
			fmt.Fprintf(&b, "\n- skipped: %s", r.Skipped)
		}
		for _, n := range r.Notes {
			fmt.Fprintf(&b, "\n- %s", n)
		}
		for _, rec := range r.Recoveries {
			goal := ""
			if rec.Goal > 0 {
				goal = fmt.Sprintf(" (goal %s)", rec.Goal)
			}
			fmt.Fprintf(&b, "\n- after %s: %s%s", rec.After, rec.Took.Round(10*time.Millisecond), goal)
		}
		if len(r.Memory) > 0 {
			fmt.Fprintf(&b, "\n- peak memory, MiB: %s", r.memoryLine())
		}
		b.WriteString("\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
