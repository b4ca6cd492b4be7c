// Package group runs goka processors on a consumer group that never commits past unfinished work.
//
// It is one wrapper around the sarama consumer group that goka drives (goka.WithConsumerGroupBuilder), plus the
// supervisor that builds and runs the processor:
//
//	Wrapper.Supervise ──build──▶ goka.Processor ──Consume──▶ consumerGroup ──▶ sarama.ConsumerGroup
//	      ▲                            ▲                          │ one Session for each generation
//	      └── rebuilds, but not        └── Setup / ConsumeClaim ──┘   1. Positions   where to start (R2, R10)
//	          after a Refusal              / Cleanup                  2. goka Setup  tables recover
//	                                                                  3. Recovered   last step before delivery (R7)
//	                                                                  4. deliveries  Session.End ends them (R3, R11)
//
// Guarantees:
//
//   - The group's commit is the offset after the last message of the finished prefix, in order of delivery. Offsets
//     that nobody delivers (transaction markers) inside the prefix are stepped over, unfinished messages never are.
//     A process that dies anywhere replays from there: nothing is skipped, some messages come again.
//
//   - What finishes late counts for the session in which its callback started and for no other.
//
//   - After Session.End nothing more of that session is committed. When a session ends otherwise (rebalance, shutdown)
//     what finishes while goka waits still counts, except for the message that was last in a callback: goka's Fail
//     returns, instead of stopping the callback, once the context is done, so "finished" cannot be believed then.
//
//   - A session that ends is followed by a new one at once (goka alone sleeps 5 s). Errors of the group are retried with
//     back-off for ever; a Refusal ends everything and is not restarted.
//
//   - A failed send, DeferCommit()(err), Fail or panic ends the session within the time goka needs to stop its
//     callbacks, and the same processor claims again. RebuildAfter such sessions in a row without any progress the
//     processor dies and the supervisor builds another, with a new producer.
//
//   - A member that cannot reach its coordinator, though everything else, ends its session when the group has given it up, a
//     session time-out after its last heartbeat, and does not write on beside its successor.
//
// What it does not do: it does not make the settings (see CheckSettings for what they must be), it knows no topic and no
// rule of the pipeline, and it does not protect against a goka processor with hot standby: goka v1.1.17 panics when the
// broker fails while it makes standby partitions.
package group
