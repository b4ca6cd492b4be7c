package pgserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Superuser is the name of the superuser that Init creates.
const Superuser = "postgres"

// InitConfig says what Init makes.
type InitConfig struct {
	Binaries Binaries
	User     *User  // runs initdb and owns the directory
	Dir      string // absolute; must be absent or empty
	Password string // of the superuser
	NoSync   bool   // leave out fsync: for tests
}

// Init makes a data directory: UTF-8, the C locale, data checksums, passwords by SCRAM-SHA-256. It refuses a directory that is not empty.
// A process that dies here leaves an incomplete directory: initialise under a temporary name and rename.
func Init(ctx context.Context, cfg InitConfig) error {
	if entries, err := os.ReadDir(cfg.Dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("initialise %s: directory is not empty", cfg.Dir)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("initialise %s: %w", cfg.Dir, err)
	}
	if err := errors.Join(os.Chmod(cfg.Dir, 0o700), cfg.User.Own(cfg.Dir)); err != nil {
		return fmt.Errorf("initialise %s: %w", cfg.Dir, err)
	}
	pwfile, err := passwordFile(cfg)
	if err != nil {
		return fmt.Errorf("initialise %s: %w", cfg.Dir, err)
	}
	defer os.Remove(pwfile)
	args := []string{"-D", cfg.Dir, "-U", Superuser, "-A", "scram-sha-256", "--encoding=UTF8", "--no-locale", "--data-checksums", "--pwfile=" + pwfile}
	if cfg.NoSync {
		args = append(args, "--no-sync")
	}
	cmd := exec.CommandContext(ctx, filepath.Join(cfg.Binaries.Bin, "initdb"), args...)
	cfg.User.prepare(cmd)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initialise %s: %w: %s", cfg.Dir, err, out)
	}
	return nil
}

// passwordFile writes the password beside the data directory, where cfg.User can go, readable by that user alone. (A pipe will
// not do: initdb opens its file by name, and a pipe of root cannot be opened so by another user.)
func passwordFile(cfg InitConfig) (string, error) {
	f, err := os.CreateTemp(filepath.Dir(cfg.Dir), ".password_")
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(cfg.Password + "\n")
	if err := errors.Join(err, f.Close(), cfg.User.Own(f.Name())); err != nil {
		os.Remove(f.Name())
		return "", err
	}
	return f.Name(), nil
}
