package embedded

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"github.com/maxviazov/audittrail/internal/embedded/pgserver"
)

func (d dirs) config() PostgresConfig { return PostgresConfig{Place: d.system, Log: zerolog.Nop()} }

// startPostgres starts PostgreSQL in this process and stops it with the test.
func startPostgres(t *testing.T, data *Data, cfg PostgresConfig) *Postgres {
	t.Helper()
	postgres, err := StartPostgres(t.Context(), data, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { postgres.Stop(context.Background()) })
	return postgres
}

func stop(t *testing.T, postgres *Postgres) {
	t.Helper()
	if err := postgres.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func query[T any](t *testing.T, conn *pgx.Conn, sql string) T {
	t.Helper()
	var v T
	if err := conn.QueryRow(t.Context(), sql).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func mustExec(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func TestPostgresFirstAndSecondStart(t *testing.T) {
	dirs := newDirs(t)
	data := openData(t, dirs.data)
	postgres := startPostgres(t, data, dirs.config())
	info := postgres.Info()
	if !info.Created || info.Leftover != 0 || !processAlive(info.PID) || info.Database != "audittrail" || !strings.HasPrefix(info.Address, "127.0.0.1:") {
		t.Errorf("info %+v", info)
	}
	if isRoot := os.Geteuid() == 0; isRoot != (info.RunsAs != "") || isRoot != strings.HasPrefix(info.Place, dirs.system+"/") {
		t.Errorf("as root %v: info %+v", isRoot, info)
	}
	for path, mode := range map[string]os.FileMode{info.Place: 0o700 | os.ModeDir, info.Password: 0o600, info.Log: 0o600} {
		if got, err := os.Stat(path); err != nil || got.Mode() != mode {
			t.Errorf("%s: mode %v, %v", path, got.Mode(), err)
		}
	}
	conn := connect(t, postgres.DSN())
	for setting, want := range map[string]string{"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "data_checksums": "on",
		"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "server_encoding": "UTF8", "max_locks_per_transaction": "512"} {
		if got := query[string](t, conn, "SHOW "+setting); got != want {
			t.Errorf("%s = %q, want %q", setting, got, want)
		}
	}
	if wrong := strings.Replace(postgres.DSN(), ":"+conn.Config().Password+"@", ":guess@", 1); true {
		if _, err := pgx.Connect(t.Context(), wrong); err == nil {
			t.Error("a wrong password is accepted")
		}
	}
	mustExec(t, conn, "CREATE TABLE kept AS SELECT 42 AS x")
	stop(t, postgres)

	again := startPostgres(t, data, dirs.config())
	if again.Info().Created || again.Info().Leftover != 0 {
		t.Errorf("second start: info %+v", again.Info())
	}
	if got := query[int](t, connect(t, again.DSN()), "SELECT x FROM kept"); got != 42 {
		t.Errorf("kept %d", got)
	}
}

func TestEverythingIsThereAfterAKill(t *testing.T) {
	dirs := newDirs(t)
	first := startChild(t, "all", dirs)
	conn := connect(t, first.DSN)
	mustExec(t, conn, "CREATE TABLE kept (x int)")
	for round := range 3 {
		p := first
		if round > 0 {
			p = startChild(t, "all", dirs)
			if p.Postgres.Created {
				t.Fatal("the data directory was made again")
			}
			conn = connect(t, p.DSN)
		}
		if got := query[int](t, conn, "SELECT count(*) FROM kept"); got != round {
			t.Errorf("round %d: %d rows", round, got)
		}
		mustExec(t, conn, "INSERT INTO kept VALUES (1)")
		p.kill() // with a connection open
	}
}

// leaveBehind starts a server on the data of a stopped Postgres that nothing stops, as one whose keeper was killed too.
func leaveBehind(t *testing.T, info PostgresInfo) *exec.Cmd {
	t.Helper()
	binaries, err := pgserver.Fetch(t.Context(), pgserver.FetchConfig{})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(binaries.Bin, "postgres"), "-D", info.Place, "-p", strings.TrimPrefix(info.Address, "127.0.0.1:"), "-c", "unix_socket_directories=")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if info.RunsAs != "" {
		owner, err := pgserver.OwnerOf(info.Place)
		if err != nil {
			t.Fatal(err)
		}
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: owner.UID, Gid: owner.GID}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd
}

func TestALeftoverServerIsStopped(t *testing.T) {
	dirs := newDirs(t)
	data := openData(t, dirs.data)
	postgres := startPostgres(t, data, dirs.config())
	dsn, info := postgres.DSN(), postgres.Info()
	stop(t, postgres)

	leftover := leaveBehind(t, info)
	var conn *pgx.Conn
	waitFor(t, "the leftover server", func() (up bool) {
		var err error
		conn, err = pgx.Connect(t.Context(), dsn)
		return err == nil
	})
	defer conn.Close(context.Background())
	mustExec(t, conn, "CREATE TABLE kept AS SELECT 42 AS x")

	again := startPostgres(t, data, dirs.config())
	if again.Info().Leftover != leftover.Process.Pid {
		t.Errorf("stopped process %d, want %d", again.Info().Leftover, leftover.Process.Pid)
	}
	if state, err := leftover.Process.Wait(); err != nil || !state.Success() {
		t.Errorf("the leftover server was not shut down in order: %v, %v", state, err)
	}
	if got := query[int](t, connect(t, again.DSN()), "SELECT x FROM kept"); got != 42 {
		t.Errorf("kept %d", got)
	}
}

func TestAPidFileThatNamesAnotherProcessHarmsNobody(t *testing.T) {
	dirs := newDirs(t)
	data := openData(t, dirs.data)
	postgres := startPostgres(t, data, dirs.config())
	info := postgres.Info()
	stop(t, postgres)

	bystander := exec.Command("sleep", "600")
	bystander.SysProcAttr = &syscall.SysProcAttr{}
	if info.RunsAs != "" { // of the same user: PostgreSQL itself takes it for its predecessor
		owner, err := pgserver.OwnerOf(info.Place)
		if err != nil {
			t.Fatal(err)
		}
		bystander.SysProcAttr.Credential = &syscall.Credential{Uid: owner.UID, Gid: owner.GID}
	}
	if err := bystander.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { bystander.Process.Kill(); bystander.Wait() }()
	for name, content := range map[string]string{
		"bystander": fmt.Sprintf("%d\n%s\n1700000000\n5432\n\n127.0.0.1\n  1 1\nready   \n", bystander.Process.Pid, info.Place),
		"empty":     "",
		"dead":      "2147483646\n/x\n1700000000\n5432\n\n127.0.0.1\n  1 1\nready   \n",
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(info.Place, "postmaster.pid")
			write(t, path, content)
			again := startPostgres(t, data, dirs.config())
			if again.Info().Leftover != 0 {
				t.Errorf("stopped process %d", again.Info().Leftover)
			}
			if !processAlive(bystander.Process.Pid) {
				t.Error("the bystander was killed")
			}
			stop(t, again)
		})
	}
}

func TestPostgresRefusesWhatIsNotItsOwn(t *testing.T) {
	for name, test := range map[string]struct {
		files map[string]string
		want  error
		says  string
	}{
		"foreign directory":  {map[string]string{"postgres/thesis.tex": "x", passwordName: "p"}, ErrForeign, "move it away"},
		"unreadable version": {map[string]string{"postgres/PG_VERSION": "", "postgres/base": "x", passwordName: "p"}, ErrVersion, "pg_dump"},
		"newer version":      {map[string]string{"postgres/PG_VERSION": "19\n", "postgres/base/1": "x", passwordName: "p"}, ErrVersion, "PostgreSQL 19"},
		"older version":      {map[string]string{"postgres/PG_VERSION": "17\n", "postgres/base/1": "x", passwordName: "p"}, ErrVersion, "PostgreSQL 17"},
		"password lost":      {map[string]string{"postgres/PG_VERSION": "18\n", "postgres/base/1": "x"}, ErrForeign, passwordName},
	} {
		t.Run(name, func(t *testing.T) {
			dirs := newDirs(t)
			data := openData(t, dirs.data)
			for file, content := range test.files {
				write(t, filepath.Join(dirs.data, file), content)
			}
			before := tree(t, dirs.data)
			_, err := StartPostgres(t.Context(), data, dirs.config())
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), "--data") {
				t.Errorf("error %v", err)
			}
			if !maps.Equal(before, tree(t, dirs.data)) {
				t.Error("the directory was changed")
			}
		})
	}
}

func TestALostPlaceIsNotMadeAgain(t *testing.T) {
	dirs := newDirs(t)
	data := openData(t, dirs.data)
	write(t, filepath.Join(dirs.data, passwordName), "p")
	if err := os.Symlink(filepath.Join(dirs.system, "data-x"), filepath.Join(dirs.data, "postgres")); err != nil {
		t.Fatal(err)
	}
	if _, err := StartPostgres(t.Context(), data, dirs.config()); !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), "gone") {
		t.Errorf("error %v", err)
	}
}

func TestAnUnfinishedFirstStartIsStartedOver(t *testing.T) {
	dirs := newDirs(t)
	data := openData(t, dirs.data)
	unfinished := filepath.Join(dirs.data, "postgres.new")
	if os.Geteuid() == 0 {
		write(t, filepath.Join(dirs.system, "data-x", "half"), "x")
		if err := os.Symlink(filepath.Join(dirs.system, "data-x"), unfinished); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dirs.system, 0o755); err != nil {
			t.Fatal(err)
		}
	} else {
		write(t, filepath.Join(unfinished, "half"), "x")
	}
	if postgres := startPostgres(t, data, dirs.config()); !postgres.Info().Created {
		t.Errorf("info %+v", postgres.Info())
	}
	for _, path := range []string{unfinished, filepath.Join(dirs.system, "data-x")} {
		if _, err := os.Lstat(path); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", path, err)
		}
	}
}

// A copy of the data directory has a link to the same place when PostgreSQL's data is elsewhere, as it is for root.
func TestACopyOfTheDataDirectoryCannotTakeTheDatabase(t *testing.T) {
	dirs := newDirs(t)
	data := openData(t, dirs.data)
	postgres := startPostgres(t, data, dirs.config())
	if link := filepath.Join(dirs.data, "postgres"); os.Geteuid() != 0 {
		stop(t, postgres)
		if err := errors.Join(os.Mkdir(dirs.system, 0o755), os.Rename(link, filepath.Join(dirs.system, "data-x")), os.Symlink(filepath.Join(dirs.system, "data-x"), link)); err != nil {
			t.Fatal(err)
		}
		postgres = startPostgres(t, data, dirs.config())
	}
	copied := filepath.Join(dirs.base, "copy")
	if out, err := exec.Command("cp", "-a", dirs.data, copied).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if _, err := StartPostgres(t.Context(), openData(t, copied), dirs.config()); !errors.Is(err, ErrInUse) {
		t.Errorf("error %v", err)
	}
	if got := query[int](t, connect(t, postgres.DSN()), "SELECT 1"); got != 1 {
		t.Error("the first instance lost its server")
	}
}

func TestPostgresTakenPort(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	dirs := newDirs(t)
	cfg := dirs.config()
	cfg.Port = ln.Addr().(*net.TCPAddr).Port
	_, err = StartPostgres(t.Context(), openData(t, dirs.data), cfg)
	if !errors.Is(err, ErrPortTaken) || !strings.Contains(err.Error(), ln.Addr().String()) || !strings.Contains(err.Error(), "--postgres-port") {
		t.Errorf("error %v", err)
	}
}

func TestOfflineFirstStartSaysWhatToDo(t *testing.T) {
	unreachable := httptest.NewServer(http.NotFoundHandler())
	unreachable.Close()
	missing := httptest.NewServer(http.NotFoundHandler())
	defer missing.Close()
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer silent.Close()
	defer silent.CloseClientConnections()
	for name, url := range map[string]string{"unreachable": unreachable.URL, "missing": missing.URL, "silent": silent.URL} {
		t.Run(name, func(t *testing.T) {
			dirs := newDirs(t)
			cfg := dirs.config()
			told := false
			cfg.Fetch = pgserver.FetchConfig{Repository: url, Archives: filepath.Join(dirs.base, "archives"), Place: filepath.Join(dirs.base, "bin"), Fetching: func() { told = true }}
			cfg.FetchTimeout = 2 * time.Second
			begin := time.Now()
			_, err := StartPostgres(t.Context(), openData(t, dirs.data), cfg)
			if !errors.Is(err, pgserver.ErrFetch) || !strings.Contains(err.Error(), "--postgres-dsn") {
				t.Errorf("error %v", err)
			}
			if !told {
				t.Error("the download was not announced")
			}
			if took := time.Since(begin); took > 10*time.Second {
				t.Errorf("took %s", took)
			}
			if _, err := os.Lstat(filepath.Join(dirs.data, "postgres")); err == nil {
				t.Error("a data directory was made")
			}
		})
	}
}

func TestTheServersEndIsTold(t *testing.T) {
	dirs := newDirs(t)
	postgres := startPostgres(t, openData(t, dirs.data), dirs.config())
	if err := syscall.Kill(postgres.Info().PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-postgres.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("nobody said that the server has ended")
	}
}
