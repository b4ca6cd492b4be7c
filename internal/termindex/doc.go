// Package termindex is the format of term runs, and the way to look terms up in them. A run says for some thousand complete segments which
// of them hold a term (proto/segment); it is a sorted list of (hash, ordinal) pairs, where hash is the upper 32 bits of the term and ordinal the
// segment's number in the run, cut into blocks of some 1,900 bytes. processors/indexer makes runs; migration 0005 describes the tables.
//
// Like a filter, a run says "may hold" or "does not hold". It is wrong about a term that no segment holds in one of 2^32 pairs: with 1,150 pairs a
// segment, once in 3.7 million segments (a month at 1,000 events a second is 10 million).
//
// Segments that are too new for a run are found by their filters: [Result.Covered] says where that begins.
package termindex
