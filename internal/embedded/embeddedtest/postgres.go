package embeddedtest

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/maxviazov/audittrail/internal/embedded/pgserver"
)

// VersionVar names the environment variable that chooses PostgreSQL for tests: 18 or 15.
const VersionVar = "AUDITTRAIL_TEST_PG"

// debian15 is where Debian's package postgresql-15 has its binaries.
const debian15 = "/usr/lib/postgresql/15/bin"

// shared is the one server of the test process.
var shared struct {
	sync.Mutex
	server *Server
	err    error // of the first start; later tests fail at once with the same reason
}

var databases atomic.Int64

// Postgres returns a connection string, as superuser, to a fresh and empty database (UTF-8, C collation) on the server of this test process. The
// database is dropped when the test ends, with the sessions still on it. Roles belong to the server: tests of one process share them.
func Postgres(tb testing.TB) string {
	tb.Helper()
	server, err := sharedServer()
	if err != nil {
		tb.Fatalf("start PostgreSQL for tests: %v", err)
	}
	name := fmt.Sprintf("test_%d", databases.Add(1))
	if err := server.exec("CREATE DATABASE " + name + " TEMPLATE template0"); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := server.exec("DROP DATABASE " + name + " WITH (FORCE)"); err != nil {
			tb.Errorf("drop the test's database: %v", err)
		}
	})
	return server.dsn(name)
}

// Main runs the tests and then stops the server that Postgres started, if it did. Call it from TestMain and exit with its result.
func Main(m *testing.M) int {
	code := m.Run()
	shared.Lock()
	defer shared.Unlock()
	if shared.server != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := shared.server.run.Stop(ctx); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.RemoveAll(shared.server.base) // gone already, unless the server had ended by itself
		shared.server = nil
	}
	return code
}

func sharedServer() (*Server, error) {
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil && shared.err == nil {
		shared.server, shared.err = newServer(ServerOptions{}, true)
	}
	return shared.server, shared.err
}

// exec runs one statement as superuser on the database postgres.
func (s *Server) exec(sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.DSN())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("%s: %w", strings.ToLower(sql), err)
	}
	return nil
}

func testBinaries(ctx context.Context) (pgserver.Binaries, error) {
	switch version := os.Getenv(VersionVar); version {
	case "", "18":
		return pgserver.Fetch(ctx, pgserver.FetchConfig{Fetching: func() {
			fmt.Fprintln(os.Stderr, "fetching PostgreSQL 18 (15 MB, once)")
		}})
	case "15":
		binaries, err := pgserver.Installed(ctx, debian15)
		if err != nil {
			return binaries, fmt.Errorf("%w (apt-get install postgresql-15, or %s=18)", err, VersionVar)
		}
		return binaries, nil
	default:
		return pgserver.Binaries{}, fmt.Errorf("%s=%q: must be 18 or 15", VersionVar, version)
	}
}
