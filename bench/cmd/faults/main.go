// Command faults runs the fault scenarios and writes the report.
//
//	go run ./bench/cmd/faults -list
//	go run ./bench/cmd/faults -quick                     # in-process broker, PostgreSQL 18
//	go run ./bench/cmd/faults -broker kafka -postgres 15 # everything that runs on Apache Kafka
//	go run ./bench/cmd/faults -broker kafka F05 F09-restore
//	go run ./bench/cmd/faults -for 30m -seed 7 F25-random  # everything at random; what fails is made small
//	go run ./bench/cmd/faults -mutations                 # each rule switched off must turn its scenario red
//
// It exits with 1 when a scenario failed, or one that was asked for could not run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/maxviazov/audittrail/bench/faults"
	"github.com/maxviazov/audittrail/bench/stage"
)

func main() {
	if len(os.Args) == 4 && os.Args[1] == stage.BrokerArg {
		if err := stage.Broker(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(1)
	}
}

type options struct {
	runner          faults.Runner
	report          string
	list, mutations bool
}

func parse(args []string) (o options, ids []string, err error) {
	flags := flag.NewFlagSet("faults", flag.ContinueOnError)
	r := &o.runner
	flags.StringVar(&r.Broker, "broker", "kfake", "kfake (in process), kafka (Apache Kafka; needs Java 17 and Maven), or kafka,kfake: what cannot run on the first runs on the second")
	flags.IntVar(&r.Postgres, "postgres", 18, "18 (fetched once) or 15 (Debian's package)")
	flags.BoolVar(&r.Long, "long", false, "the long forms: longer faults, more events, more kills")
	flags.BoolVar(&r.Quick, "quick", false, "only what is part of a quick run")
	flags.IntVar(&r.Parallel, "parallel", 1, "scenarios at a time; those that measure times always run alone")
	flags.BoolVar(&r.Again, "again", false, "run a scenario that failed once more, alone, unless something was lost or wrong: it may only have been too slow beside others")
	flags.Uint64Var(&r.Seed, "seed", 1, "of the random choices")
	flags.StringVar(&r.Mutation, "mutation", "", "switch this rule off: the scenarios should fail")
	flags.DurationVar(&r.For, "for", 0, "how long F25-random does things; 0: a round of 20 s")
	flags.StringVar(&r.Schedule, "schedule", "", "file with what F25-random does, as it printed it, instead of what follows from -seed and -for")
	flags.DurationVar(&r.Shrink, "shrink", 15*time.Minute, "how long a schedule of F25-random that failed may be made small; 0: it is not")
	flags.StringVar(&r.Keep, "keep", "", "directory in which logs and ledgers stay")
	flags.StringVar(&o.report, "report", "", "file for the report, Markdown")
	flags.BoolVar(&o.list, "list", false, "list the scenarios and the mutations")
	flags.BoolVar(&o.mutations, "mutations", false, "run each mutation with its scenario, and print the table")
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "usage: faults [flags] [scenario …]\n\nRuns fault scenarios (all of them, or those whose ids begin with an argument).\n\nflags:")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return o, nil, err
	}
	for broker := range strings.SplitSeq(r.Broker, ",") {
		if broker != "kfake" && broker != "kafka" {
			return o, nil, fmt.Errorf("-broker is %q, can be kfake, kafka, or kafka,kfake: what cannot run on the first runs on the second", r.Broker)
		}
	}
	if r.Postgres != 15 && r.Postgres != 18 {
		return o, nil, fmt.Errorf("-postgres is %d, can be 15 or 18", r.Postgres)
	}
	return o, flags.Args(), nil
}

func run(ctx context.Context, args []string) error {
	o, ids, err := parse(args)
	if err != nil {
		return err
	}
	o.runner.Out = func(line string) { fmt.Println(line) }
	if o.list {
		list()
		return nil
	}
	if o.mutations {
		return runMutations(ctx, o)
	}
	scenarios, err := faults.Find(ids)
	if err != nil {
		return err
	}
	results := o.runner.Run(ctx, scenarios)
	fmt.Println()
	failed := 0
	for _, r := range results {
		fmt.Println(r.Verdict())
		if !r.OK() {
			failed++
		}
	}
	if o.report != "" {
		page := faults.Page{Made: time.Now(), Environment: faults.Environment(o.runner.Settings), Command: strings.TrimSpace("go run ./bench/cmd/faults " + strings.Join(args, " "))}
		if err := writeReport(o.report, page, results); err != nil {
			return err
		}
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case len(results) == 0:
		return fmt.Errorf("no scenario that was asked for runs on %s", o.runner.Broker)
	case failed > 0:
		return fmt.Errorf("%d of %d scenarios did not pass", failed, len(results))
	}
	return nil
}

func writeReport(path string, page faults.Page, results []*faults.Result) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(faults.WriteReport(f, page, results), f.Close())
}

func list() {
	for _, s := range faults.Scenarios() {
		where := map[faults.Needs]string{faults.Kfake: " [kfake]", faults.Kafka: " [kafka]"}[s.Needs]
		fmt.Printf("%-20s %s%s\n", s.ID, s.Title, where)
	}
	fmt.Println()
	for _, m := range faults.Mutations() {
		fmt.Printf("%-24s without: %s; must turn %s red (%s)\n", m.Name, m.Rule, m.Scenario, m.Broker)
	}
}

// runMutations runs each mutation's scenario without the rule, which must fail, and prints the table.
func runMutations(ctx context.Context, o options) error {
	var mutations []faults.Mutation
	for _, m := range faults.Mutations() {
		if o.runner.Mutation == "" || o.runner.Mutation == m.Name {
			mutations = append(mutations, m)
		}
	}
	if len(mutations) == 0 {
		return fmt.Errorf("no mutation %q; -list shows them", o.runner.Mutation)
	}
	results, err := o.runner.RunMutations(ctx, mutations)
	if err != nil {
		return err
	}
	wrong := 0
	fmt.Printf("\n%-24s %-20s %s\n", "without", "scenario", "verdict")
	for i, r := range results {
		word := "not run"
		switch {
		case r == nil:
			wrong++
		case r.Skipped != "":
			word, wrong = "not run: "+r.Skipped, wrong+1
		case r.OK():
			word, wrong = "GREEN: the scenario does not see it", wrong+1
		default:
			first, _, _ := strings.Cut(r.Failures[0], "\n")
			word = "red, as it must be: " + first
		}
		fmt.Printf("%-24s %-20s %s\n", mutations[i].Name, mutations[i].Scenario, word)
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case wrong > 0:
		return fmt.Errorf("%d of %d mutations were not noticed", wrong, len(mutations))
	}
	return nil
}
