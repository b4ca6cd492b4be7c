package views

import (
	"google.golang.org/protobuf/types/known/durationpb"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// message is the explanation as callers see it.
func (e *explanation) message() *audittrailv1.Explanation {
	return &audittrailv1.Explanation{
		Steps: e.steps, LeafCount: e.leaves, RowCount: e.rows, RollupCount: e.rollups,
		SegmentsConsidered: e.considered, SegmentsRead: e.read, SegmentsHit: e.hits, CacheHits: e.cached,
		EventsExamined: e.examined, EventsAccepted: e.accepted, Elapsed: durationpb.New(e.elapsed),
	}
}
