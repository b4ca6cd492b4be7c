package table

import (
	"cmp"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
)

// ToActivity turns a state into the public form. It shares no memory with s; nil gives nil.
func ToActivity(s *State) *audittrailv1.SourceActivity {
	if s == nil {
		return nil
	}
	a := &audittrailv1.SourceActivity{
		EventCount:      s.Events,
		DuplicateCount:  s.Duplicates,
		LateCount:       s.Late,
		DeadLetterCount: s.DeadLetters,
		KnownActorCount: int32(Actors(s.Actors).Len()),
	}
	if s.Events > 0 {
		a.FirstSeenAt = fromMillis(s.FirstSeenMs)
		a.LastSeenAt = fromMillis(s.LastSeenMs)
	}
	for outcome, n := range s.Outcomes {
		if n > 0 {
			a.Outcomes = append(a.Outcomes, &audittrailv1.OutcomeCount{Outcome: audittrailv1.Outcome(outcome), Count: n})
		}
	}
	for _, c := range s.Actions {
		a.TopActions = append(a.TopActions, &audittrailv1.ActionCount{Action: string([]byte(c.Action)), Count: c.Count})
	}
	slices.SortStableFunc(a.TopActions, func(x, y *audittrailv1.ActionCount) int {
		return cmp.Or(cmp.Compare(y.Count, x.Count), cmp.Compare(x.Action, y.Action))
	})
	for _, r := range s.Recent {
		var id event.ID
		copy(id[:], r.Id)
		a.RecentEvents = append(a.RecentEvents, &audittrailv1.RecentEvent{
			Id:         id.String(),
			OccurredAt: fromMillis(r.OccurredAtMs),
			Action:     string([]byte(r.Action)),
			Outcome:    audittrailv1.Outcome(r.Outcome),
			ActorId:    string([]byte(r.ActorId)),
		})
	}
	return a
}

func fromMillis(ms int64) *timestamppb.Timestamp { return timestamppb.New(time.UnixMilli(ms)) }
