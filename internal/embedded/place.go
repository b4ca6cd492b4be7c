package embedded

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/maxviazov/audittrail/internal/embedded/pgserver"
)

// place is PostgreSQL's data directory: checked, owned by the user that runs the server, and locked.
type place struct {
	dir     string         // links resolved
	user    *pgserver.User // nil: this process's
	created bool
	lock    *os.File // nil when the lock on the data directory is enough
}

// openPlace finds or makes the data directory behind <data>/postgres. One that was made is initialised aside and renamed, so whatever
// has the name is complete. Nothing else is changed: what is not a data directory of this version is refused.
func openPlace(ctx context.Context, data *Data, system string, binaries pgserver.Binaries, password string) (*place, error) {
	name := data.path("postgres")
	created := false
	if isAbsentOrEmpty(name) {
		if err := makePlace(ctx, data, system, binaries, password); err != nil {
			return nil, err
		}
		created = true
	}
	dir, err := filepath.EvalSymlinks(name)
	if errors.Is(err, fs.ErrNotExist) {
		target, _ := os.Readlink(name) // for the message only
		return nil, fmt.Errorf("%w: %s links to %s, which is gone; bring that directory back, or choose another with --data", ErrForeign, name, target)
	}
	if err != nil {
		return nil, fmt.Errorf("data of PostgreSQL: %w", err)
	}
	p := &place{dir: dir, created: created}
	if err := p.check(binaries.Major); err != nil {
		return nil, err
	}
	if p.user, err = runner(dir); err != nil {
		return nil, err
	}
	if dir != resolved(name) {
		// A copy of the data directory has a link to the same place: the lock in the data directory does not see that.
		if p.lock, err = lockFile(dir+".lock", dir); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// resolved is path with the links above its last element resolved.
func resolved(path string) string {
	parent, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return path
	}
	return filepath.Join(parent, filepath.Base(path))
}

func (p *place) close() error {
	if p.lock == nil {
		return nil
	}
	return p.lock.Close()
}

// isAbsentOrEmpty is false for a link, wherever it leads.
func isAbsentOrEmpty(path string) bool {
	info, err := os.Lstat(path)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	entries, err := os.ReadDir(path)
	return info.IsDir() && err == nil && len(entries) == 0
}

// check refuses what the server must not be started on.
func (p *place) check(major int) error {
	content, err := os.ReadFile(filepath.Join(p.dir, "PG_VERSION"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %s is not a data directory of PostgreSQL; nothing in it was touched; move it away, or choose another directory with --data", ErrForeign, p.dir)
	case errors.Is(err, fs.ErrPermission):
		owner := "another user"
		if u, err := pgserver.OwnerOf(p.dir); err == nil {
			owner = "user " + u.Name
		}
		return fmt.Errorf("data of PostgreSQL in %s belongs to %s: run as root or as that user, or choose another directory with --data: %w", p.dir, owner, err)
	case err != nil:
		return fmt.Errorf("data of PostgreSQL: %w", err)
	}
	version := strings.TrimSpace(string(content))
	if version != strconv.Itoa(major) {
		return fmt.Errorf("%w: %s holds data of PostgreSQL %.20s, and this program runs %d; nothing was changed: move the data with pg_dump and that version, or choose another directory with --data",
			ErrVersion, p.dir, version, major)
	}
	return nil
}

// runner says who runs the server: this process's user, or as root the owner of the directory.
func runner(dir string) (*pgserver.User, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	owner, err := pgserver.OwnerOf(dir)
	if err != nil {
		return nil, fmt.Errorf("data of PostgreSQL: %w", err)
	}
	if owner.UID == 0 {
		return nil, fmt.Errorf("data of PostgreSQL in %s belongs to root, as whom PostgreSQL refuses to run: chown it to an unprivileged user that can enter it, or choose another directory with --data", dir)
	}
	if !owner.CanEnter(dir) {
		return nil, fmt.Errorf("data of PostgreSQL in %s belongs to user %s, who cannot enter it: run as that user, or choose another directory with --data", dir, owner.Name)
	}
	return owner, nil
}

// makePlace makes <data>/postgres. As root, PostgreSQL's user can enter neither a private data directory nor root's home, so the
// directory is made in the system's place under a random name, and a link to it takes the name.
//
//	<data>/postgres.new                        not root: the new directory      as root: a link to it
//	→ initdb →  rename to <data>/postgres
//
// A process that dies before the rename leaves postgres.new, which the next start removes.
func makePlace(ctx context.Context, data *Data, system string, binaries pgserver.Binaries, password string) error {
	aside := data.path("postgres.new")
	if err := discardUnfinished(aside, system); err != nil {
		return fmt.Errorf("data of PostgreSQL: %w", err)
	}
	user, err := pgserver.Unprivileged()
	if err != nil {
		return err
	}
	dir := aside
	if user != nil {
		if err := pgserver.MakePlace(system); err != nil {
			return fmt.Errorf("data of PostgreSQL: %w", err)
		}
		dir = filepath.Join(system, dataPrefix+strings.ToLower(rand.Text()[:16]))
		if err := os.Symlink(dir, aside); err != nil {
			return fmt.Errorf("data of PostgreSQL: %w", err)
		}
	}
	if err := pgserver.Init(ctx, pgserver.InitConfig{Binaries: binaries, User: user, Dir: dir, Password: password}); err != nil {
		return err
	}
	name := data.path("postgres")
	if err := remove(name); err != nil { // it is absent or an empty directory
		return fmt.Errorf("data of PostgreSQL: %w", err)
	}
	if err := os.Rename(aside, name); err != nil {
		return fmt.Errorf("data of PostgreSQL: %w", err)
	}
	return nil
}

// dataPrefix begins the names of data directories in the system's place.
const dataPrefix = "data-"

// discardUnfinished removes what makePlace left unfinished, and through a link only what makePlace would have put there.
func discardUnfinished(aside, system string) error {
	target, err := os.Readlink(aside)
	if err == nil {
		if filepath.Dir(target) != system || !strings.HasPrefix(filepath.Base(target), dataPrefix) {
			return fmt.Errorf("%w: %s links to %s", ErrForeign, aside, target)
		}
		if err := removeAll(target); err != nil {
			return err
		}
	}
	return removeAll(aside)
}

// removeAll tries for some seconds: an initdb whose parent was killed may still be writing.
func removeAll(dir string) (err error) {
	for range 25 {
		if err = os.RemoveAll(dir); err == nil {
			return nil
		}
		time.Sleep(200 * time.Millisecond)
	}
	return err
}
