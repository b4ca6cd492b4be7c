//go:build !mutations

package enricher

// Rules switched off on purpose, for the tests and scenarios that show what they are good for; mutation_on.go says what each does. A
// binary built without the tag "mutations" cannot have them.
const (
	seenBefore       = false
	unsureNamed      = false
	newestOffset     = false
	entryWithoutSlot = false
	outputOverHole   = false
)
