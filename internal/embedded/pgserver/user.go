package pgserver

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
)

// User is the system user that PostgreSQL runs as. A nil *User means the user of this process.
type User struct {
	Name     string
	UID, GID uint32
}

// unprivileged are the users tried in turn when this process is root. PostgreSQL's own account comes first; nobody should
// own no files, but is there everywhere.
var unprivileged = []string{"postgres", "nobody"}

// Unprivileged returns the user PostgreSQL must run as: nil when this process is not root, else the first of
// postgres and nobody that exists.
func Unprivileged() (*User, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range unprivileged {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(uidErr, gidErr); err != nil {
			return nil, fmt.Errorf("ids of user %s: %w", name, err)
		}
		if uid != 0 {
			return &User{Name: name, UID: uint32(uid), GID: uint32(gid)}, nil
		}
	}
	return nil, fmt.Errorf("PostgreSQL refuses to run as root, and none of the users %q exists: create one, or run as another user", unprivileged)
}

// OwnerOf returns the user that owns path.
func OwnerOf(path string) (*User, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil, fmt.Errorf("owner of %s: not known on this system", path)
	}
	u := &User{Name: strconv.FormatUint(uint64(stat.Uid), 10), UID: stat.Uid, GID: stat.Gid}
	if named, err := user.LookupId(u.Name); err == nil {
		u.Name = named.Username
	}
	return u, nil
}

// Own makes u the owner of path; a nil u leaves it as it is.
func (u *User) Own(path string) error {
	if u == nil {
		return nil
	}
	return os.Chown(path, int(u.UID), int(u.GID))
}

// CanEnter reports whether u can enter the directory, which takes search permission on every directory above it.
func (u *User) CanEnter(dir string) bool {
	cmd := exec.Command("/bin/sh", "-c", `cd -- "$0"`, dir)
	u.prepare(cmd)
	return cmd.Run() == nil
}

// prepare makes cmd run as u, in a session of its own so that a Ctrl-C meant for this process does not reach it,
// from a directory everybody may enter, and without the PG… variables of our environment.
func (u *User) prepare(cmd *exec.Cmd) {
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "HOME=/"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if u != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: u.UID, Gid: u.GID}
	}
}
