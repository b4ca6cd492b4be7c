// Package segment is the format in which entries of a log are stored: bundles of 256 in `segments`, parts of open bundles in
// `tail`. Sink, gateway, verifier and exporters share it. docs/segment-format.md describes it for other languages, with a reader in 30
// lines; proto/testdata/segment.json holds golden data.
//
//	entry   kind (1 byte) ‖ payload, at most 65,535 bytes
//	frame   length of the entry (2 bytes, big endian) ‖ entry
//	framed  the frames of consecutive entries of one log, without anything between them
//	data    codec (1 byte) ‖ framed, encoded by the codec: 0 as it is, 1 as one S2 block
//
// The codec byte is also the version: what this program does not know it refuses, and never guesses.
//
// The leaf hash of an entry is SHA-256(0x00 ‖ entry), as in RFC 6962, except for a redacted entry, whose payload is the leaf hash of
// what stood there. Hashes are over entries, so compression does not matter to them: two S2 encoders may differ in bytes.
//
// A segment has a Bloom filter of the terms of its records ([AppendTerms], [FilterBuilder], [Filter]). A filter says "may contain" or
// "does not contain", never a wrong "does not".
//
// The package is pure: no I/O, no clock. It does not know what a record means beyond its terms.
package segment
