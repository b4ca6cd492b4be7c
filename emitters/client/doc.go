// Package client is how a Go program records events in AuditTrail.
//
//	c, err := client.New("audittrail.internal:7480", client.Options{DialOptions: …})
//	defer c.Close(ctx)
//	c.Emit(ctx, client.NewEvent("acme/payments/api", "user.login").Actor("user", "u-1").Success().Build())
//
// Emit puts an event into a bounded buffer and returns; the client sends batches, repeats what may be repeated, and says what it
// could not deliver. See the examples.
//
// Guarantees:
//   - Key and time are set once, before the first try: however often an event is sent, it is recorded once.
//   - Emit never blocks longer than Options.MaxBlock. A full buffer is an error, not a loss in silence.
//   - Each event that Emit took gets exactly one result: its Delivery is done, and if it failed, Options.OnUndelivered is called.
//   - Flush and Close return when that is so for all events taken before.
//
// It keeps nothing on disk: events in the buffer die with the process. OnUndelivered is the place where a program can keep what was
// not delivered. Events may arrive in another order than they were emitted in; occurred_at has the order.
package client
