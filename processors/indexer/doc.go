// Package indexer makes term runs of complete segments in the background, inside the sink's process: what finds a term among more segments than the
// filters of the newest few thousand can be asked for. internal/termindex has the format and the reader.
//
//	segments ──4,096 at a time──▶ run of level 0 ──8 at a time──▶ run of level 1 ──8──▶ level 2
//
// Guarantees:
//
//   - Each step is one transaction: a run is there with all its blocks or not at all, and a merged run replaces its parts in the moment it appears.
//     A process that dies leaves nothing behind; the next one begins the step again.
//   - One indexer works at a time, whatever the number of sinks: it holds an advisory lock of PostgreSQL on a connection of its own.
//   - It is not in the way of ingest: it works for at most a part of the time (Config.Duty), takes no lock that the sink waits for, and holds the
//     pairs of one run in memory, some 80 MB while it makes one.
//   - Runs are derived: [Rebuild] makes them again from the segments, [Check] compares them.
//
// Segments that retention has removed are in no new run; runs whose segments are all gone are deleted.
package indexer
