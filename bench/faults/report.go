package faults

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
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

// Page is what the report says besides the results.
type Page struct {
	// Made is when the run ended.
	Made time.Time
	// Environment is what it ran on, name and value.
	Environment [][2]string
	// Command is what repeats it.
	Command string
}

// counts are the numbers of a verdict that the report shows.
type counts struct{ acked, stored, lost, duplicated, phantom, changed int }

// counted are those of the last verdict of a scenario, which counts all its events.
func (r *Result) counted() (c counts, judged bool) {
	if len(r.Verdicts) == 0 {
		return c, false
	}
	v := r.Verdicts[len(r.Verdicts)-1]
	return counts{v.Acked, v.Stored, v.Lost, v.Duplicated, v.Phantom, v.Changed}, true
}

func (c *counts) add(d counts) {
	*c = counts{c.acked + d.acked, c.stored + d.stored, c.lost + d.lost, c.duplicated + d.duplicated, c.phantom + d.phantom, c.changed + d.changed}
}

func (c counts) columns() string {
	return fmt.Sprintf("| %d | %d | %d | %d | %d | %d ", c.acked, c.stored, c.lost, c.duplicated, c.phantom, c.changed)
}

// WriteReport writes the page, Markdown: the result first, what it rests on, and at the end each scenario by itself.
func WriteReport(w io.Writer, page Page, results []*Result) error {
	var b strings.Builder
	var total counts
	failed, skipped := 0, 0
	for _, r := range results {
		switch {
		case len(r.Failures) > 0:
			failed++
		case r.Skipped != "":
			skipped++
		}
		c, _ := r.counted()
		total.add(c)
	}
	fmt.Fprintf(&b, "# Fault report of AuditTrail\n\n%s\n\n", intro)
	fmt.Fprintf(&b, "**%d scenarios, %d passed, %d failed, %d skipped.**\n\n", len(results), len(results)-failed-skipped, failed, skipped)
	b.WriteString("| acknowledged | stored | lost | duplicated | never sent | changed |\n|---|---|---|---|---|---|\n" + total.columns() + "|\n\n")
	b.WriteString(legend)
	writeEnvironment(&b, page)
	writeTable(&b, results)
	writeRecoveries(&b, results)
	writeMemory(&b, results)
	for _, r := range results {
		writeScenario(&b, r)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

const intro = `Does AuditTrail lose, double, invent or change an event when something breaks? Each scenario below starts the real programs as processes of their own, with a
Kafka broker and PostgreSQL, and sends events from producers that write down, on disk, what was acknowledged to them. Then it breaks something, lets the pipeline come to rest, and
compares everything that is stored with what was written down. The comparison reads the tables with a reader that shares no code with AuditTrail.`

const legend = `*Stored* may exceed *acknowledged*: an event whose answer was lost on the way is allowed to be there. *Lost*: acknowledged and not stored. *Duplicated*: stored more than once. *Never sent*: stored,
and no producer sent it. *Changed*: stored with other content than was sent. Scenarios in which something is destroyed on purpose beyond what any system could keep say so by themselves, and
account for it event by event.
`

func writeEnvironment(b *strings.Builder, page Page) {
	fmt.Fprintf(b, "\n## Environment\n\n| | |\n|---|---|\n| made | %s |\n", page.Made.UTC().Format("2006-01-02 15:04 UTC"))
	for _, e := range page.Environment {
		fmt.Fprintf(b, "| %s | %s |\n", e[0], e[1])
	}
	fmt.Fprintf(b, "\nTo repeat it, from the root of the repository: `%s`. `docs/faults.md` says how to read and write scenarios.\n", page.Command)
}

func writeTable(b *strings.Builder, results []*Result) {
	b.WriteString("\n## Verdicts\n\n| scenario | what must hold | broker, PostgreSQL | verdict | acked | stored | lost | duplicated | never sent | changed | took |\n|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, r := range results {
		columns := "| | | | | | "
		if c, judged := r.counted(); judged {
			columns = c.columns()
		}
		fmt.Fprintf(b, "| %s | %s | %s, %d | %s %s| %s |\n", r.Scenario, r.Title, r.Broker, r.Postgres, r.word(), columns, r.Took.Round(time.Second))
	}
}

func writeRecoveries(b *strings.Builder, results []*Result) {
	first := true
	for _, r := range results {
		for _, rec := range r.Recoveries {
			if first {
				b.WriteString("\n## Recovery\n\nHow long it took until events were stored again, or, when members of a group change, how long a partition stood still. Times depend on what else the machine does.\n\n" +
					"| scenario | after | took | goal | |\n|---|---|---|---|---|\n")
				first = false
			}
			goal, kept := "", ""
			if rec.Goal > 0 {
				goal, kept = rec.Goal.String(), "kept"
				if rec.Took > rec.Goal {
					kept = "**over**"
				}
			}
			fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n", r.Scenario, rec.After, rec.Took.Round(10*time.Millisecond), goal, kept)
		}
	}
}

// writeMemory says what each role took at most in any scenario.
func writeMemory(b *strings.Builder, results []*Result) {
	type most struct {
		bytes    int64
		scenario string
	}
	roles := map[string]most{}
	for _, r := range results {
		for name, bytes := range r.Memory {
			role, _, _ := strings.Cut(name, "-")
			if bytes > roles[role].bytes {
				roles[role] = most{bytes, r.Scenario}
			}
		}
	}
	if len(roles) == 0 {
		return
	}
	b.WriteString("\n## Memory\n\nThe most resident memory of one process of each role.\n\n| role | MiB | in |\n|---|---|---|\n")
	for _, role := range slices.SortedFunc(maps.Keys(roles), func(x, y string) int { return cmp.Compare(roles[y].bytes, roles[x].bytes) }) {
		fmt.Fprintf(b, "| %s | %d | %s |\n", role, roles[role].bytes>>20, roles[role].scenario)
	}
}

func writeScenario(b *strings.Builder, r *Result) {
	fmt.Fprintf(b, "\n## %s: %s\n\n%s.\n", r.Scenario, r.word(), r.Title)
	item := func(format string, args ...any) {
		fmt.Fprintf(b, "\n- %s", strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "\n  "))
	}
	for _, f := range r.Failures {
		item("**failed**: %s", f)
	}
	if r.Skipped != "" {
		item("skipped: %s", r.Skipped)
	}
	for _, n := range r.Notes {
		item("%s", n)
	}
	if n := len(r.Verdicts); n > 0 {
		item("judged %d times; the last time: %s", n, r.Verdicts[n-1])
	}
	if len(r.Memory) > 0 {
		item("most memory, MiB: %s", r.memoryLine())
	}
	b.WriteString("\n")
}
