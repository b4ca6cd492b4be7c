package stream

import (
	"flag"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var _ = flag.Set("rapid.checks", "1000")

// TestNotesReadBack (R21): every note that can be written reads back as it was, also in another order and among words of a newer program.
func TestNotesReadBack(t *testing.T) {
	number := rapid.OneOf(rapid.Int64Range(0, 9), rapid.Int64Range(0, 1<<62))
	at := rapid.Custom(func(t *rapid.T) time.Time { return time.UnixMilli(rapid.Int64Range(0, 1<<45).Draw(t, "ms")) })
	rapid.Check(t, func(t *rapid.T) {
		among := func(note string) string {
			words := append(strings.Fields(note), rapid.SliceOfN(rapid.SampledFrom([]string{"later=1", "x", "refills=3", "=", "topics=9"}), 0, 3).Draw(t, "others")...)
			return strings.Join(rapid.Permutation(words).Draw(t, "order"), " ")
		}
		note := SinkNote{Refill: rapid.OneOf(rapid.Just(NoCommit), number).Draw(t, "refill"), Unsure: number.Draw(t, "unsure")}
		if text := among(note.String()); ParseSinkNote(text) != note {
			t.Fatalf("%+v is %q, which reads as %+v", note, text, ParseSinkNote(text))
		}
		mark := RefillMark{Until: number.Draw(t, "until")}
		copy(mark.Topic[:], rapid.SliceOfN(rapid.Byte(), 0, 16).Draw(t, "topic"))
		if mark.Tries = number.Draw(t, "tries"); mark.Tries > 0 {
			mark.Offset, mark.At = number.Draw(t, "answered"), at.Draw(t, "at")
		}
		if rapid.Bool().Draw(t, "asked") {
			mark.Asked = at.Draw(t, "asked")
		}
		if text := among(mark.String()); ParseRefillMark(text) != mark {
			t.Fatalf("%+v is %q, which reads as %+v", mark, text, ParseRefillMark(text))
		}
	})
}
