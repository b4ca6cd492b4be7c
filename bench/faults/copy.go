package faults

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"

	"github.com/maxviazov/audittrail/internal/embedded/embeddedtest"
)

// onlineCopy copies the data directory of a running server while it is written, and returns the copy, which stands beside the
// original. It is what pg_basebackup does, which the embedded PostgreSQL does not bring along (PostgreSQL documentation,
// "Making a base backup using the low level API"): the copy is torn, and the log from the start of the copy to its end mends it.
func onlineCopy(t *T, server *embeddedtest.Server) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), server.DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "SELECT pg_backup_start('bench', true)"); err != nil {
		t.Fatal(err)
	}
	from := server.DataDir()
	to, err := os.MkdirTemp(filepath.Dir(from), "copy-")
	if err != nil {
		t.Fatal(err)
	}
	if err := copyTree(from, to, func(rel string) bool {
		return !slices.ContainsFunc(notCopied, func(p string) bool { return under(rel, p) })
	}); err != nil {
		t.Fatal(err)
	}
	var label string
	if err := conn.QueryRow(t.Context(), "SELECT labelfile FROM pg_backup_stop(wait_for_archive => false)").Scan(&label); err != nil {
		t.Fatal(err)
	}
	// Last, so that it reaches beyond the end of the copy; there is no archive to take it from.
	if err := copyTree(from, to, func(rel string) bool { return rel == "." || under(rel, "pg_wal") || rel == "pg_wal" }); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(to, "backup_label")
	if err := errors.Join(os.WriteFile(file, []byte(label), 0o600), sameOwner(from, file)); err != nil {
		t.Fatal(err)
	}
	return to
}

// notCopied is what belongs to the running server alone; directories themselves are made.
var notCopied = []string{"postmaster.pid", "postmaster.opts", "pg_wal/", "pg_replslot/", "pg_dynshmem/", "pg_notify/", "pg_serial/", "pg_snapshots/",
	"pg_stat_tmp/", "pg_subtrans/", "pg_internal.init"}

// under says whether a path is the file, or stands in the directory (which may end in a slash).
func under(rel, place string) bool {
	if dir, isDir := strings.CutSuffix(place, "/"); isDir {
		return strings.HasPrefix(rel, dir+"/")
	}
	return rel == place || strings.HasPrefix(rel, place+"/")
}

// copyTree copies what is wanted, with modes and owners. Files that disappear meanwhile are left out.
func copyTree(from, to string, wanted func(rel string) bool) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil || !wanted(rel) {
			return err
		}
		target := filepath.Join(to, rel)
		switch {
		case entry.IsDir():
			err = os.MkdirAll(target, 0o700)
		case entry.Type().IsRegular():
			err = copyFile(path, target)
		default:
			return fmt.Errorf("%s is neither a file nor a directory", path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return errors.Join(err, sameOwner(path, target))
	})
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// sameOwner gives target the owner of path: as root the server runs as somebody else. A file that has gone is nobody's.
func sameOwner(path, target string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return nil
	}
	return os.Chown(target, int(owner.Uid), int(owner.Gid))
}

// recordsIn runs the copy for a moment, out of everybody's sight, and says how many records are stored in it. The copy is mended
// then, and starts quickly the next time.
func recordsIn(t *T, copied string) int {
	t.Helper()
	server := embeddedtest.PostgresServer(t, embeddedtest.ServerOptions{DataDir: copied})
	defer server.Stop(t)
	conn, err := pgx.Connect(t.Context(), server.DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	counts, err := stored(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, n := range counts {
		total += int(n)
	}
	return total
}

// swapIn kills the server and starts it again on the copy, at the same address: what a restore of a backup looks like to
// everybody else.
func swapIn(t *T, server *embeddedtest.Server, copied string) {
	t.Helper()
	server.Kill9(t)
	dir := server.DataDir()
	if err := errors.Join(os.Rename(dir, dir+"-newer"), os.Rename(copied, dir)); err != nil {
		t.Fatal(err)
	}
	server.Start(t)
	if err := os.RemoveAll(dir + "-newer"); err != nil {
		t.Fatal(err)
	}
}
