// Package tools holds what the Makefile and CI use: pinned tools, each in a module file of its own, and
// scripts. This test checks what the compiler cannot: that files which must agree do.
package tools

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What generated code calls must be of the version that generated it.
func TestGeneratorsMatchTheModule(t *testing.T) {
	ours, generators := versions(t, "../../go.mod"), versions(t, "gen.mod")
	for _, module := range []string{
		"google.golang.org/protobuf",
		"github.com/grpc-ecosystem/grpc-gateway/v2",
		"github.com/planetscale/vtprotobuf",
	} {
		if ours[module] == "" || ours[module] != generators[module] {
			t.Errorf("%s is %q in go.mod and %q in gen.mod", module, ours[module], generators[module])
		}
	}
}

// versions returns the version of each module that a go.mod file requires.
func versions(t *testing.T, file string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^\s*(?:require )?(\S+) (v\S+)`).FindAllStringSubmatch(string(text), -1) {
		found[m[1]] = m[2]
	}
	return found
}

// `make test-kafka` runs the tests named RealKafka in the packages that have files with the build tag: a
// test in such a file by another name would run nowhere.
func TestRealKafkaTestsAreNamedSo(t *testing.T) {
	tests := 0
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "data") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil || !strings.HasPrefix(string(text), "//go:build realkafka") {
			return err
		}
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(\w+ \*testing\.T\)`).FindAllStringSubmatch(string(text), -1) {
			tests++
			if !strings.Contains(m[1], "RealKafka") {
				t.Errorf("%s: the name of %s must contain RealKafka", path, m[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if tests == 0 {
		t.Error("no such test found")
	}
}
