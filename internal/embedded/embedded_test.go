package embedded

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"
)

// roleVar makes this test binary one of the processes that the tests kill.
const roleVar = "AUDITTRAIL_EMBEDDED_ROLE"

// started is what such a process says once it is up, as a line of JSON.
type started struct {
	Kafka    string
	Postgres PostgresInfo
	DSN      string
}

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVar); role != "" {
		if err := child(role, os.Args[1], os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// child runs a broker, PostgreSQL or both on a data directory until its standard input ends or it is killed.
func child(role, dir, system, listen string) error {
	data, err := OpenData(dir)
	if err != nil {
		return err
	}
	var up started
	if role == "kafka" || role == "all" {
		kafka, err := StartKafka(data, KafkaConfig{Listen: listen, Log: zerolog.New(os.Stderr)})
		if err != nil {
			return err
		}
		defer kafka.Close()
		up.Kafka = kafka.Addrs()[0]
	}
	if role == "postgres" || role == "all" {
		postgres, err := StartPostgres(context.Background(), data, PostgresConfig{Place: system, Log: zerolog.New(os.Stderr)})
		if err != nil {
			return err
		}
		defer postgres.Stop(context.Background())
		up.Postgres, up.DSN = postgres.Info(), postgres.DSN()
	}
	if err := json.NewEncoder(os.Stdout).Encode(up); err != nil {
		return err
	}
	os.Stdin.Read(make([]byte, 1))
	return nil
}

// process is a running child.
type process struct {
	started
	cmd   *exec.Cmd
	stdin io.Closer
}

// startChild runs a child and waits until it is up.
func startChild(t *testing.T, role string, at dirs) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0], at.data, at.system, at.listen)}
	p.cmd.Env = append(os.Environ(), roleVar+"="+role)
	p.cmd.Stderr = os.Stderr
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatalf("the %s process ended before it was up", role)
	}
	if err := json.Unmarshal(lines.Bytes(), &p.started); err != nil {
		t.Fatalf("the %s process said %q: %v", role, lines.Text(), err)
	}
	return p
}

// kill kills the process with SIGKILL and waits for it.
func (p *process) kill() {
	if p.cmd.ProcessState == nil {
		p.cmd.Process.Kill()
		p.cmd.Wait()
	}
}

// stop lets the process end in order.
func (p *process) stop(t *testing.T) {
	t.Helper()
	p.stdin.Close()
	if err := p.cmd.Wait(); err != nil {
		t.Fatal(err)
	}
}

// dirs are where a test keeps its data, and where PostgreSQL's goes when the test runs as root.
type dirs struct {
	base, data, system string
	listen             string // of the broker; empty: a free port
}

func newDirs(t *testing.T) dirs {
	t.Helper()
	base, err := os.MkdirTemp("", "audittrail-embedded-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeOnceUnused(t, base) })
	if err := os.Chmod(base, 0o755); err != nil { // as root, PostgreSQL's user must get to system
		t.Fatal(err)
	}
	return dirs{base: base, data: filepath.Join(base, "data"), system: filepath.Join(base, "system")}
}

// removeOnceUnused removes a directory that a server, told to stop by the death of its process, may still write to.
func removeOnceUnused(t *testing.T, dir string) {
	waitFor(t, "directory to be removed", func() bool { return os.RemoveAll(dir) == nil })
}

func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func openData(t *testing.T, dir string) *Data {
	t.Helper()
	data, err := OpenData(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { data.Close() })
	return data
}

func processAlive(pid int) bool { return syscall.Kill(pid, 0) == nil }
