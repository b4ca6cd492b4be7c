package faults

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
)

// redrive sends every dead letter once more through the front door: what was mended is stored, what cannot be sent is named with
// its reason, and all else comes back as a new dead letter.
func (b *badInput) redrive(t *T) {
	// One that time mends: it was too far in the future when it came.
	early := b.event("bad/early/prod")
	due := time.Now().Add(6*time.Minute + 3*time.Second)
	early.OccurredAt = timestamppb.New(due)
	b.expect(b.raw(t, []byte(early.Source), encode(t, early)), letter{reason: "INVALID_EVENT", says: "occurred_at"})
	b.settled(t)
	rows := b.account(t)
	waitFor(t, "the event's time is near enough", 10*time.Second, func() bool { return time.Now().Add(6 * time.Minute).After(due) })

	mended, back, cannot := 0, 0, 0
	again := map[string]int{} // SHA-256 of originals that must come back → how often
	for _, row := range rows {
		switch {
		case row.Size == 0 || row.Size > int64(len(row.Original)):
			cannot++
		case row.Reason == "WRONG_PARTITION" && len(row.Key) > 0, row.Source == early.Source:
			mended++
		default:
			back++
			again[string(row.SHA256)]++
		}
	}
	for _, l := range b.expected {
		if l.reason == "WRONG_PARTITION" && l.event != nil {
			b.store(t, l.event) // sent by its key it finds its partition
		}
	}
	b.store(t, early)

	out, err := b.Run(t.Context(), "deadletters", "redrive", "--pending", "--addr", b.gatewayAddrs[0])
	if want := fmt.Sprintf("sent again %d, failed %d", mended+back, cannot); !strings.Contains(out, want) {
		t.Fatalf("redrive: %v, %s; want %q", err, out, want)
	}
	for _, row := range rows {
		line := fmt.Sprintf("dead letter %d: ", row.ID)
		switch {
		case row.Size == 0 && !strings.Contains(out, line+"it has no content"),
			row.Size > int64(len(row.Original)) && !strings.Contains(out, line+fmt.Sprintf("only the first 65536 of %d bytes were kept", row.Size)):
			t.Errorf("redrive does not say why it cannot send %d", row.ID)
		}
	}
	b.settled(t)
	after := b.storedLetters(t)
	if len(after) != len(rows)+back {
		t.Errorf("%d dead letters came back, want %d (%d were mended)", len(after)-len(rows), back, mended)
	}
	for _, row := range after[:len(rows)] {
		if sendable := row.Size > 0 && row.Size == int64(len(row.Original)); row.WasRedriven != sendable {
			t.Errorf("dead letter %d (%s, %d bytes) is marked as re-driven: %v", row.ID, row.Reason, row.Size, row.WasRedriven)
		}
	}
	for _, row := range after[len(rows):] {
		if again[string(row.SHA256)]--; again[string(row.SHA256)] < 0 {
			t.Errorf("dead letter %d came back more often than it was sent: %s: %s", row.ID, row.Reason, row.Detail)
		}
		if row.WasRedriven {
			t.Errorf("dead letter %d is marked as re-driven, and is new", row.ID)
		}
	}
}
