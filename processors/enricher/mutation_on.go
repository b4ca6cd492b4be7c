//go:build mutations

package enricher

import "os"

// seenBefore drops every event whose id the window has, whatever its slot, when the environment has
// AUDITTRAIL_MUTATION=naive-seen-before: a replayed event then is its own duplicate and is lost (R6).
var seenBefore = os.Getenv("AUDITTRAIL_MUTATION") == "naive-seen-before"
