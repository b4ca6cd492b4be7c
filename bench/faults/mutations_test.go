package faults

import (
	"bytes"
	"os"
	"testing"

	"github.com/maxviazov/audittrail/bench/stage"
)

// TestMutationsAreNotInTheProgram: a binary that anybody runs cannot have a rule switched off, and the one of the mutations has them all.
func TestMutationsAreNotInTheProgram(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the program twice")
	}
	read := func(tags ...string) []byte {
		path, err := stage.Build(t.Context(), t.TempDir(), tags...)
		if err != nil {
			t.Fatal(err)
		}
		program, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return program
	}
	plain, mutated := read(), read("mutations")
	// Names of up to 16 bytes may be compared piece by piece, and then stand nowhere as text.
	checked := 0
	for _, m := range Mutations() {
		if len(m.Name) <= 16 {
			continue
		}
		checked++
		if bytes.Contains(plain, []byte(m.Name)) {
			t.Errorf("the program knows the mutation %s", m.Name)
		}
		if !bytes.Contains(mutated, []byte(m.Name)) {
			t.Errorf("the program of the mutations does not know %s", m.Name)
		}
	}
	const clock = "AUDITTRAIL_MUTATION_CLOCK_FILE"
	if bytes.Contains(plain, []byte(clock)) || !bytes.Contains(mutated, []byte(clock)) {
		t.Error("the clock that can be wrong must be in the program of the mutations, and in no other")
	}
	if checked == 0 {
		t.Error("no name is long enough: this shows nothing")
	}
}
