// Package event holds what is true of one event, wherever it is handled: its derived identity, the
// canonical fingerprint of what its producer said, its limits, and the stamps that the pipeline appends.
//
// All of it is pure: no clock, no network, no state. Emitter, enricher, gateway, client libraries and
// tests share it, so that they cannot disagree.
//
//   - [NewID]: the same source, key and time give the same id everywhere and for ever.
//   - [Fingerprint]: two encodings of the same content give the same fingerprint; a retry is told from
//     other content under the same id.
//   - [Validate]: every limit of event.proto, each violation with the path of its field.
//   - [AppendEmitterStamps], [AppendEnrichment]: stamping appends fields to the encoded bytes and never
//     encodes them again.
//
// The files ids.json and fingerprints.json in proto/testdata let clients in other languages check
// themselves against it. The package does not authenticate, and it does not decide what is a duplicate.
package event
