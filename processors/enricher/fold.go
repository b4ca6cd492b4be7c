package enricher

import (
	"math"
	"slices"
	"time"

	"github.com/maxviazov/audittrail/processors/enricher/table"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// lateAfter is how long after it happened an event counts as late.
const lateAfter = time.Hour

// fold is the state of a source while the events of one message go into it. It changes only the State it was
// made of, never memory that this State shares with the stored value.
type fold struct {
	state  *table.State
	actors table.Actors // a copy, in memory of the decider
}

// begin makes s, freshly decoded, the state to fold into.
func (f *fold) begin(s *table.State) {
	f.state = s
	f.actors = append(f.actors[:0], s.Actors...)
	if n := len(audittrailv1.Outcome_name); len(s.Outcomes) < n {
		s.Outcomes = append(s.Outcomes[:len(s.Outcomes):len(s.Outcomes)], make([]int64, n-len(s.Outcomes))...)
	}
}

// accept folds one kept event and returns what the state before it says of it.
func (f *fold) accept(e *audittrailv1.Event, occurredAt time.Time, ingestedAt time.Time) finding {
	s := f.state
	var found finding
	ms := occurredAt.UnixMilli()
	if s.Events > 0 {
		found.hasPrevious, found.previous = true, max(ms-s.LastSeenMs, 0)
		s.FirstSeenMs, s.LastSeenMs = min(s.FirstSeenMs, ms), max(s.LastSeenMs, ms)
	} else {
		s.FirstSeenMs, s.LastSeenMs = ms, ms
	}
	s.Events++
	if ingestedAt.Sub(occurredAt) > lateAfter {
		s.Late++
	}
	s.Outcomes[e.Outcome]++ // validated
	f.count(e.Action)
	if a := e.Actor; a != nil && a.Id != "" {
		hash := table.ActorHash(a.Type, a.Id)
		failures, known := f.actors.Failures(hash)
		switch e.Outcome {
		case audittrailv1.Outcome_OUTCOME_FAILURE, audittrailv1.Outcome_OUTCOME_DENIED:
			failures = min(failures, math.MaxUint16-1) + 1
		case audittrailv1.Outcome_OUTCOME_SUCCESS:
			failures = 0
		}
		f.actors = f.actors.Put(hash, failures)
		found.actorNew, found.failures = !known, failures
	}
	return found
}

// count counts an action by Space-Saving (Metwally et al. 2005): when there is no room the least counted one
// gives its place and its count.
func (f *fold) count(action string) {
	var least *actionCount
	for _, c := range f.state.Actions {
		if c.Action == action {
			c.Count++
			return
		}
		if least == nil || c.Count < least.Count {
			least = c
		}
	}
	if len(f.state.Actions) < table.MaxActions {
		f.state.Actions = append(f.state.Actions, &actionCount{Action: action, Count: 1})
		return
	}
	least.Action = action
	least.Count++
}

// finish completes the state after the last event of the message.
func (f *fold) finish(m *message, recent []*recentEvent) *table.State {
	s := f.state
	s.Actors = f.actors
	s.LastOffset = m.offset
	s.LastIngestedAtMs = m.ingestedAt.UnixMilli()
	if len(recent) > 0 {
		slices.Reverse(recent)
		s.Recent = append(recent, s.Recent[:min(len(s.Recent), table.MaxRecent-len(recent))]...)
	}
	return s
}
