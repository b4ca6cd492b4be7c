// Package table is the enricher's group table as others may see it: what a value holds, how values of
// one source are merged, and storages that fit.
//
// A value of the table is the state of a source after the message at its last_offset, together with the
// ids that this message added to the dedup window. So a view needs the last value of each source only,
// and the enricher folds its window from all of them (R7).
//
//   - [Codec] encodes and decodes values.
//   - [Replaces] is the one rule of merging: the greatest last_offset wins, wherever it stands.
//   - [Update] applies it for goka views, and keeps the ids out of their memory.
//   - [ToActivity] turns a state into what the public API says of a source.
//   - [NewStorage] keeps a table in memory: goka's own sorts all its keys at every new one, and LevelDB
//     costs twice the CPU.
//
// Only the enricher writes the table. A value is never deleted.
package table
