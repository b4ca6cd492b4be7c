package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// explained sums up how the calls of one command were answered.
type explained struct {
	calls   int
	steps   []string
	sum     audittrailv1.Explanation
	elapsed time.Duration
}

// add takes what one response says; nothing when it was not asked.
func (x *explained) add(e *audittrailv1.Explanation) {
	if e == nil {
		return
	}
	x.calls++
	for _, s := range e.Steps {
		if !slices.Contains(x.steps, s) {
			x.steps = append(x.steps, s)
		}
	}
	x.sum.LeafCount += e.LeafCount
	x.sum.RowCount += e.RowCount
	x.sum.RollupCount += e.RollupCount
	x.sum.SegmentsConsidered += e.SegmentsConsidered
	x.sum.SegmentsRead += e.SegmentsRead
	x.sum.SegmentsHit += e.SegmentsHit
	x.sum.CacheHits += e.CacheHits
	x.sum.EventsExamined += e.EventsExamined
	x.sum.EventsAccepted += e.EventsAccepted
	x.elapsed += e.Elapsed.AsDuration()
}

func (x *explained) show(out io.Writer) {
	if x.calls == 0 {
		return
	}
	fmt.Fprintf(out, "answered in %v by %s\n", x.elapsed.Round(time.Microsecond), number(x.calls, "call"))
	if len(x.steps) > 0 {
		fmt.Fprintf(out, "  from      %s\n", strings.Join(x.steps, "; "))
	}
	fmt.Fprintf(out, "  events    %s, %s opened\n", number(int(x.sum.RowCount), "row")+" looked at", leaves(x.sum.LeafCount))
	if x.sum.RollupCount > 0 {
		fmt.Fprintf(out, "  rollups   %s added up\n", number(int(x.sum.RollupCount), "row"))
	}
	fmt.Fprintf(out, "  segments  %d considered, %d read (%d of them in memory), %d hit\n", x.sum.SegmentsConsidered, x.sum.SegmentsRead, x.sum.CacheHits, x.sum.SegmentsHit)
	fmt.Fprintf(out, "  filter    %d examined, %d accepted\n", x.sum.EventsExamined, x.sum.EventsAccepted)
}

func leaves(n int64) string {
	if n == 1 {
		return "1 leaf"
	}
	return fmt.Sprintf("%d leaves", n)
}
