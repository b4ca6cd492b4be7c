package views

import (
	"slices"
	"time"
)

// explanation says how a query was answered: audittrail.v1.Explanation. The calls of one walk add to it.
type explanation struct {
	// steps are what candidates were taken from, in the order in which it was done.
	steps []string
	// leaves of `events` that statements opened, and rows of them that they looked at.
	leaves, rows int64
	// rollups are rows of `rollups` that were added up.
	rollups int64
	// considered segments could have held something by time; read are those of them that terms did not rule out, hits those of them with
	// a record that was accepted, cached those of them found decoded in memory.
	considered, read, hits, cached int64
	// examined records were looked at by the evaluator, accepted were accepted.
	examined, accepted int64
	elapsed            time.Duration
}

func (e *explanation) step(what string) {
	if !slices.Contains(e.steps, what) {
		e.steps = append(e.steps, what)
	}
}
