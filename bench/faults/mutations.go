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
		{"position-not-compared", "the sink compares PostgreSQL's position before it writes (R11)", "F09-swapped", "kfake"},
	}
}
