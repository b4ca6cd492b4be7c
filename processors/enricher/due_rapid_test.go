package enricher

import (
	"flag"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/maxviazov/audittrail/proto/stream"
)

// Properties of pure rules take microseconds a case, so more of them are looked at than rapid does by itself; -rapid.checks changes it.
var _ = flag.Set("rapid.checks", "1500")

var rapidNow = time.UnixMilli(1_800_000_000_000)

// drawAgo is a time around the bounds at which requests and answers grow old.
func drawAgo(t *rapid.T, label string) time.Time {
	seconds := rapid.OneOf(rapid.Int64Range(-2, 100_000), rapid.SampledFrom([]int64{0, 30, 60, 3600, 86_400}))
	return rapidNow.Add(-time.Duration(seconds.Draw(t, label+" seconds ago")) * time.Second)
}

func drawMark(t *rapid.T) (m stream.RefillMark) {
	if m.Tries = rapid.Int64Range(0, 12).Draw(t, "tries"); m.Tries > 0 {
		m.Offset, m.At = rapid.Int64Range(0, 9).Draw(t, "answered"), drawAgo(t, "answered")
	}
	m.Until = rapid.Int64Range(0, 12).Draw(t, "until")
	if rapid.Bool().Draw(t, "an operator was answered") {
		m.Asked = drawAgo(t, "asked")
	}
	m.Topic[0] = rapid.Byte().Draw(t, "topic")
	return m
}

// back is the time between the answers to one request, by the words of refillWait.
func back(tries int64) time.Duration {
	wait := 30 * time.Second
	for ; tries > 1 && wait < time.Hour; tries-- {
		wait *= 2
	}
	return min(wait, time.Hour)
}

// TestDueIsTheSmallestRequest (R21): of the requests that count it is the smallest, and none is invented; the mark says what was answered, and keeps
// what it said of all else.
func TestDueIsTheSmallestRequest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mark := drawMark(t)
		at := rapid.Int64Range(0, 9).Draw(t, "at")
		note := stream.SinkNote{Refill: rapid.Int64Range(-1, 9).Draw(t, "sink")}
		var operator stream.RefillRequest
		if rapid.Bool().Draw(t, "an operator asks") {
			operator = stream.RefillRequest{Offset: rapid.Int64Range(0, 9).Draw(t, "operator"), Asked: drawAgo(t, "operator asked")}
		}
		if rapid.IntRange(0, 3).Draw(t, "was answered") == 0 {
			mark.Asked = operator.Asked
		}
		note.Unsure = rapid.Int64Range(0, 9).Draw(t, "unsure") // is nothing of due's

		var counts []int64
		want := mark
		if note.Refill >= 0 && note.Refill < at {
			same := mark.Tries > 0 && mark.Offset == note.Refill
			if tries := mark.Tries; !same || rapidNow.Sub(mark.At) >= back(tries) {
				counts = append(counts, note.Refill)
				want.Offset, want.At, want.Tries = note.Refill, rapidNow, 1
				if same {
					want.Tries = tries + 1
				}
			}
		}
		if operator.Asked.After(mark.Asked) && rapidNow.Sub(operator.Asked) < 24*time.Hour {
			want.Asked = operator.Asked
			if operator.Offset < at {
				counts = append(counts, operator.Offset)
			}
		}
		smallest := at
		for _, c := range counts {
			smallest = min(smallest, c)
		}
		if len(counts) > 0 {
			want.Until = max(at, mark.Until)
		}
		from, next, ok := due(mark, at, note, operator, rapidNow)
		if ok != (len(counts) > 0) || from != smallest || next != want {
			t.Fatalf("from %d, %+v, %v; want %d, %+v, %v", from, next, ok, smallest, want, len(counts) > 0)
		}
	})
}

// TestDueStandingRequests (R21): while requests stand, whenever enrichers look and whoever they are (a mark is what stands in Kafka), an operator's
// is answered once, and a sink's again and again, never sooner than the wait says and at the first look after.
func TestDueStandingRequests(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		operator := stream.RefillRequest{Offset: 3, Asked: rapidNow}
		note := stream.SinkNote{Refill: rapid.Int64Range(0, 7).Draw(t, "sink")}
		metadata, now := "", rapidNow
		var answered time.Time
		times := int64(0)
		for i, seconds := range rapid.SliceOfN(rapid.Int64Range(0, 4000), 1, 30).Draw(t, "seconds between looks") {
			now = now.Add(time.Duration(seconds) * time.Second)
			mark := stream.ParseRefillMark(metadata)
			from, next, ok := due(mark, 9, note, operator, now)
			asOperator := i == 0 // the first look answers both
			asSink := times == 0 || now.Sub(answered) >= back(times)
			if ok != (asOperator || asSink) {
				t.Fatalf("look %d, %v after answer %d: answered %v", i, now.Sub(answered), times, ok)
			}
			if want := min(note.Refill, operator.Offset); asOperator && from != want || ok && !asOperator && from != note.Refill {
				t.Fatalf("look %d: from %d", i, from)
			}
			if asSink {
				times, answered = times+1, now
			}
			metadata = next.String()
		}
	})
}
