//go:build !mutations

package enricher

// Rules switched off on purpose, for the tests that show what they are good for. A binary built without the tag
// "mutations" cannot have them.
const (
	seenBefore  = false
	unsureNamed = false
)
