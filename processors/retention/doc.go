// Package retention removes days of stored records that are older than they must be kept.
//
// A day of `segments` and `rollups` is removed as a whole, in steps that each stand in the ledger (audittrail.retention_ledger):
//
//	copied   records whose class keeps them longer are copied, in their bundles, to a leaf that is not attached yet. In their bundles the
//	         others become redacted entries, which keep the leaf hash; bundles without a record to keep are left out.
//	bounded  each log gets a bound: events with smaller ids are not stored again, they become dead letters EXPIRED. Sinks that run notice.
//	dropped  the leaf is detached (concurrently: nobody waits), the copy takes its place, the leaf is dropped.
//	audited  the removal is an event of the audit log.
//
// Then leaves of `events` go in which no row points to a day that is there. Tiles stay: what was removed can still be proven to have been there.
//
// Guarantees: killed at any moment, the next run goes on with the first step that is not in the ledger. Only a member of audittrail_owner can do any of
// this, and one process at a time does. Between detaching a day and attaching its copy, some milliseconds, the kept records of that day are not found.
//
// Not removed: a day that a bundle still belongs to which is open (a log that gets few events), until that is complete; a day with an event that claims to
// have happened within the last 24 hours, as the bound would refuse new events.
package retention
