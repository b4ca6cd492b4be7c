package kafkatest

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// Version is the version of Apache Kafka that runs.
const Version = "4.3.1"

//go:embed pom.xml
var pom []byte

// ErrMissing is in the error when Java or Maven is not installed.
var ErrMissing = errors.New("not installed")

// Libraries returns the directory with the broker's jars and fetches them if it is not there yet
// (54 MB, about 15 s). The directory appears by a rename once it is complete: whoever dies in between
// leaves a directory that nobody reads, and of several processes the first to finish wins.
func Libraries(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find cache directory: %w", err)
	}
	dir := filepath.Join(cache, "audittrail", "kafka-"+Version)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := fetch(ctx, dir); err != nil {
		return "", fmt.Errorf("fetch Apache Kafka %s: %w", Version, err)
	}
	return dir, nil
}

func fetch(ctx context.Context, dir string) error {
	mvn, err := exec.LookPath("mvn")
	if err != nil {
		return fmt.Errorf("mvn (Maven): %w", ErrMissing)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp(filepath.Dir(dir), "fetch-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if err := os.WriteFile(filepath.Join(work, "pom.xml"), pom, 0o644); err != nil {
		return err
	}
	lib := filepath.Join(work, "lib")
	cmd := exec.CommandContext(ctx, mvn, "--batch-mode", "--quiet", "--file", filepath.Join(work, "pom.xml"),
		"dependency:copy-dependencies", "-DoutputDirectory="+lib, "-DincludeScope=runtime")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, tail(out))
	}
	if _, err := os.Stat(filepath.Join(lib, "kafka_2.13-"+Version+".jar")); err != nil {
		return fmt.Errorf("maven succeeded, but: %w", err)
	}
	if err := os.Rename(lib, dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// tail returns the end of a program's output, enough to see what was wrong.
func tail(out []byte) []byte {
	const keep = 4 << 10
	if len(out) > keep {
		return out[len(out)-keep:]
	}
	return out
}
