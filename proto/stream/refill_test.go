package stream

import (
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/maxviazov/audittrail/internal/embedded/embeddedtest"
)

// TestRefillNotes: what is written beside commits reads back, and what others write there says nothing.
func TestRefillNotes(t *testing.T) {
	for text, note := range map[string]SinkNote{
		"":                   {Refill: NoCommit},
		"refill=0":           {Refill: 0},
		"unsure=9":           {Refill: NoCommit, Unsure: 9},
		"refill=12 unsure=9": {Refill: 12, Unsure: 9},
	} {
		if got := note.String(); got != text {
			t.Errorf("%+v is %q, want %q", note, got, text)
		}
		if got := ParseSinkNote(text); got != note {
			t.Errorf("%q reads as %+v, want %+v", text, got, note)
		}
	}
	for _, text := range []string{"refill", "refill=", "refill=-1", "refill=1.0", "refill=99999999999999999999", "something else", "later=1"} {
		if got := ParseSinkNote(text); got != (SinkNote{Refill: NoCommit}) {
			t.Errorf("%q reads as %+v", text, got)
		}
	}
	at := time.UnixMilli(1_800_000_000_000)
	for _, mark := range []RefillMark{{}, {Offset: 0, Tries: 1, At: at, Until: 7}, {Offset: 5, Tries: 3, At: at, Until: 7, Asked: at}, {Asked: at}, {Topic: [16]byte{1, 15: 255}, Until: 7}, {Topic: [16]byte{1}, Partitions: 12}} {
		if got := ParseRefillMark(mark.String()); got != mark {
			t.Errorf("%+v reads back as %+v (%q)", mark, got, mark)
		}
	}
	for _, text := range []string{"answered=5 until=-3 x", "topic=", "topic=0102", "topic=0102030405060708090a0b0c0d0e0fxx"} {
		if got := ParseRefillMark(text); got != (RefillMark{}) {
			t.Errorf("no mark, %q, reads as %+v", text, got)
		}
	}
}

// TestAskRefill: a request can be left without any member of a group, replaced, and read.
func TestAskRefill(t *testing.T) {
	settings := Settings{Brokers: embeddedtest.Kafka(t)}
	if err := Apply(t.Context(), settings, SingleBrokerLayout(), zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	admin, err := NewAdmin(t.Context(), settings)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	first := RefillRequest{Offset: 40, Asked: time.UnixMilli(1_800_000_000_000)}
	second := RefillRequest{Offset: 4, Asked: first.Asked.Add(time.Second)}
	for _, want := range []RefillRequest{first, second} {
		if err := AskRefill(t.Context(), settings, 2, want); err != nil {
			t.Fatal(err)
		}
		notes, err := admin.GroupNotes(t.Context(), RefillGroup, Events)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := ParseRefillRequest(notes[2]); !ok || got != want {
			t.Errorf("read back %+v, %v; want %+v", got, ok, want)
		}
		if got, ok := ParseRefillRequest(notes[1]); ok {
			t.Errorf("nothing was asked for partition 1, but %+v", got)
		}
	}
	if err := AskRefill(t.Context(), settings, 99, first); err == nil {
		t.Error("asked for a partition that does not exist")
	}
}
