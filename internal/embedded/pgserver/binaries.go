package pgserver

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
)

// Binaries is an installation of PostgreSQL: the directory with initdb and postgres, and the major version.
type Binaries struct {
	Bin   string
	Major int
}

var versionLine = regexp.MustCompile(`^postgres \(PostgreSQL\) (\d+)`)

// Installed checks the binaries in dir by asking postgres for its version.
func Installed(ctx context.Context, dir string) (Binaries, error) {
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return Binaries{}, fmt.Errorf("version of PostgreSQL in %s: %w", dir, err)
	}
	match := versionLine.FindSubmatch(out)
	if match == nil {
		return Binaries{}, fmt.Errorf("version of PostgreSQL in %s: unexpected answer %q", dir, out)
	}
	major, err := strconv.Atoi(string(match[1]))
	if err != nil {
		return Binaries{}, fmt.Errorf("version of PostgreSQL in %s: %w", dir, err)
	}
	return Binaries{Bin: dir, Major: major}, nil
}
