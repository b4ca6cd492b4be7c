// Package access finds out who makes a call, and refuses calls of nobody.
//
// A call proves who it is in one of three ways: a certificate that the TLS listener has verified, an OIDC token (a signed JWT) or an API token. The result is a
// Principal; its name is put into the context of package identity, which stamps it on events, and the whole of it is what From gives.
//
// Guarantees:
//   - One interceptor pair sees every call, whether it came by gRPC or HTTP/JSON: the HTTP side calls the gRPC side in the process and hands on the
//     Authorization header and the certificate, which it alone can.
//   - Once a way to prove oneself is configured, a call that uses none is UNAUTHENTICATED. Health checks are the one exception.
//   - A call that presents a token is judged by the token alone: a bad one is refused, also when the certificate is good.
//   - Names cannot be taken over: what a principal is called begins with the way it was proved (user:, token:, or the certificate's own scheme), and
//     whatever is longer than identity.MaxPrincipal or holds control characters is refused, never shortened.
//   - Refusals say nothing to the caller but that it is not known; the reason is in the log, without the token.
//
// It does not decide what a principal may do.
package access
