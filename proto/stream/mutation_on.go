//go:build mutations

package stream

import "os"

// acksOne makes producers content with the leader's acknowledgement when the environment has
// AUDITTRAIL_MUTATION=acks-one: what the followers have not fetched is lost with the leader.
var acksOne = os.Getenv("AUDITTRAIL_MUTATION") == "acks-one"
