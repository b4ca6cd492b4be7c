//go:build mutations

package group

// SetMaxWins switches the rule of the finished prefix off, or on again.
func SetMaxWins(on bool) { maxWinsCommits = on }
