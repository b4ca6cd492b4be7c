// Package config reads the configuration of every role: built-in defaults, a file (YAML, TOML or JSON), the environment
// (AUDITTRAIL_ and the key in capitals with dots as underscores), flags; later ones win.
//
// It is strict: an unknown key in the file or the environment is an error that names it and the nearest known one, a value is refused
// with its key and what would be right, and all problems are reported at once. Where each value came from is kept, so that the
// effective configuration can be printed; secrets never are.
//
// The table in keys.go is the reference of every key.
package config
