// Package faults tries to make AuditTrail lose, double, invent or change an event, and judges whether it did.
//
// A Scenario starts real components as processes of their own (system.go), drives load that keeps a ledger (feed.go, support.go),
// injects faults, waits until the pipeline has settled, and compares what is stored with the ledger (bench/judge). scenarios.go lists
// them all. The same scenario runs on the in-process broker for quick runs and on Apache Kafka, on PostgreSQL 15 and 18:
//
//   - t.go: what a scenario says of itself: failures, verdicts, recovery times, memory. It stands in for testing.T.
//   - cluster.go: the broker or brokers of a scenario.
//   - system.go: one installation, its roles as processes.
//   - runner.go, report.go: running scenarios, and the page that says what came out.
//
// A scenario can be run with a rule of the engine switched off (a mutation, in binaries with the build tag of that name): it must
// fail then, or it does not show what it says.
package faults
