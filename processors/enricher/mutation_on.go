//go:build mutations

package enricher

import "os"

var mutation = os.Getenv("AUDITTRAIL_MUTATION")

var (
	// seenBefore drops every event whose id the window has, whatever its slot: a replayed event then is its own duplicate and is
	// lost (R6).
	seenBefore = mutation == "naive-seen-before"
	// unsureNamed names first copies that may be missing from the log: the copy that is there is then a gap (R14).
	unsureNamed = mutation == "unsure-named"
	// newestOffset begins at the end of the log when the group has no commit: what is there is passed over (R2).
	newestOffset = mutation == "newest-offset"
	// entryWithoutSlot forgets the slot of what enters the window: a replay cannot be told from a duplicate (R6).
	entryWithoutSlot = mutation == "entry-without-slot"
	// outputOverHole lets each output begin at its own message: nobody covers the holes between them (R4).
	outputOverHole = mutation == "output-over-hole"
)
