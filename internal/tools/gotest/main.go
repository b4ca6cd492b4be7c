// Command gotest runs `go test` with the arguments it is given and ends with a summary: how many tests
// passed, failed and were left out, and the name and reason of each that was left out. With CI=true a
// test left out is a failure, and so is a run of no test at all: the machine that decides must run
// everything.
//
// It prints what `go test` prints: a line for each package, and all output of those that fail.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
)

func main() {
	os.Exit(run(os.Args[1:], os.Getenv("CI") == "true", os.Stdout))
}

func run(args []string, strict bool, out io.Writer) int {
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "gotest: %v\n", err)
		return 2
	}
	r := newReport(out)
	lines := bufio.NewReader(stdout)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			r.add(line)
		}
		if err != nil {
			break // the program's exit status says whether this was its regular end
		}
	}
	return r.finish(cmd.Wait(), strict)
}
