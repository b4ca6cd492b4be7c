package enricher

import (
	"encoding/binary"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/maxviazov/audittrail/processors/enricher/table"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
)

// finding is what the state of the source said of an event when it was first decided. It stands in the
// window, so that a replay says the same again (R6); lateness and stamps follow from the message, and the
// registration is the one that is valid at the time.
type finding struct {
	actorNew    bool
	hasPrevious bool
	failures    uint16
	previous    int64 // milliseconds since the source's previous event
}

// Encoded: flags (1 actor new, 2 has previous), 0, failures (uint16), previous (int64), 4 bytes 0; big endian.
const (
	flagActorNew    = 1
	flagHasPrevious = 2
)

func (f finding) encode() (b [table.EnrichmentSize]byte) {
	if f.actorNew {
		b[0] |= flagActorNew
	}
	if f.hasPrevious {
		b[0] |= flagHasPrevious
	}
	binary.BigEndian.PutUint16(b[2:], f.failures)
	binary.BigEndian.PutUint64(b[4:], uint64(f.previous))
	return b
}

func decodeFinding(b [table.EnrichmentSize]byte) finding {
	return finding{
		actorNew:    b[0]&flagActorNew != 0,
		hasPrevious: b[0]&flagHasPrevious != 0,
		failures:    binary.BigEndian.Uint16(b[2:]),
		previous:    int64(binary.BigEndian.Uint64(b[4:])),
	}
}

// stamper makes the enricher's stamps of one message's events, reusing its memory.
type stamper struct {
	stamp    audittrailv1.Enrichment
	previous durationpb.Duration
	lateness durationpb.Duration
	ingested timestamppb.Timestamp
	at       time.Time
}

// begin sets what all events of a message share.
func (s *stamper) begin(ingestedAt time.Time, r *audittrailv1.SourceRegistration) {
	s.at = ingestedAt
	s.ingested.Seconds, s.ingested.Nanos = ingestedAt.Unix(), int32(ingestedAt.Nanosecond())
	s.stamp.IngestedAt = &s.ingested
	s.stamp.Owner, s.stamp.Environment = r.GetOwner(), r.GetEnvironment()
	s.stamp.Classification, s.stamp.RetentionDays = r.GetClassification(), r.GetRetentionDays()
}

// append appends the encoded stamp of one event.
func (s *stamper) append(dst []byte, f finding, occurredAt time.Time) ([]byte, error) {
	s.stamp.ActorNew = f.actorNew
	s.stamp.ActorFailures = uint32(f.failures)
	s.stamp.SincePrevious = nil
	if f.hasPrevious {
		setDuration(&s.previous, time.Duration(f.previous)*time.Millisecond)
		s.stamp.SincePrevious = &s.previous
	}
	setDuration(&s.lateness, max(s.at.Sub(occurredAt), 0))
	s.stamp.Lateness = &s.lateness
	return event.AppendEnrichment(dst, &s.stamp)
}

func setDuration(d *durationpb.Duration, v time.Duration) {
	d.Seconds, d.Nanos = int64(v/time.Second), int32(v%time.Second)
}
