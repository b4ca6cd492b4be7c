package embeddedtest

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/maxviazov/audittrail/internal/embedded/pgserver"
)

// password of the superuser of test servers; they listen on loopback and hold test data.
const password = "test"

const startTimeout = 60 * time.Second

// ServerOptions change what PostgresServer starts.
type ServerOptions struct {
	// Settings are added to the server's, as in postgresql.conf.
	Settings map[string]string
	// DataDir is a data directory to run on, for example a copy of another server's; the server is not initialised then. It is
	// handed over to the unprivileged user when the test runs as root. Default: a new one.
	DataDir string
}

// Server is a PostgreSQL server of one test, with durable settings, which can be killed and started again. It keeps its port. Not for
// use from several goroutines at once.
type Server struct {
	base string // directory of everything of this server
	dir  string
	cfg  pgserver.Config
	run  *pgserver.Server // nil while stopped

	encrypted bool // by Encrypt
}

// PostgresServer initialises and starts a server of its own for the test.
func PostgresServer(tb testing.TB, opts ServerOptions) *Server {
	tb.Helper()
	s, err := newServer(opts, false)
	if err != nil {
		tb.Fatalf("start PostgreSQL: %v", err)
	}
	tb.Cleanup(func() {
		if s.run != nil {
			_ = s.run.Stop(context.Background()) // immediate is as good: the data goes next
		}
		os.RemoveAll(s.base)
	})
	return s
}

// newServer makes a directory, a data directory in it, and starts a server. A server that is shared by the process is fast
// instead of durable, and its directory is removed even when this process is killed.
func newServer(opts ServerOptions, shared bool) (*Server, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	binaries, err := testBinaries(ctx)
	if err != nil {
		return nil, err
	}
	user, err := pgserver.Unprivileged()
	if err != nil {
		return nil, err
	}
	temp := os.TempDir()
	if user != nil && !user.CanEnter(temp) {
		temp = "/tmp" // a private temporary directory of root is closed to the user of the server
	}
	base, err := os.MkdirTemp(temp, "audittrail-test-postgres-")
	if err != nil {
		return nil, err
	}
	s := &Server{base: base, dir: opts.DataDir}
	if err := s.create(ctx, binaries, user, opts, shared); err != nil {
		os.RemoveAll(base)
		return nil, err
	}
	return s, nil
}

func (s *Server) create(ctx context.Context, binaries pgserver.Binaries, user *pgserver.User, opts ServerOptions, shared bool) error {
	if err := user.Own(s.base); err != nil {
		return err
	}
	if s.dir == "" {
		s.dir = filepath.Join(s.base, "data")
		if err := pgserver.Init(ctx, pgserver.InitConfig{Binaries: binaries, User: user, Dir: s.dir, Password: password, NoSync: true}); err != nil {
			return err
		}
	} else if err := handOver(s.dir, user); err != nil {
		return err
	}
	s.cfg = pgserver.Config{Binaries: binaries, User: user, Dir: s.dir, Log: filepath.Join(s.base, "log"), Settings: settings(opts, shared)}
	if shared {
		s.cfg.Remove = s.base
	}
	// A free port may be taken by somebody else before the server has it.
	for try := 0; ; try++ {
		port, err := pgserver.FreePort()
		if err != nil {
			return err
		}
		s.cfg.Port = port
		s.run, err = pgserver.Start(ctx, s.cfg)
		if err == nil || try == 2 || ctx.Err() != nil {
			return err
		}
	}
}

func handOver(dir string, user *pgserver.User) error {
	return filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return user.Own(path)
	})
}

func settings(opts ServerOptions, shared bool) map[string]string {
	all := map[string]string{
		"max_connections":            "200",
		"max_locks_per_transaction":  "512",
		"shared_buffers":             "64MB",
		"dynamic_shared_memory_type": "mmap",
		"log_checkpoints":            "off",
	}
	if shared {
		all["fsync"], all["synchronous_commit"], all["full_page_writes"] = "off", "off", "off"
	}
	for name, value := range opts.Settings {
		all[name] = value
	}
	return all
}

// DSN is the connection string of the superuser, for the database postgres.
func (s *Server) DSN() string { return s.dsn("postgres") }

func (s *Server) dsn(database string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(pgserver.Superuser, password),
		Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(s.cfg.Port)), Path: database, RawQuery: "sslmode=disable"}
	return u.String()
}

// DataDir is the data directory. As root it belongs to the unprivileged user that runs the server.
func (s *Server) DataDir() string { return s.dir }

// Kill9 kills the server with SIGKILL, as a crash would, and returns when it is gone. Its sessions notice at once, and end.
func (s *Server) Kill9(tb testing.TB) {
	tb.Helper()
	if s.run == nil {
		tb.Fatal("kill PostgreSQL: it is not running")
	}
	pid, err := s.run.Pid()
	if err != nil {
		tb.Fatalf("kill PostgreSQL: %v", err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		tb.Fatalf("kill PostgreSQL: %v", err)
	}
	<-s.run.Done()
	s.run = nil
}

// Stop shuts the server down in order.
func (s *Server) Stop(tb testing.TB) {
	tb.Helper()
	if s.run == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if err := s.run.Stop(ctx); err != nil {
		tb.Fatal(err)
	}
	s.run = nil
}

// Start starts the server again, on the same port and data, after Kill9 or Stop.
func (s *Server) Start(tb testing.TB) {
	tb.Helper()
	if s.run != nil {
		tb.Fatal("start PostgreSQL: it is running")
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	// The sessions of a killed server notice a little later, and until then hold its shared memory: PostgreSQL refuses to start.
	for {
		run, err := pgserver.Start(ctx, s.cfg)
		if err == nil {
			s.run = run
			return
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			tb.Fatal(fmt.Errorf("start PostgreSQL again: %w", err))
		}
	}
}
