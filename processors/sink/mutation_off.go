//go:build !mutations

package sink

// Rules switched off on purpose, for the tests and scenarios that show what they are good for; mutation_on.go says what each does. A
// binary built without the tag "mutations" cannot have them.
const (
	positionNotCompared = false
	seekToCommit        = false
	gapToFrom           = false
	noIdleTick          = false
	dropsBelieved       = false
	positionOutside     = false
)
