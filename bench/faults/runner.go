package faults

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/maxviazov/audittrail/bench/judge"
	"github.com/maxviazov/audittrail/internal/embedded/embeddedtest"
)

// Runner runs scenarios.
type Runner struct {
	Settings
	// Quick leaves out what is not part of a quick run.
	Quick bool
	// Parallel is how many scenarios run at a time; those that measure times run alone. Default: 1.
	Parallel int
	// Again runs a scenario that failed once more, alone, when the contract held in it: it may have been too slow beside others. What a judge
	// found is never tried again. The report says of both runs.
	Again bool
	// Out gets each line as it is said, from one goroutine at a time.
	Out func(line string)
}

// Run runs the scenarios and returns their results, in the same order. What the broker cannot run is left out.
func (r Runner) Run(ctx context.Context, scenarios []Scenario) []*Result {
	defer removePrograms()
	// The parts made for tests choose PostgreSQL by this variable.
	if err := os.Setenv(embeddedtest.VersionVar, fmt.Sprint(r.Postgres)); err != nil {
		panic(err) // neither name nor value can be wrong
	}
	var chosen, alone, together []int
	for i, s := range scenarios {
		if r.brokerFor(s) == "" || r.Quick && !s.Quick {
			continue
		}
		chosen = append(chosen, i)
		if s.Alone {
			alone = append(alone, i)
		} else {
			together = append(together, i)
		}
	}
	results := map[int]*Result{}
	var mu sync.Mutex
	began := time.Now()
	one := func(i int) {
		if ctx.Err() != nil {
			return
		}
		result := r.one(ctx, scenarios[i])
		mu.Lock()
		defer mu.Unlock()
		results[i] = result
		r.say(fmt.Sprintf("%s: %s after %s; %d of %d done, %s since the start", result.Scenario, result.word(), result.Took.Round(time.Second),
			len(results), len(chosen), time.Since(began).Round(time.Second)))
	}
	queue := make(chan int)
	var workers sync.WaitGroup
	for range max(1, r.Parallel) {
		workers.Go(func() {
			for i := range queue {
				one(i)
			}
		})
	}
	for _, i := range together {
		queue <- i
	}
	close(queue)
	workers.Wait()
	for _, i := range alone {
		one(i)
	}
	for _, i := range chosen {
		if first := results[i]; r.Again && first != nil && len(first.Failures) > 0 && !first.Broken() {
			r.say(first.Scenario + ": nothing was lost or wrong, but it failed; once more, alone")
			one(i)
			results[i].Notes = append(results[i].Notes, "failed at the first try, beside others: "+strings.Join(first.Failures, "; "))
		}
	}
	var all []*Result
	for _, i := range chosen {
		if results[i] != nil {
			all = append(all, results[i])
		}
	}
	return all
}

// RunMutations runs the scenario of each mutation without the rule, Parallel at a time, and returns their results in the same order. A nil result is one
// that ctx cut off.
func (r Runner) RunMutations(ctx context.Context, mutations []Mutation) ([]*Result, error) {
	defer removePrograms()
	if err := os.Setenv(embeddedtest.VersionVar, fmt.Sprint(r.Postgres)); err != nil {
		panic(err) // neither name nor value can be wrong
	}
	results := make([]*Result, len(mutations))
	var g errgroup.Group
	g.SetLimit(max(1, r.Parallel))
	for i, m := range mutations {
		scenarios, err := Find([]string{m.Scenario})
		if err != nil {
			return nil, err
		}
		g.Go(func() error {
			if ctx.Err() != nil {
				return nil
			}
			runner := r
			runner.Mutation, runner.Broker = m.Name, m.Broker
			results[i] = runner.one(ctx, scenarios[0])
			return nil
		})
	}
	return results, g.Wait()
}

func (r Runner) one(ctx context.Context, s Scenario) *Result {
	settings := r.Settings
	settings.Broker = r.brokerFor(s)
	result := runScenario(ctx, settings, s.ID, r.say, s.Run)
	result.Scenario, result.Title, result.Broker, result.Postgres, result.Mutation = s.ID, s.Title, settings.Broker, r.Postgres, r.Mutation
	return result
}

// brokerFor is the first of the brokers that can run the scenario, or "".
func (r Runner) brokerFor(s Scenario) string {
	for broker := range strings.SplitSeq(r.Broker, ",") {
		if s.runsOn(broker) {
			return broker
		}
	}
	return ""
}

var sayMu sync.Mutex

func (r Runner) say(line string) {
	sayMu.Lock()
	defer sayMu.Unlock()
	r.Out(line)
}

// Broken reports whether a judge found the contract broken.
func (r *Result) Broken() bool {
	return slices.ContainsFunc(r.Verdicts, func(v *judge.Verdict) bool { return !v.OK() }) ||
		slices.ContainsFunc(r.Failures, func(f string) bool { return strings.Contains(f, contractBroken) })
}

// word is the verdict in a word.
func (r *Result) word() string {
	switch {
	case len(r.Failures) > 0:
		return "FAILED"
	case r.Skipped != "":
		return "skipped"
	}
	return "ok"
}
