// Package traffic makes the events that tests and benchmarks send: believable, of many sources, and
// determined by seed and number alone, so that any of them can be made again.
package traffic

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// Shape says what traffic looks like.
type Shape struct {
	// Seed makes one traffic differ from another; it is part of every idempotency key.
	Seed uint64
	// Sources is how many sources there are. Default: 200.
	Sources int
	// Run is how many events in a row come from one source, as a producer's batch does. Default: 100.
	Run int
	// Actors is how many actors there are in all. Default: 50,000.
	Actors int
	// Start is when event 0 happened.
	Start time.Time
	// Step is the time from one event to the next. Default: 20 µs (50,000 events/s).
	Step time.Duration
	// Padding is the length of an extra attribute, for larger events. Default: none; an event is then
	// about 300 bytes.
	Padding int
	// Sizes varies the padding from event to event: most have none, one in 20 up to 8 KiB, one in 200 so much that the event is close
	// to the limit of 60 KiB. Padding does not count then.
	Sizes bool
}

var verbs = []string{"create", "read", "update", "delete", "share"}
var objects = []string{"user", "document", "invoice", "role", "token", "project", "bucket", "key"}
var kinds = []audittrailv1.ActionKind{
	audittrailv1.ActionKind_ACTION_KIND_CREATE, audittrailv1.ActionKind_ACTION_KIND_READ,
	audittrailv1.ActionKind_ACTION_KIND_UPDATE, audittrailv1.ActionKind_ACTION_KIND_DELETE,
	audittrailv1.ActionKind_ACTION_KIND_OTHER,
}

// Event makes event i.
func (s Shape) Event(i int) *audittrailv1.Event {
	sources, run, actors, step := or(s.Sources, 200), or(s.Run, 100), or(s.Actors, 50_000), s.Step
	if step == 0 {
		step = 20 * time.Microsecond
	}
	ofRun := rand.New(rand.NewPCG(s.Seed, uint64(i/run)))
	source := ofRun.IntN(sources)
	r := rand.New(rand.NewPCG(s.Seed^0x9e3779b97f4a7c15, uint64(i)))
	verb, object := r.IntN(len(verbs)), objects[r.IntN(len(objects))]
	e := &audittrailv1.Event{
		Source:         "acme/svc-" + strconv.Itoa(1000+source) + "/prod",
		IdempotencyKey: strconv.FormatUint(s.Seed, 36) + "-" + strconv.Itoa(i),
		OccurredAt:     timestamppb.New(s.Start.Add(time.Duration(i) * step).Truncate(time.Microsecond)),
		Action:         object + "." + verbs[verb],
		Kind:           kinds[verb],
		Outcome:        audittrailv1.Outcome_OUTCOME_SUCCESS,
		Actor:          &audittrailv1.Actor{Type: []string{"user", "service", "apikey"}[r.IntN(3)], Id: fmt.Sprintf("usr_%08x", uint32(r.IntN(actors))*2654435761)},
		Resources:      []*audittrailv1.Resource{{Type: object, Id: fmt.Sprintf("res_%016x", r.Uint64())}},
		Context: &audittrailv1.Context{
			Ip:        fmt.Sprintf("10.%d.%d.%d", r.IntN(256), r.IntN(256), 1+r.IntN(254)),
			UserAgent: "Mozilla/5.0 (X11; Linux)",
			RequestId: fmt.Sprintf("%016x", r.Uint64()),
			TraceId:   hex.EncodeToString(bytes16(r)),
			Region:    "eu-west-" + strconv.Itoa(1+r.IntN(3)),
		},
		Attributes: map[string]string{"bytes": strconv.Itoa(r.IntN(100_000)), "mfa": "true"},
	}
	switch r.IntN(20) {
	case 0:
		e.Outcome, e.ReasonCode = audittrailv1.Outcome_OUTCOME_DENIED, "AccessDenied"
	case 1, 2:
		e.Outcome, e.ReasonCode = audittrailv1.Outcome_OUTCOME_FAILURE, "Timeout"
	}
	for n := s.padding(i); n > 0; n -= 1024 {
		e.Attributes["pad"+strconv.Itoa(n)] = pad(r, min(n, 1024))
	}
	return e
}

func (s Shape) padding(i int) int {
	if !s.Sizes {
		return s.Padding
	}
	r := rand.New(rand.NewPCG(s.Seed+0x7f4a7c15, uint64(i)))
	switch n := r.IntN(200); {
	case n == 0:
		return 58 << 10 // with keys and the rest: about 60,700 bytes, of 61,440
	case n <= 10:
		return 1 + r.IntN(8<<10)
	}
	return 0
}

func bytes16(r *rand.Rand) []byte {
	b := make([]byte, 0, 16)
	for range 2 {
		for x, k := r.Uint64(), 0; k < 8; k++ {
			b = append(b, byte(x>>(8*k)))
		}
	}
	return b
}

func pad(r *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = 'a' + byte(r.IntN(26))
	}
	return string(b)
}

func or(n, fallback int) int {
	if n == 0 {
		return fallback
	}
	return n
}
