// Package eventfile writes events to files that other programs read: JSON lines, CSV and Parquet. It needs the memory of a few events, of
// Parquet that of one row group (32 MiB of events), however many there are.
//
// JSON lines lose nothing. CSV and Parquet have the columns of docs/export.md; in CSV what has several parts is JSON.
//
// A spool holds events in our own encoding. A Parquet file ends with an index of what is in it, so that it cannot be continued after a break: it
// is written from a spool, which can.
//
// What it does not do: it does not know where events come from, and it names no files.
package eventfile
