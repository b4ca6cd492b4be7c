// Package schema is the layout of the logs in PostgreSQL: tables, roles, append-only triggers and the functions that make
// leaves, as goose migrations inside the binary. `audittrail migrate` and the embedded mode call [Migrate], everything else
// that opens the database calls [Check].
//
// Migrations only go forward: an audit store has no way down. Each runs in one transaction, as audittrail_owner; a process
// that dies here leaves the version before. Several may run at once, the others wait.
//
// Roles (they belong to the server, and none can log in):
//
//	audittrail_owner   owns everything
//	audittrail_writer  the sink: inserts; updates heads and gaps.filled_at; deletes complete tails, and term runs that others cover;
//	                   makes leaves ahead
//	audittrail_reader  the gateway: selects; marks dead letters as re-driven
//
// Append-only here means: no role above can UPDATE, DELETE or TRUNCATE what was stored, by grants and, for the owner as well, by
// triggers. The owner can remove triggers and a superuser can do anything; that is what the hashes are for.
//
// PostgreSQL 15 or later.
package schema
