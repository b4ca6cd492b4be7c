// Package enricher turns each message of audit-events into output that says which slots it covers: the events that are
// new, with what the pipeline knows about them, the drops that repeat an earlier slot, and the dead letters.
//
//	audit-events ──▶ process ──▶ decide ──▶ encodeOutputs ──▶ audit-records   (same partition, by header)
//	audit-sources ─join─┘ ▲        │ accepted ids   │ state
//	                      │        ▼                ▼
//	                      └──── store: window + states ──▶ audit-enricher-table ─▶ views
//	                                │
//	                                └──▶ local snapshots (a cache)
//
// Read in this order: decide.go (the rule, pure), fold.go and enrichment.go (what the state of a source says),
// output.go (slots and splitting), process.go (the goka callback), window.go, store.go and snapshot.go (what is in
// memory), positions.go (where a session starts), refill.go (what makes it start further back), rewrite.go (mending what
// zombies wrote), enricher.go (the wiring).
// The numbers R1 to R21 are the rules of EXACTLY_ONCE.
//
// Guarantees, whatever dies whenever:
//
//   - Every delivered message is answered by outputs that cover every slot since the message before it (R4). It is
//     finished when outputs and table write are acknowledged (R3), and is delivered again otherwise.
//   - An event is dropped only when an earlier slot with the same content is named (R6). The earliest copy of an event
//     can be dropped by nobody.
//   - Whatever cannot be processed is a dead letter in the output, at its slot (R8, R9). Only an envelope of an unknown
//     version stops the program.
//   - Bounded memory: the window by age and count, a state by its fields (about 2 KB a source).
//
// What it does not do: it does not find every duplicate (the store's unique key does), and it does not settle two
// contents under one id (the sink does). Aggregates may deviate by a few after a zombie; exact counts are the store's.
package enricher
