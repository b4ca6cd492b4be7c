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
	for _, text := range []string{"AUDITTRAIL_MUTATION"} {
		if bytes.Contains(plain, []byte(text)) {
			t.Errorf("the program knows %q", text)
		}
		if !bytes.Contains(mutated, []byte(text)) {
			t.Errorf("the program of the mutations does not know %q: this shows nothing", text)
		}
	}
	for _, m := range Mutations() {
		// Short strings may become part of the code, so that a name that is not found proves nothing in the plain program.
		if len(m.Name) > 8 && !bytes.Contains(mutated, []byte(m.Name)) {
			t.Errorf("no package knows the mutation %s", m.Name)
		}
	}
}
