//go:build !mutations

package stream

// acksOne is a rule switched off on purpose, for the tests that show what the rule is good for. A binary built
// without the tag "mutations" cannot have it.
const acksOne = false
