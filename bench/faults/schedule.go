package faults

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// A schedule is what the random scenario does, and when: rounds of faults, each judged when it is over. It is made from a seed alone,
// and can be written down and played again. What the parts are doing at those moments is not in it.

// act is one fault of a schedule.
type act struct {
	round int
	at    time.Duration // since the beginning of the round
	kind  string        // a name of the catalogue
	which int           // which of several
	lasts time.Duration // until it is taken back; of what only happens, 0
}

func (a act) String() string {
	return fmt.Sprintf("%d %s %s %d %s", a.round, a.at, a.kind, a.which, a.lasts)
}

// parseSchedule reads what writeSchedule wrote: a fault a line, round, time in the round, kind, number, duration. Empty lines and those that
// begin with # are left out.
func parseSchedule(r io.Reader) ([]act, error) {
	var acts []act
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		var a act
		var at, lasts string
		if _, err := fmt.Sscan(line, &a.round, &at, &a.kind, &a.which, &lasts); err != nil {
			return nil, fmt.Errorf("schedule, line %d: %w", n, err)
		}
		var err error
		if a.at, err = time.ParseDuration(at); err == nil {
			a.lasts, err = time.ParseDuration(lasts)
		}
		if err != nil || a.round < 0 || a.at < 0 || a.lasts < 0 || a.which < 0 {
			return nil, fmt.Errorf("schedule, line %d: round, time, kind, number, duration are wanted, none of them negative: %q", n, line)
		}
		if !slices.ContainsFunc(catalogue, func(k faultKind) bool { return k.name == a.kind }) {
			return nil, fmt.Errorf("schedule, line %d: no fault %q in the catalogue", n, a.kind)
		}
		acts = append(acts, a)
	}
	return acts, lines.Err()
}

// writeSchedule writes a schedule for parseSchedule.
func writeSchedule(acts []act) string {
	var b strings.Builder
	b.WriteString("# round, time in the round, fault, which of several, until it is taken back\n")
	for _, a := range acts {
		fmt.Fprintln(&b, a)
	}
	return b.String()
}

// makeSchedule fills a length of time with rounds of faults. broker says what there is to break.
func makeSchedule(seed uint64, length, round time.Duration, broker string) []act {
	r := rand.New(rand.NewPCG(seed, 25))
	var kinds []faultKind
	total := 0
	for _, k := range catalogue {
		if k.broker == "" || k.broker == broker {
			kinds = append(kinds, k)
			total += k.weight
		}
	}
	var acts []act
	for i := range int(max(1, length/round)) {
		for at := between(r, 0, time.Second); at < round; at += between(r, 200*time.Millisecond, 4*time.Second) {
			n := r.IntN(total)
			k := kinds[0]
			for _, k = range kinds {
				if n -= k.weight; n < 0 {
					break
				}
			}
			a := act{round: i, at: at, kind: k.name, which: r.IntN(max(1, k.of))}
			if k.longest > 0 {
				a.lasts = between(r, k.shortest, k.longest)
			}
			acts = append(acts, a)
		}
	}
	return acts
}

// between is a random duration, to the millisecond.
func between(r *rand.Rand, low, high time.Duration) time.Duration {
	return (low + time.Duration(r.Int64N(int64(high-low)))).Round(time.Millisecond)
}

// shrink looks for a small part of a schedule that still fails, by delta debugging (A. Zeller, R. Hildebrandt: Simplifying and Isolating
// Failure-Inducing Input, 2002): leave out halves, then quarters, and so on. fails tries a part out; when it does not say whether (ok is
// false: there is no more time) the smallest one so far is returned. What fails only sometimes comes out larger than it needs to be, never wrong:
// every result has failed.
func shrink(acts []act, fails func([]act) (failed, ok bool)) []act {
	for parts := 2; len(acts) > 1; {
		size := (len(acts) + parts - 1) / parts
		smaller := false
		for from := 0; from < len(acts); from += size {
			rest := slices.Concat(acts[:from], acts[min(from+size, len(acts)):])
			failed, ok := fails(rest)
			if !ok {
				return acts
			}
			if failed {
				acts, parts, smaller = rest, max(parts-1, 2), true
				break
			}
		}
		switch {
		case smaller:
		case size == 1:
			return acts
		default:
			parts = min(2*parts, len(acts))
		}
	}
	return acts
}
