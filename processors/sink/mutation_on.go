//go:build mutations

package sink

import "os"

var mutation = os.Getenv("AUDITTRAIL_MUTATION")

var (
	// positionNotCompared writes whatever owner, slot and position PostgreSQL has (R11).
	positionNotCompared = mutation == "position-not-compared"
	// seekToCommit reads audit-records from the group's commit on, as consumers do by themselves: after a rollback of PostgreSQL it is
	// ahead of what is stored (R10).
	seekToCommit = mutation == "sink-seeks-commit"
	// gapToFrom declares everything before an output lost that is not there yet (R13).
	gapToFrom = mutation == "gap-to-from"
	// noIdleTick looks at PostgreSQL only when there is something to write (R11).
	noIdleTick = mutation == "no-idle-tick"
	// dropsBelieved believes each drop, also of a retry whose first copy was lost (R14).
	dropsBelieved = mutation == "dropped-retry"
	// positionOutside commits slot and position in a transaction of their own, before the data (R10, R11).
	positionOutside = mutation == "position-outside"
)
