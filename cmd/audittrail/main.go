// Command audittrail records who did what, and finds it again. One subcommand a role, one that runs all of them, and a client for each
// service. The wiring of a role stands in the file of its name; all.go draws how they hang together.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel() // in order: what is acknowledged is stored, at the latest after the next start
		<-signals
		fmt.Fprintln(os.Stderr, "audittrail: stopped at once")
		os.Exit(exitForced)
	}()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the program: ctx ends when it is asked to stop. It returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err != nil {
		fmt.Fprintf(stderr, "audittrail: %s\n", describe(err))
	}
	return exitCode(err)
}
