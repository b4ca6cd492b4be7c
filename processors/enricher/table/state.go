package table

import (
	"fmt"

	pipelinev1 "github.com/maxviazov/audittrail/proto/audittrail/pipeline/v1"
	"github.com/maxviazov/audittrail/proto/stream"
)

// State is a value of the table.
type State = pipelinev1.SourceState

// RuleVersion is the version of the rules by which the enricher decides; it stands in states and in outputs.
const RuleVersion = 1

// Bounds of a state.
const (
	MaxActions = 16 // actions counted by name
	MaxRecent  = 3  // last events
	MaxActors  = 64 // actors known
)

// Codec is goka's codec of the table, for *State.
type Codec struct{}

// Encode implements goka.Codec.
func (Codec) Encode(value any) ([]byte, error) {
	s, ok := value.(*State)
	if !ok {
		return nil, fmt.Errorf("encode %T: want *table.State", value)
	}
	return stream.EncodeState(s), nil
}

// Decode implements goka.Codec. The state shares the memory of data, which must not change any more.
func (Codec) Decode(data []byte) (any, error) {
	s, err := stream.DecodeState(data)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Version is what values of one source are merged by.
type Version struct {
	TopicID    [16]byte
	LastOffset int64
}

// VersionOf returns the version of a state.
func VersionOf(s *State) Version {
	v := Version{LastOffset: s.LastOffset}
	copy(v.TopicID[:], s.TopicId)
	return v
}

// Replaces says whether next takes the place of cur, next found later in the changelog. Offsets of one topic
// compare: a value that is older than what is there was written by an enricher that had lost its partition.
// Offsets of two topics do not: then what belongs to the topic current wins, or, where that is not known
// (zero), what was written last.
func Replaces(cur, next Version, current [16]byte) bool {
	if cur.TopicID == next.TopicID {
		return next.LastOffset >= cur.LastOffset
	}
	return cur.TopicID != current || next.TopicID == current
}
