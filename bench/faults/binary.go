package faults

import (
	"os"
	"sync"

	"github.com/maxviazov/audittrail/bench/stage"
)

// programs are the binaries compiled so far, by build tag, and the directory they are in.
var programs struct {
	sync.Mutex
	dir  string
	path map[string]string
}

// program is the binary to run: with mutations built in when one is asked for.
func (t *T) program() string {
	t.Helper()
	tag := ""
	if t.Mutation != "" {
		tag = mutationsTag
	}
	return t.compiled(tag)
}

// mutationsTag is the build tag of binaries that can have a rule switched off, or a wrong clock.
const mutationsTag = "mutations"

// compiled is the binary with a build tag; empty: none.
func (t *T) compiled(tag string) string {
	t.Helper()
	programs.Lock()
	defer programs.Unlock()
	if path, ok := programs.path[tag]; ok {
		return path
	}
	var err error
	if programs.dir == "" {
		if programs.dir, err = os.MkdirTemp("", "audittrail-faults-program-"); err != nil {
			t.Fatal(err)
		}
		programs.path = map[string]string{}
	}
	var tags []string
	if tag != "" {
		tags = append(tags, tag)
	}
	path, err := stage.Build(t.Context(), programs.dir, tags...)
	if err != nil {
		t.Fatal(err)
	}
	programs.path[tag] = path
	return path
}

// removePrograms removes what program compiled.
func removePrograms() {
	programs.Lock()
	defer programs.Unlock()
	os.RemoveAll(programs.dir)
	programs.dir, programs.path = "", nil
}
