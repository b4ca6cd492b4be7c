// Command bench runs one whole pipeline, each part a process of its own, sends events through it, and
// says how many events a second it took and what each process paid for a million of them.
//
//	go run ./bench/cmd/bench -broker kfake -events 1000000
//	go run ./bench/cmd/bench -broker kafka -postgres 15 -events 1000000
//
// Figures of different runs or machines cannot be compared; ratios within a run can. See bench/README.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

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
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// Modes: what is sent, and how.
const (
	modeThroughput = "throughput"
	modeUnary      = "unary"
	modeStream     = "stream"
	modeRaw        = "raw"
	modeTrickle    = "trickle"
)

var modes = []string{modeThroughput, modeUnary, modeStream, modeRaw, modeTrickle}

// options are what the command line says.
type options struct {
	broker, dir      string
	profile          string
	postgres, events int
	warmup, batch    int
	workers, sources int
	partitions       int
	mode             string
	lasting          time.Duration
	rate             int
}

func run(ctx context.Context, args []string) error {
	var o options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.StringVar(&o.mode, "mode", "throughput", "throughput: calls with -batch events; unary: one event a call; stream: one event a message of a stream; raw: one event a Kafka message, past the emitter; trickle: -rate events/s on each partition for -for")
	f.StringVar(&o.broker, "broker", "kfake", "kfake (in-process broker, synchronous writes) or kafka (Apache Kafka, fetched through Maven)")
	f.IntVar(&o.postgres, "postgres", 18, "version of PostgreSQL: 18 (embedded library) or 15 (Debian's package)")
	f.IntVar(&o.events, "events", 1_000_000, "events to measure")
	f.IntVar(&o.warmup, "warmup", 0, "events sent before the measurement; 0: 1,200,000 for kafka, whose compiler is busy until then, else 200,000")
	f.IntVar(&o.batch, "batch", 100, "events a call, 1 to 1000")
	f.IntVar(&o.workers, "workers", 8, "calls under way at a time; streams; raw producers")
	f.IntVar(&o.sources, "sources", 200, "sources")
	f.IntVar(&o.partitions, "partitions", 4, "partitions of every topic")
	f.IntVar(&o.rate, "rate", 1, "trickle: events/s on each partition")
	f.DurationVar(&o.lasting, "for", 10*time.Minute, "trickle: how long")
	f.StringVar(&o.profile, "profile", "", "directory for CPU profiles of the generator and the roles while it measures; default: none")
	f.StringVar(&o.dir, "dir", "", "directory for data and logs, kept; default: a temporary one, removed")
	if err := f.Parse(args); err != nil {
		return err
	}
	if !slices.Contains(modes, o.mode) {
		return fmt.Errorf("mode %q: must be one of %s", o.mode, strings.Join(modes, ", "))
	}
	if o.dir == "" {
		dir, err := os.MkdirTemp("", "audittrail-bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		o.dir = dir
	}
	if err := os.Chmod(o.dir, 0o755); err != nil { // PostgreSQL's user passes through
		return err
	}
	if o.warmup == 0 {
		o.warmup = 200_000
		if o.broker == "kafka" {
			o.warmup = 1_200_000
		}
	}
	rig, err := setUp(ctx, o)
	if err != nil {
		return err
	}
	defer rig.tearDown()
	switch o.mode {
	case modeTrickle:
		return rig.trickle(ctx)
	default:
		return rig.throughput(ctx)
	}
}
