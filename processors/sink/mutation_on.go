//go:build mutations

package sink

import "os"

// positionNotCompared switches the comparison of R11 off when the environment has AUDITTRAIL_MUTATION=position-not-compared.
var positionNotCompared = os.Getenv("AUDITTRAIL_MUTATION") == "position-not-compared"
