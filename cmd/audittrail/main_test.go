package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/maxviazov/audittrail/internal/embedded/embeddedtest"
)

// programVar makes the test binary the program, for what needs a process of its own: kill -9, signals.
const programVar = "AUDITTRAIL_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(programVar) != "" {
		main()
		return
	}
	os.Exit(embeddedtest.Main(m))
}

// result is what a command printed and returned.
type result struct {
	code        int
	out, errors string
}

// command runs a command in this process.
func command(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	code := run(ctx, args, strings.NewReader(stdin), &out, &errs)
	return result{code, out.String(), errs.String()}
}

func (r result) mustBe(t *testing.T, code int) result {
	t.Helper()
	if r.code != code {
		t.Fatalf("exit code %d, want %d\n%s%s", r.code, code, r.out, r.errors)
	}
	return r
}

func (r result) lines() []string { return strings.Split(strings.TrimSuffix(r.out, "\n"), "\n") }

func (r result) lastLine() string { l := r.lines(); return l[len(l)-1] }

// program is the program in a process of its own.
type program struct {
	cmd    *exec.Cmd
	output *transcript
	exited chan struct{} // closed when it has
}

func start(t *testing.T, args ...string) *program {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &program{cmd: exec.Command(exe, args...), output: &transcript{}, exited: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), programVar+"=1")
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // the exit code is asked for in code
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.signal(t, syscall.SIGKILL)
		<-p.exited
		if t.Failed() {
			t.Logf("audittrail %s:\n%s", strings.Join(args, " "), p.output.String())
		}
	})
	return p
}

func (p *program) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
}

// code waits for the end.
func (p *program) code(t *testing.T) int {
	t.Helper()
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(time.Minute):
		t.Fatal("the program does not end")
		return -1
	}
}

// await returns the rest of the first line that holds text.
func (p *program) await(t *testing.T, text string) string {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	for ended := false; ; {
		scanner := bufio.NewScanner(strings.NewReader(p.output.String()))
		for scanner.Scan() {
			if _, rest, ok := strings.Cut(scanner.Text(), text); ok {
				return strings.TrimSpace(rest)
			}
		}
		if ended {
			t.Fatalf("ended before it said %q", text)
		}
		select {
		case <-p.exited:
			ended = true // and look once more
		case <-time.After(20 * time.Millisecond):
		case <-deadline:
			t.Fatalf("did not say %q", text)
		}
	}
}

type transcript struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (t *transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.Write(p)
}
func (t *transcript) String() string { t.mu.Lock(); defer t.mu.Unlock(); return t.b.String() }

var _ io.Writer = (*transcript)(nil)

// startAll starts `all` on dir and returns its gRPC address once it is ready.
func startAll(t *testing.T, dir string) (*program, string) {
	t.Helper()
	p := start(t, "all", "--data", dir, "--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0")
	p.await(t, "AuditTrail is ready")
	return p, p.await(t, "  gRPC ")
}

// dataDir is a directory for `all`. Run as root, PostgreSQL's data is elsewhere, behind a link.
func dataDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	t.Cleanup(func() {
		if place, err := os.Readlink(filepath.Join(dir, "postgres")); err == nil {
			_ = os.RemoveAll(place)
			_ = os.Remove(place + ".lock")
		}
	})
	return dir
}

func TestAllKeepsEverythingThroughAKill(t *testing.T) {
	dir := dataDir(t)
	p, addr := startAll(t, dir)
	for _, want := range []string{"For development", "  HTTP ", "  Kafka ", "  PostgreSQL ", "  Data ", " demo --rate 20"} {
		p.await(t, want)
	}
	command(t, "", "demo", "--rate", "2000", "--events", "1500", "--addr", addr).mustBe(t, exitOK)

	second := start(t, "all", "--data", dir, "--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0")
	if rest := second.await(t, "data directory is in use"); !strings.Contains(rest, fmt.Sprint(p.cmd.Process.Pid)) {
		t.Errorf("the second instance says %q, want the first's process id", rest)
	}
	if code := second.code(t); code != exitFailure {
		t.Errorf("second instance: exit code %d", code)
	}

	p.signal(t, syscall.SIGKILL) // with part of it not stored yet
	<-p.exited
	p, addr = startAll(t, dir)
	command(t, "", "status", "--wait", "--addr", addr).mustBe(t, exitOK)
	rows := command(t, "", "events", "list", "--limit", "0", "-o", "jsonl", "--addr", addr).mustBe(t, exitOK).lines()
	ids := map[string]bool{}
	for _, row := range rows {
		var e struct{ ID string }
		if err := json.Unmarshal([]byte(row), &e); err != nil {
			t.Fatal(err)
		}
		ids[e.ID] = true
	}
	if len(rows) != 1500 || len(ids) != 1500 {
		t.Errorf("%d events, %d different, want 1500", len(rows), len(ids))
	}

	p.signal(t, os.Interrupt)
	if code := p.code(t); code != exitOK {
		t.Errorf("after an interrupt: exit code %d", code)
	}
	p.await(t, `"message":"stopped"`)
}

func TestASecondInterruptStopsAtOnce(t *testing.T) {
	// Whoever listens there never answers: the first interrupt leaves it waiting for what is under way.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := start(t, "demo", "--rate", "100", "--addr", l.Addr().String())
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	deadline := time.After(time.Minute)
	for {
		p.signal(t, os.Interrupt)
		select {
		case <-p.exited:
			if code := p.code(t); code != exitForced {
				t.Errorf("exit code %d, want %d", code, exitForced)
			}
			return
		case <-time.After(300 * time.Millisecond):
		case <-deadline:
			t.Fatal("it does not end")
		}
	}
}

func TestATakenPortIsNamedBeforeAnythingStarts(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := dataDir(t)
	r := command(t, "", "all", "--data", dir, "--grpc-listen", "127.0.0.1:0", "--http-listen", l.Addr().String()).mustBe(t, exitUsage)
	if !strings.Contains(r.errors, l.Addr().String()) || !strings.Contains(r.errors, "--http-listen") {
		t.Errorf("got %s", r.errors)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the data directory was made: %v", err)
	}
}

func TestAForeignDirectoryIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "thesis.txt"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := command(t, "", "all", "--data", dir, "--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0").mustBe(t, exitFailure)
	if !strings.Contains(r.errors, "thesis.txt") || !strings.Contains(r.errors, "--data") {
		t.Errorf("got %s", r.errors)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("%d entries, %v, want the one there was", len(entries), err)
	}
}
