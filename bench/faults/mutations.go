package faults

// Mutation is a rule of the engine that a binary with the build tag "mutations" can switch off, and the scenario that must fail then.
type Mutation struct {
	Name     string // value of AUDITTRAIL_MUTATION
	Rule     string // what is switched off, with the number of the rule in docs/exactly-once.md
	Scenario string // the id of the scenario that it must turn red
	Broker   string // on which broker it runs
}

// Mutations lists all of them.
func Mutations() []Mutation {
	return []Mutation{
		{"acks-one", "producers wait for all replicas in sync (R19)", "F06-only-leader", "kafka"},
		{"max-wins-commits", "only the contiguous finished prefix is committed (R3)", "F02-output-refused", "kfake"},
		{"naive-seen-before", "only an earlier slot makes a duplicate (R6)", "F02-replay", "kfake"},
		{"entry-without-slot", "the window knows the slot of each first copy (R6)", "F02-replay", "kfake"},
		{"no-unique-key", "a unique key on the id is behind the window (R6, R16)", "F18-late-retry", "kfake"},
		{"dropped-retry", "a drop is believed only with its first copy (R14)", "F22-shadow", "kfake"},
		{"newest-offset", "without a commit the enricher begins at the start of the log (R2)", "F20-no-commit", "kfake"},
		{"output-over-hole", "outputs cover the holes before them (R4)", "F19-hole", "kfake"},
		{"gap-to-from", "a gap ends where audit-events begins (R13)", "F21-no-gap", "kfake"},
		{"sink-seeks-commit", "the sink reads from PostgreSQL's position on (R10)", "F09-swapped", "kfake"},
		{"no-idle-tick", "the sink looks at PostgreSQL when idle too (R11)", "F09-idle", "kfake"},
		{"position-outside", "data and position are one transaction (R10, R11)", "F03-between", "kfake"},
		{"plain-triggers", "triggers fire in every replication mode", "F08-replica-mode", "kfake"},
		{"position-not-compared", "the sink compares PostgreSQL's position before it writes (R11)", "F09-swapped", "kfake"},
	}
}
