//go:build mutations

package group

import "os"

// maxWinsCommits commits the highest finished offset, as goka does by itself, also past a failed send, when the environment has
// AUDITTRAIL_MUTATION=max-wins-commits.
var maxWinsCommits = os.Getenv("AUDITTRAIL_MUTATION") == "max-wins-commits"
