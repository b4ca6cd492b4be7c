//go:build !mutations

package schema

// mutation is SQL that takes a rule out of the schema, for the scenarios that show what the rule is good for. A binary built without
// the tag "mutations" has none.
const mutation = ""
