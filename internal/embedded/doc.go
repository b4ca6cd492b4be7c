// Package embedded runs what `audittrail all` needs beside itself, without containers and without root: a Kafka broker in
// the process ([StartKafka]) and PostgreSQL 18 beside it ([StartPostgres]), on one data directory ([OpenData]).
// It is for development and small trials: one broker, one copy of everything.
//
//	<data>/format              what the directory is; a directory with anything else in it is refused
//	<data>/lock                locked while a process uses the directory; holds its process id
//	<data>/kafka/              the broker's logs, offsets and topics
//	<data>/postgres            PostgreSQL's data directory; run as root, a link to it (see below)
//	<data>/postgres-password   of the superuser, random, mode 0600
//	<data>/postgres.log        of the server
//
// Guarantees:
//   - What the broker acknowledged is there after kill -9: batches, committed offsets, topics and their ids. Log starts
//     never go back.
//   - What PostgreSQL committed is there after kill -9 (fsync is on).
//   - Nothing that this package did not make is changed or deleted; a data directory of another version is refused and left
//     as it is.
//   - A PostgreSQL that a killed process left behind is stopped at the next start; no other server ever is.
//
// PostgreSQL refuses to run as root. As root it runs as an unprivileged user (postgres or nobody), which cannot enter
// a private data directory; its data is then in a directory of its own below /var/lib/audittrail-embedded, and <data>/postgres
// is a link to it. [PostgresInfo] says so, for the user to see.
//
// What it does not do: the broker neither compacts logs nor serves anything but loopback clients; see [StartKafka].
package embedded
