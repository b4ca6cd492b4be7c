package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// module makes a module of the given files and makes it the working directory.
func module(t *testing.T, files map[string]string) {
	t.Helper()
	dir := t.TempDir()
	files["go.mod"] = "module m\n\ngo 1.26\n"
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	t.Setenv("GOFLAGS", "")
	t.Setenv("GOWORK", "off")
}

func testFile(body string) string {
	return "package p\n\nimport \"testing\"\n\n" + body
}

func TestRun(t *testing.T) {
	const pass = "func TestGood(t *testing.T) { t.Log(\"quiet\") }\n"
	tests := []struct {
		name         string
		files        map[string]string
		code, strict int
		want, absent []string
	}{
		{"pass", map[string]string{"p/a_test.go": testFile(pass)}, 0, 0,
			[]string{"ok  \tm/p", "1 passed, 0 failed, 0 skipped\n"}, []string{"quiet"}},
		{"skip", map[string]string{"p/a_test.go": testFile(pass + "func TestOut(t *testing.T) { t.Skip(\"no redis\") }\n")}, 0, 1,
			[]string{"left out: m/p TestOut: a_test.go:", "no redis\n", "1 passed, 0 failed, 1 skipped\n"}, nil},
		{"fail", map[string]string{"p/a_test.go": testFile(pass +
			"func TestBad(t *testing.T) { t.Run(\"sub\", func(t *testing.T) { t.Error(\"why\") }) }\n")}, 1, 1,
			[]string{"--- FAIL: TestBad", "why", "FAIL\tm/p", "1 passed, 2 failed, 0 skipped\n"}, []string{"quiet"}},
		{"panic", map[string]string{"p/a_test.go": testFile("func TestBad(t *testing.T) { panic(\"boom\") }\n")}, 1, 1,
			[]string{"boom", "FAIL\tm/p"}, nil},
		{"exit", map[string]string{"p/a_test.go": "package p\n\nimport (\n\"os\"\n\"testing\"\n)\n\nfunc TestBad(t *testing.T) { println(\"last words\"); os.Exit(3) }\n"}, 1, 1,
			[]string{"last words", "FAIL\tm/p"}, nil},
		{"does not compile", map[string]string{"p/a_test.go": testFile("func TestBad(t *testing.T) { undefined() }\n")}, 1, 1,
			[]string{"undefined: undefined", "FAIL\tm/p [build failed]"}, nil},
		{"no test", map[string]string{"p/a.go": "package p\n"}, 0, 1,
			[]string{"0 passed, 0 failed, 0 skipped\n"}, []string{"no test files"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			module(t, tt.files)
			var out strings.Builder
			if code := run([]string{"./..."}, false, &out); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			for _, w := range tt.want {
				if !strings.Contains(out.String(), w) {
					t.Errorf("no %q", w)
				}
			}
			for _, a := range tt.absent {
				if strings.Contains(out.String(), a) {
					t.Errorf("printed %q", a)
				}
			}
			if t.Failed() {
				t.Logf("printed:\n%s", out.String())
			}
			if code := run([]string{"./..."}, true, &strings.Builder{}); code != tt.strict {
				t.Errorf("exit code with CI=true %d, want %d", code, tt.strict)
			}
		})
	}
}
