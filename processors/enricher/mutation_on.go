//go:build mutations

package enricher

import "os"

// seenBefore drops every event whose id the window has, whatever its slot, when the environment has
// AUDITTRAIL_MUTATION=naive-seen-before: a replayed event then is its own duplicate and is lost (R6).
var seenBefore = os.Getenv("AUDITTRAIL_MUTATION") == "naive-seen-before"

// unsureNamed names first copies that may be missing from the log, when the environment has AUDITTRAIL_MUTATION=unsure-named:
// the copy that is there is then a gap (R14).
var unsureNamed = os.Getenv("AUDITTRAIL_MUTATION") == "unsure-named"
