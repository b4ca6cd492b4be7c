package embedded

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tree returns the content and modes of all files below dir.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		var content []byte
		if info.Mode().IsRegular() {
			content, err = os.ReadFile(path)
		}
		files[path] = fmt.Sprintf("%s %s", info.Mode(), content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestOpenDataMakesAPrivateDirectoryAndFindsItAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	for range 2 {
		data, err := OpenData(dir)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		if err := data.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpenDataRefusesAndLeavesAlone(t *testing.T) {
	for name, test := range map[string]struct {
		files map[string]string
		want  error
	}{
		"foreign files":      {map[string]string{"thesis.tex": "x"}, ErrForeign},
		"foreign format":     {map[string]string{"format": "jpeg 1\n"}, ErrForeign},
		"unreadable version": {map[string]string{"format": "audittrail-data one\n"}, ErrForeign},
		"newer":              {map[string]string{"format": "audittrail-data 2\n", "kafka/x": "y"}, ErrVersion},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, content := range test.files {
				write(t, filepath.Join(dir, file), content)
			}
			before := tree(t, dir)
			_, err := OpenData(dir)
			if !errors.Is(err, test.want) {
				t.Errorf("error %v, want %v", err, test.want)
			} else if !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "--data") {
				t.Errorf("%v: does not say where and what to do", err)
			}
			if !maps.Equal(before, tree(t, dir)) {
				t.Error("the directory was changed")
			}
		})
	}
}

func TestOpenDataAcceptsWhatADyingProcessLeaves(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "lock"), "1\n")
	write(t, filepath.Join(dir, "format.tmp"), "audit")
	openData(t, dir)
}

func TestASecondInstanceIsToldWhoHasTheData(t *testing.T) {
	dir := t.TempDir()
	data := openData(t, dir)
	_, err := OpenData(dir)
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), fmt.Sprintf("process %d;", os.Getpid())) {
		t.Errorf("error %v", err)
	}
	data.Close()
	openData(t, dir)
}

func TestDataSizeFollowsTheLinkToPostgres(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "data")
	write(t, filepath.Join(dir, "kafka", "0.dat"), "12345")
	for step, want := range []int64{5, 8} {
		if size, err := DataSize(dir); err != nil || size != want {
			t.Errorf("step %d: %d bytes, %v, want %d", step, size, err, want)
		}
		write(t, filepath.Join(base, "elsewhere", "base"), "123")
		if step == 0 {
			if err := os.Symlink(filepath.Join(base, "elsewhere"), filepath.Join(dir, "postgres")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.Remove(filepath.Join(dir, "postgres")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "postgres", "base"), "1")
	if size, err := DataSize(dir); err != nil || size != 6 {
		t.Errorf("%d bytes, %v, want 6", size, err)
	}
}
