package views

import (
	"bufio"
	"flag"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/segment"
)

var update = flag.Bool("update", false, "write testdata/filters.txt again")

// TestScenarios reads testdata/filters.txt: events, and for each filter what of it narrows a search, and which events it finds, by their
// numbers.
func TestScenarios(t *testing.T) {
	const path = "testdata/filters.txt"
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	var events []*audittrailv1.Event
	lines := bufio.NewScanner(strings.NewReader(string(want)))
	for lines.Scan() {
		name, text, _ := strings.Cut(lines.Text(), " ")
		switch name {
		case "event":
			e := &audittrailv1.Event{}
			if err := protojson.Unmarshal([]byte(text), e); err != nil {
				t.Fatalf("%s: %v", lines.Text(), err)
			}
			events = append(events, e)
		case "filter":
			fmt.Fprintln(&got, lines.Text())
			got.WriteString(play(t, text, events))
			continue
		case "narrows", "finds", "refused":
			continue
		}
		fmt.Fprintln(&got, lines.Text())
	}
	if *update {
		if err := os.WriteFile(path, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got.String() != string(want) {
		t.Errorf("got\n%s\nwant\n%s\nrun go test ./views -run TestScenarios -update and read the difference", got.String(), want)
	}
}

func play(t *testing.T, text string, events []*audittrailv1.Event) string {
	f, err := ParseFilter(text)
	if err != nil {
		return fmt.Sprintf("refused %v\n", err)
	}
	n := narrow(f)
	var found []string
	for i, e := range events {
		if !f.Match(e) {
			continue
		}
		found = append(found, fmt.Sprint(i+1))
		// Whatever the golden file says: narrowing must never exclude what the filter accepts.
		terms, _ := segment.AppendTerms(nil, nil, e)
		if !n.terms.admits(segment.BuildFilter(terms, segment.BundleSize)) || !admitsTime(n, e) {
			t.Errorf("%s: narrowing excludes event %d, which the filter accepts", text, i+1)
		}
	}
	return fmt.Sprintf("narrows %s\nfinds %s\n", describe(n), strings.Join(found, " "))
}

func admitsTime(n narrowing, e *audittrailv1.Event) bool {
	ms := e.GetOccurredAt().AsTime().UnixMilli()
	return ms >= n.from && ms <= n.to && n.outcomes&(1<<e.GetOutcome()) != 0
}

func describe(n narrowing) string {
	var parts []string
	if n.from != math.MinInt64 {
		parts = append(parts, "from "+time.UnixMilli(n.from).UTC().Format("2006-01-02T15:04:05.000Z"))
	}
	if n.to != math.MaxInt64 {
		parts = append(parts, "to "+time.UnixMilli(n.to).UTC().Format("2006-01-02T15:04:05.000Z"))
	}
	for _, d := range []struct {
		name string
		p    patterns
	}{{"source", n.sources}, {"action", n.actions}} {
		for _, alternatives := range d.p {
			var words []string
			for _, a := range alternatives {
				word := a.text
				if a.prefix {
					word += "*"
				}
				words = append(words, word)
			}
			parts = append(parts, d.name+" "+strings.Join(words, "|"))
		}
	}
	if n.outcomes != everyOutcome {
		parts = append(parts, fmt.Sprintf("outcome %05b", n.outcomes))
	}
	for _, alternatives := range n.terms {
		var names []string
		for _, term := range alternatives {
			names = append(names, term.field.name)
		}
		slices.Sort(names)
		parts = append(parts, "term of "+strings.Join(names, "|"))
	}
	if n.empty() {
		parts = append(parts, "nothing")
	}
	if len(parts) == 0 {
		return "not"
	}
	return strings.Join(parts, "; ")
}
