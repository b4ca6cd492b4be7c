// Package bench holds what drives AuditTrail and judges it: generated traffic, a ledger of what was
// sent and acknowledged, a load generator, a judge that reads everything back, and a stage that runs
// the roles as processes of their own and kills them.
//
//   - traffic: event i of a seed, the same every time.
//   - ledger: intents before and acknowledgements after each call, on disk before the next step.
//   - load: producers that retry until each event is acknowledged.
//   - judge: reads the store with a segment reader of its own and compares it with the ledger.
//   - stage: real components as processes; kill, stop, start again.
//   - faults, cmd/faults: scenarios that inject faults, and the report of what came out.
//   - cmd/bench: events per second and CPU-seconds per million events, per process.
//
// Nothing here is part of the service, and the judge shares no code with it but the generated
// protobuf types.
package bench
