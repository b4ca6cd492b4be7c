package embeddedtest_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/maxviazov/audittrail/internal/embedded/embeddedtest"
)

// childVar makes this test binary a process that starts a server, says where, and waits to be killed.
const childVar = "AUDITTRAIL_EMBEDDEDTEST_CHILD"

func TestMain(m *testing.M) { os.Exit(embeddedtest.Main(m)) }

func connect(tb testing.TB, dsn string) *pgx.Conn {
	tb.Helper()
	conn, err := pgx.Connect(tb.Context(), dsn)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func query[T any](tb testing.TB, conn *pgx.Conn, sql string) T {
	tb.Helper()
	var v T
	if err := conn.QueryRow(tb.Context(), sql).Scan(&v); err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
	return v
}

func mustExec(tb testing.TB, conn *pgx.Conn, sql string) {
	tb.Helper()
	if _, err := conn.Exec(tb.Context(), sql); err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
}

func TestKafkaHasNoTopicsAndMakesNone(t *testing.T) {
	addrs := embeddedtest.Kafka(t, embeddedtest.Brokers(3), embeddedtest.MaxMessageBytes(1<<20))
	if len(addrs) != 3 {
		t.Fatalf("brokers: %v", addrs)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(addrs...), kgo.AllowAutoTopicCreation(), kgo.UnknownTopicRetries(1))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: "absent", Value: []byte("x")}).FirstErr(); err == nil {
		t.Error("a topic was created by producing to it")
	}
	admin := kadm.NewClient(client)
	if _, err := admin.CreateTopic(t.Context(), 2, 1, nil, "present"); err != nil {
		t.Fatal(err)
	}
	topics, err := admin.ListTopics(t.Context())
	if err != nil || len(topics) != 1 || !topics.Has("present") {
		t.Errorf("topics %v, %v", topics.Names(), err)
	}
}

func TestPostgresGivesEachTestItsOwnDatabase(t *testing.T) {
	a, b := connect(t, embeddedtest.Postgres(t)), connect(t, embeddedtest.Postgres(t))
	mustExec(t, a, "CREATE TABLE mine (x int)")
	if query[bool](t, b, "SELECT to_regclass('mine') IS NOT NULL") {
		t.Error("two tests share a database")
	}
	want := "18"
	if v := os.Getenv(embeddedtest.VersionVar); v != "" {
		want = v
	}
	if got := query[string](t, a, "SHOW server_version"); !strings.HasPrefix(got, want+".") {
		t.Errorf("version %s, want %s", got, want)
	}
	if got := query[string](t, a, "SHOW max_locks_per_transaction"); got != "512" {
		t.Errorf("max_locks_per_transaction %s", got)
	}
	if got := query[string](t, a, "SELECT usesuper::text FROM pg_user WHERE usename = current_user"); got != "true" {
		t.Errorf("superuser: %s", got)
	}
}

func TestServerKeepsWhatWasCommittedAcrossAKill(t *testing.T) {
	server := embeddedtest.PostgresServer(t, embeddedtest.ServerOptions{Settings: map[string]string{"work_mem": "5MB"}})
	conn := connect(t, server.DSN())
	if got := query[string](t, conn, "SHOW fsync"); got != "on" {
		t.Errorf("fsync %s", got)
	}
	if got := query[string](t, conn, "SHOW work_mem"); got != "5MB" {
		t.Errorf("work_mem %s", got)
	}
	mustExec(t, conn, "CREATE TABLE kept AS SELECT 42 AS x")
	for round := range 2 {
		if round == 0 {
			server.Kill9(t)
		} else {
			server.Stop(t)
		}
		if _, err := pgx.Connect(t.Context(), server.DSN()); err == nil {
			t.Fatal("a stopped server answers")
		}
		server.Start(t)
		if got := query[int](t, connect(t, server.DSN()), "SELECT x FROM kept"); got != 42 {
			t.Errorf("round %d: kept %d", round, got)
		}
	}
}

func TestRedisStopsAndStarts(t *testing.T) {
	server := embeddedtest.NewRedis(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), MaxRetries: -1})
	defer client.Close()
	if err := client.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	server.Stop()
	if client.Ping(t.Context()).Err() == nil {
		t.Error("a stopped server answers")
	}
	server.Start(t)
	if n, err := client.Exists(t.Context(), "k").Result(); err != nil || n != 0 {
		t.Errorf("after a new start: %d keys, %v", n, err)
	}
}

// TestChild is the process that TestNothingOutlivesAKilledProcess kills; on its own it has nothing to test.
func TestChild(t *testing.T) {
	if os.Getenv(childVar) == "" {
		return
	}
	dsn := embeddedtest.Postgres(t)
	dir := query[string](t, connect(t, dsn), "SHOW data_directory")
	fmt.Printf("child %s %s %s\n", dsn, embeddedtest.Redis(t), dir)
	select {}
}

func TestNothingOutlivesAKilledProcess(t *testing.T) {
	embeddedtest.Redis(t) // skips where there is none
	child := exec.Command(os.Args[0], "-test.run=^TestChild$", "-test.timeout=2m")
	child.Env = append(os.Environ(), childVar+"=1")
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { child.Process.Kill() })
	var dsn, redisAddr, dir string
	for lines := bufio.NewScanner(out); dsn == "" && lines.Scan(); {
		fmt.Sscanf(lines.Text(), "child %s %s %s", &dsn, &redisAddr, &dir)
	}
	config, err := pgx.ParseConfig(dsn)
	if err != nil || redisAddr == "" {
		t.Fatalf("the child said %q %q: %v", dsn, redisAddr, err)
	}
	postgresAddr := fmt.Sprintf("127.0.0.1:%d", config.Port)
	for _, addr := range []string{postgresAddr, redisAddr} {
		if !listens(addr) {
			t.Fatalf("nothing listens on %s before the kill", addr)
		}
	}
	if err := child.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	child.Wait()
	gone := func() bool {
		_, err := os.Stat(filepath.Dir(dir))
		return !listens(postgresAddr) && !listens(redisAddr) && os.IsNotExist(err)
	}
	for deadline := time.Now().Add(20 * time.Second); !gone(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still there: postgres %v, redis %v, directory %s", listens(postgresAddr), listens(redisAddr), dir)
		}
	}
}

func listens(addr string) bool {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}
