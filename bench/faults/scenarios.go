package faults

import (
	"fmt"
	"time"
)

// Settings say how scenarios run.
type Settings struct {
	// Broker is "kfake" (in process, for quick runs) or "kafka" (Apache Kafka). A Runner takes several, comma-separated, and gives each
	// scenario the first that it can run on.
	Broker string
	// Postgres is the major version: 15 or 18.
	Postgres int
	// Long asks for the long forms: longer faults, more events, more kills.
	Long bool
	// Seed makes the random choices; the same seed makes the same schedule.
	Seed uint64
	// Mutation switches a rule of the engine off: the scenario should fail then.
	Mutation string
	// Keep is a directory in which ledgers and logs of all processes stay. Default: none stay.
	Keep string
	// For is how long the random scenario does things. Default: a round of 20 s.
	For time.Duration
	// Schedule is a file with what the random scenario does, instead of what follows from Seed and For.
	Schedule string
	// Shrink bounds the time in which a schedule that failed is made small. 0: it is not.
	Shrink time.Duration
}

// Needs of scenarios.
type Needs int

const (
	// AnyBroker: runs on kfake and on Apache Kafka.
	AnyBroker Needs = iota
	// Kfake: needs faults that only the in-process broker can be told to have.
	Kfake
	// Kafka: needs a real broker, or several.
	Kafka
)

// Scenario is one thing that may go wrong, and what must hold all the same.
type Scenario struct {
	// ID is the number of the list and a word, for example "F09-idle".
	ID string
	// Title is one sentence of what is done and what must hold.
	Title string
	Needs Needs
	// Quick scenarios are part of a quick run.
	Quick bool
	// Alone: measures times, so nothing else runs beside it.
	Alone bool
	Run   func(*T)
}

// Scenarios lists all of them, in the order of the report.
func Scenarios() []Scenario {
	var all []Scenario
	for _, group := range [][]Scenario{
		killScenarios, killRoleScenarios, commitScenarios, betweenAcksScenarios, brokerScenarios, recoveryScenarios, ruleScenarios, scaleScenarios,
		churnScenarios, zombieScenarios, rollingScenarios, versionScenarios,
		restoreScenarios, outageScenarios, refillScenarios, poisonScenarios, randomScenarios,
		postgresKillScenarios, failoverScenarios, redisScenarios, linkScenarios, coordinatorScenarios, overloadScenarios, fullDiskScenarios,
		clockScenarios, replacedScenarios, partitionScenarios, gapScenarios, offsetScenarios, transactionScenarios,
	} {
		all = append(all, group...)
	}
	return all
}

// Find returns the scenarios whose id is, or begins with, one of the given ones; all of them for none.
func Find(ids []string) ([]Scenario, error) {
	all := Scenarios()
	if len(ids) == 0 {
		return all, nil
	}
	var found []Scenario
	for _, id := range ids {
		n := len(found)
		for _, s := range all {
			if s.ID == id || len(s.ID) > len(id) && s.ID[:len(id)] == id {
				found = append(found, s)
			}
		}
		if len(found) == n {
			return nil, fmt.Errorf("no scenario %q; -list shows them", id)
		}
	}
	return found, nil
}

// runsOn says whether a scenario can run with a broker.
func (s Scenario) runsOn(broker string) bool {
	return s.Needs == AnyBroker || s.Needs == Kfake && broker == "kfake" || s.Needs == Kafka && broker == "kafka"
}
