// Package sink is the goka processor that takes audit-records into PostgreSQL.
//
//	audit-records ──callback──▶ item ──queue──▶ batcher ──one transaction──▶ events, segments, rollups, tail, tiles0, heads, gaps, deadletters
//	  one goroutine a partition    bytes-bounded   one goroutine              └─ dead letters to audit-deadletters, acked before COMMIT
//
// The way of a message, in the order of the files: item.go decodes it; queue.go hands it on; batcher.go collects a batch, and flush.go leads
// it through the rest: fold.go decides what becomes of each slot; settle.go and conflict.go find ids that are taken; hold.go keeps back what does
// not fill a bundle; batch.go lays the entries out in bundles; copy.go encodes rows; store.go is the transaction. sink.go and claim.go stand before
// all that: they take the logs over when a session begins. watch.go looks after the pipeline from outside.
//
// Guarantees (numbers are rules of the engine, see docs/architecture.md):
//
//   - Slots of audit-events are taken in order and without gaps, in one transaction with the position (R11, R12). What was lost is declared in
//     the log and the gap ledger, and filled late when it turns up after all (R13, R14).
//   - PostgreSQL's position counts, not the group's commit: after a restore of PostgreSQL the sink reads again what is missing (R10).
//   - Each transaction compares owner, next slot and position of each log with memory; after any error, an unknown outcome of COMMIT included,
//     the memory is thrown away and the logs are claimed again (R11). A second sink, or one that was paused, changes nothing.
//   - An id is stored once; the same id with other content is a dead letter at its place in the log (R16).
//   - The log is a function of audit-records: batches, retries and restarts do not change its entries. (Days of segments and the numbers of
//     sources and actions are not part of it.)
//   - Memory is bounded: some 3 × BatchBytes of messages, which take three times as much once decoded when events are small, and the open bundles.
//
// It does not judge events (the enricher does). What is missing from audit-records it cannot make again: wedge.go finds out, and the sink asks
// enrichers for it, in the metadata of its group's commit (R21, stream.SinkNote).
package sink
