// Package emitters is the server side of the thin gRPC emitter, the way into AuditTrail: it validates events, stamps them, packs
// them by source into messages of audit-events, and answers OK when the broker has acknowledged.
//
//	           one goroutine a call                         one sender          producer's goroutines
//	gRPC ──▶ check ─▶ budget ─▶ encode by source ─▶ packer ─▶ queue ─▶ Publisher (goka) ─▶ Kafka
//	  ▲                                                                                      │
//	  └──────── answer ◀── call or stream ◀── packer (next message of the source) ◀── ack ───┘
//
// Guarantees:
//   - OK means that all in-sync replicas have the event. If the process dies before, the producer got no answer and sends the event
//     again, with the same key and time; what was written twice is dropped by the enricher.
//   - A refusal names each wrong field, and then nothing was written.
//   - Everything else is retryable: UNAVAILABLE or RESOURCE_EXHAUSTED, with RetryInfo.
//   - Memory is bounded by Config.MaxInFlightBytes whatever the broker does.
//   - Events of one call and one source keep their order.
//
// It does not authenticate (an interceptor sets the principal, see package identity), does not find duplicates (the enricher does) and
// keeps nothing on disk.
//
// Reading order: server.go, batch.go, admit.go, packer.go, publisher.go; then stream.go and remember.go.
package emitters
