package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Errors that say why a data directory cannot be used. Their messages say what to do.
var (
	// ErrInUse: another process uses the data directory.
	ErrInUse = errors.New("data directory is in use")
	// ErrForeign: the directory holds something that this program did not put there.
	ErrForeign = errors.New("not a data directory of this program")
	// ErrVersion: the data was written by another version of this program or of PostgreSQL.
	ErrVersion = errors.New("data of another version")
)

const (
	formatName    = "audittrail-data"
	formatVersion = 1
)

// Data is an open data directory, locked against other processes.
type Data struct {
	dir  string
	lock *os.File
}

// OpenData opens the data directory, making it (mode 0700) if need be, and locks it for this process. It returns ErrInUse with the
// process id of the holder, ErrForeign or ErrVersion. The lock ends with Close or with the process.
func OpenData(dir string) (*Data, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := checkFormat(dir); err != nil {
		return nil, err
	}
	lock, err := lockFile(filepath.Join(dir, "lock"), dir)
	if err != nil {
		return nil, err
	}
	d := &Data{dir: dir, lock: lock}
	// Before this line the directory is empty but for the lock, and a process that dies leaves it acceptable.
	if err := writeFile(d.path("format"), fmt.Sprintf("%s %d\n", formatName, formatVersion)); err != nil {
		return nil, errors.Join(fmt.Errorf("data directory: %w", err), d.Close())
	}
	// An existing directory may be open to others; it is ours, so close it.
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, errors.Join(fmt.Errorf("data directory: %w", err), d.Close())
	}
	return d, nil
}

// Dir is the absolute path of the directory.
func (d *Data) Dir() string { return d.dir }

// Close releases the directory. Close whatever runs in it first.
func (d *Data) Close() error { return d.lock.Close() }

func (d *Data) path(name string) string { return filepath.Join(d.dir, name) }

// checkFormat returns nil when dir is ours or empty. It changes nothing.
func checkFormat(dir string) error {
	content, err := os.ReadFile(filepath.Join(dir, "format"))
	if errors.Is(err, fs.ErrNotExist) {
		return checkEmpty(dir)
	}
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	name, number, _ := strings.Cut(strings.TrimSpace(string(content)), " ")
	version, err := strconv.Atoi(number)
	if name != formatName || err != nil {
		return fmt.Errorf("%w: %s has a file named format of something else; choose another directory with --data", ErrForeign, dir)
	}
	if version > formatVersion {
		return fmt.Errorf("%w: %s has format %d and this program knows up to %d; run the newer program, or choose another directory with --data",
			ErrVersion, dir, version, formatVersion)
	}
	return nil
}

// checkEmpty accepts what a file system or a process that died in OpenData leaves in a new directory.
func checkEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	for _, entry := range entries {
		switch entry.Name() {
		case "lost+found", "lock", "format.tmp":
		default:
			return fmt.Errorf("%w: %s is not empty (it holds %s) and was not made by this program; nothing in it was touched; choose another directory with --data",
				ErrForeign, dir, entry.Name())
		}
	}
	return nil
}

// lockFile takes an exclusive lock that the kernel drops with the process, and writes the process id for others to name.
// Children do not inherit it: Go opens files close-on-exec.
func lockFile(path, subject string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		holder, _ := os.ReadFile(path) // for the message only
		return nil, fmt.Errorf("%w: %s, by process %s; stop it, or choose another directory with --data", ErrInUse, subject, strings.TrimSpace(string(holder)))
	}
	pid := strconv.Itoa(os.Getpid()) + "\n"
	if err := errors.Join(f.Truncate(0), second(f.WriteAt([]byte(pid), 0))); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return f, nil
}

func second[T any](_ T, err error) error { return err }

// writeFile replaces a small private file so that a reader, also after a crash, finds the old content or the new.
func writeFile(path, content string) error {
	f, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}
