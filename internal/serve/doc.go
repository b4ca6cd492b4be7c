// Package serve is what every role shows to the network: a gRPC server, the same services as HTTP/JSON, metrics, health.
//
//	gRPC address ──▶ ┐
//	                 ├─ gRPC server ─ recover ─ metrics ─ gate ─▶ services
//	in process ────▶ ┘
//	    ▲
//	grpc-gateway (JSON) ◀─ content type, size ◀─ Host, Origin ◀── HTTP address ──▶ /metrics /healthz /readyz /openapi.json
//
// HTTP/JSON goes through the gRPC server over a connection in the process, so that interceptors see every request, whichever way it came.
//
// Guarantees:
//   - No web page can reach the HTTP side through a visitor's browser: a request with a foreign Host (DNS rebinding), a foreign Origin or
//     another content type than application/json is refused.
//   - Requests are bounded: 4 MiB in gRPC and HTTP, headers, concurrent bodies, time to send them.
//   - What would be refused again does not look retryable: gRPC's own RESOURCE_EXHAUSTED has no RetryInfo, and over HTTP is 413; what may be
//     retried has Retry-After.
//   - Run goes down in the order of the data: unready first, then no new calls, then those in progress end, within bounds.
//
// With Config.TLS both sides speak TLS only. With Deps.Gate callers must prove who they are (package access); metrics and health are for everybody who can connect.
package serve
