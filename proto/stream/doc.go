// Package stream holds what two roles must agree on when they meet in Kafka: the topics and their settings, the partition of a
// key, the envelope around a value, and client settings that lose nothing.
//
// Guarantees: every producer and consumer that is built from ProducerConfig, ClientConfig and GroupConfig waits for all in-sync
// replicas, never writes a record twice by a retry of its own, starts at the oldest record, never jumps over a lost offset and
// never creates a topic. Goka's and sarama's own defaults do all of these things; with them acknowledged events were lost in
// every test that killed a leader.
//
// It does not connect to anything by itself but in Admin, and it knows nothing of what an event means.
package stream
