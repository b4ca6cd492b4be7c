// Package pgserver gets the binaries of PostgreSQL and runs one server on one data directory.
//
// It holds the mechanics only: fetch the binaries once ([Fetch]) or take installed ones ([Installed]), make a
// data directory ([Init]), run the server ([Start]), stop it, and stop one that an earlier process left behind
// ([StopLeftover]). Which directory may be used, and by whom, is decided by the callers: package embedded for
// `audittrail all`, package embeddedtest for tests.
//
// Guarantees:
//   - A server is never started as root: as root every PostgreSQL process runs as an unprivileged user ([User]).
//   - A server does not outlive the process that started it: a shell between the two holds a pipe to the parent and
//     stops the server when the pipe closes, also after kill -9 of the parent.
//   - No directory with anything in it is ever removed or overwritten.
//
// It needs a Unix-like system with /bin/sh.
package pgserver
