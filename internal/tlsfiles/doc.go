// Package tlsfiles gives TLS configurations whose certificate, key and CAs come from files, and follows the files: what is replaced on disk is
// used by the next handshake, without a restart and without touching connections that exist.
//
// Guarantees:
//   - Files are read, not only looked at, every few seconds: a renamed directory, a changed symbolic link and a change within the clock's
//     resolution are all seen.
//   - New files that cannot be used (unreadable, not a pair, expired, not yet valid, no CA) change nothing: what was used before stays, the log says so
//     once, and a gauge stays 1 until they are mended. Certificate and key are two files and are replaced one after the other: only what is still
//     wrong at the second look is reported.
//   - Peers are verified by crypto/tls itself, with the CAs of the moment: nothing here replaces its verification.
//   - What is served is TLS 1.3; clients speak 1.2 or later, since brokers and databases of others may have no 1.3.
//   - The time when each certificate expires is a gauge, and a certificate that expires soon is warned of once an hour.
//
// Sessions are not resumed: a certificate whose CA was taken away must not come back with an old ticket.
package tlsfiles
