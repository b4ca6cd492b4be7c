package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/jackc/pgx/v5"

	"github.com/maxviazov/audittrail/internal/embedded/embeddedtest"
	"github.com/maxviazov/audittrail/internal/embedded/pgserver"
)

// disk is a small file system, for example of a PostgreSQL server, and a file on it that takes what space the test wants gone.
type disk struct{ dir, ballast string }

// mountDisk mounts a tmpfs of the given size.
func mountDisk(t *T, mib int) *disk {
	t.Helper()
	dir, err := os.MkdirTemp("", "audittrail-disk-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(dir) })
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=0755", mib)); err != nil {
		if errors.Is(err, syscall.EPERM) {
			t.Skip("mounting a small file system needs root with CAP_SYS_ADMIN")
		}
		t.Fatalf("mount: %v", err)
	}
	t.Cleanup(func() { // may run before its user is stopped; MNT_DETACH lets it keep what it has open
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return &disk{dir: dir, ballast: filepath.Join(dir, "ballast")}
}

// placeFor makes a directory on the disk that belongs to the server's user.
func (d *disk) placeFor(t *T, server *embeddedtest.Server) string {
	t.Helper()
	place := filepath.Join(d.dir, "postgres")
	if err := os.Mkdir(place, 0o700); err != nil {
		t.Fatal(err)
	}
	own(t, server, place)
	return place
}

// own gives a path to the user that runs the server.
func own(t *T, server *embeddedtest.Server, path string) {
	t.Helper()
	owner, err := pgserver.OwnerOf(server.DataDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Own(path); err != nil {
		t.Fatal(err)
	}
}

// dataDisk moves the server's database to a small disk, before there is anything in it. WAL stays where it is: a full disk of data is
// an error of statements.
func dataDisk(t *T, mib int, server *embeddedtest.Server) *disk {
	t.Helper()
	d := mountDisk(t, mib)
	place := d.placeFor(t, server)
	// A database can only be moved from another one.
	config, err := pgx.ParseConfig(server.DSN())
	if err != nil {
		t.Fatal(err)
	}
	config.Database = "template1"
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, sql := range []string{
		"CREATE TABLESPACE small LOCATION '" + place + "'",
		"ALTER DATABASE postgres SET TABLESPACE small",
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	return d
}

// walDisk moves the server's WAL to a small disk. Without space for WAL the server ends, and does not start again until there is some.
func walDisk(t *T, mib int, server *embeddedtest.Server) *disk {
	t.Helper()
	d := mountDisk(t, mib)
	place := d.placeFor(t, server)
	server.Stop(t)
	wal := filepath.Join(server.DataDir(), "pg_wal")
	err := filepath.WalkDir(wal, func(path string, e os.DirEntry, err error) error {
		if err != nil || path == wal {
			return err
		}
		to := filepath.Join(place, path[len(wal):])
		if e.IsDir() {
			err = os.Mkdir(to, 0o700)
		} else {
			err = copyFile(path, to)
		}
		if err == nil {
			own(t, server, to)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(wal); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(place, wal); err != nil {
		t.Fatal(err)
	}
	server.Start(t)
	return d
}

// fill takes all space but so many bytes. The server may take some at the same moment: then less is left.
func (d *disk) fill(t *T, leave int64) {
	t.Helper()
	f, err := os.Create(d.ballast)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for {
		var fs syscall.Statfs_t
		if err := syscall.Statfs(d.dir, &fs); err != nil {
			t.Fatal(err)
		}
		free := int64(fs.Bavail) * fs.Bsize
		if free <= leave {
			t.Fatalf("only %d bytes are free: the file system is too small for this test", free)
		}
		switch err := syscall.Fallocate(int(f.Fd()), 0, 0, free-leave); {
		case err == nil:
			return
		case !errors.Is(err, syscall.ENOSPC):
			t.Fatalf("take %d bytes: %v", free-leave, err)
		}
	}
}

// free gives the space back.
func (d *disk) free(t *T) {
	t.Helper()
	if err := os.Remove(d.ballast); err != nil {
		t.Fatal(err)
	}
}
