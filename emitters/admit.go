package emitters

import (
	"crypto/rand"
	"math/bits"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/maxviazov/audittrail/internal/clock"
	pipelinev1 "github.com/maxviazov/audittrail/proto/audittrail/pipeline/v1"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
	"github.com/maxviazov/audittrail/proto/stream"
)

// batchHeader is the envelope of an EventBatch: the value of an empty one. Frames of events are appended to it.
var batchHeader = stream.EncodeBatch(&pipelinev1.EventBatch{})

// frameTag begins each event in an EventBatch: field 1, length-delimited.
const frameTag = 1<<3 | 2

// stamps is what the events of one call are stamped with.
type stamps struct {
	now     time.Time
	at      *timestamppb.Timestamp // now; shared by the events that bring no time
	encoded []byte                 // received_at and principal, to be appended to each encoded event
}

func newStamps(principal string) stamps {
	now := clock.Now()
	return stamps{now: now, at: timestamppb.New(now), encoded: event.AppendEmitterStamps(nil, now, principal)}
}

// complete clears what only AuditTrail may set, and fills in what the producer may leave out. A key without a time stays as it is,
// for validation to refuse: a retry would get another id.
func (s *stamps) complete(e *audittrailv1.Event) {
	event.ClearOutputOnly(e)
	if e.IdempotencyKey != "" {
		return
	}
	e.IdempotencyKey = rand.Text()
	if e.OccurredAt == nil {
		e.OccurredAt = s.at
	}
}

// admit completes and validates one event. size is its encoded size without stamps.
func (s *Server) admit(e *audittrailv1.Event, st *stamps) (size int, found []event.Violation) {
	if e == nil {
		return 0, []event.Violation{{Description: "is required"}}
	}
	st.complete(e)
	size = e.SizeVT()
	return size, event.Validate(e, size, event.Bounds{Now: st.now, MaxFuture: s.cfg.MaxFuture})
}

// frameSize is what an event of the given encoded size takes in a message.
func (s *stamps) frameSize(size int) int {
	n := size + len(s.encoded)
	return 1 + protowire.SizeVarint(uint64(n)) + n
}

// cost is what the event takes in the budget.
func (s *stamps) cost(size int) int64 { return int64(s.frameSize(size)) + EventOverhead }

// appendFrame encodes an event with its stamps behind buf. Stamps are appended, which is valid protobuf because complete has
// cleared those fields.
func (s *stamps) appendFrame(buf []byte, e *audittrailv1.Event, size int) []byte {
	buf = append(buf, frameTag)
	buf = protowire.AppendVarint(buf, uint64(size+len(s.encoded)))
	at := len(buf)
	buf = buf[:at+size] // newPiece has reserved it
	if _, err := e.MarshalToSizedBufferVT(buf[at:]); err != nil {
		panic(err) // the generated code fails only on a nested message that does
	}
	return append(buf, s.encoded...)
}

// buffers holds buffers of pieces. The first piece's buffer becomes the message.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// newPiece returns a piece with an empty message of room for n bytes of frames.
func newPiece(w waiter, n int) *piece {
	buf := buffers.Get().(*[]byte)
	*buf = (*buf)[:0]
	reserve(buf, len(batchHeader)+n)
	*buf = append(*buf, batchHeader...)
	return &piece{waiter: w, buf: buf}
}

// reserve makes the capacity of buf at least n, in steps of a quarter of a power of two, so that buffers fit again and waste little.
func reserve(buf *[]byte, n int) {
	if cap(*buf) >= n {
		return
	}
	step := max(256, 1<<(bits.Len(uint(n))-3))
	*buf = append(make([]byte, 0, (n+step-1)/step*step), *buf...)
}
