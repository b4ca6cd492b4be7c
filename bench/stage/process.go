// Package stage runs the parts of AuditTrail as processes of their own, so that each can be killed
// with -9, stopped and started again while the others go on. It ends only processes it started.
package stage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is one role in a process of its own. Its methods may be called from several goroutines.
type Process struct {
	name string
	path string
	args []string
	env  []string
	log  string

	mu   sync.Mutex
	cmd  *exec.Cmd // nil: not running
	done chan struct{}
	cpu  time.Duration // of instances that have ended
}

// NewProcess describes a process; Start starts it. Output is appended to dir/name.log.
func NewProcess(dir, name, path string, args, env []string) *Process {
	return &Process{name: name, path: path, args: args, env: env, log: filepath.Join(dir, name+".log")}
}

// Name is the name of the process.
func (p *Process) Name() string { return p.name }

// Log is the path of its output.
func (p *Process) Log() string { return p.log }

// Start starts the process. It does not wait until the process serves.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		return fmt.Errorf("start %s: it is running", p.name)
	}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	defer out.Close()
	cmd := exec.Command(p.path, p.args...)
	cmd.Env = append(inherited(), p.env...)
	cmd.Stdout, cmd.Stderr = out, out
	dieWithParent(cmd)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.cmd, p.done = cmd, make(chan struct{})
	go func(done chan struct{}) {
		_ = cmd.Wait() // how it ended does not matter here
		p.mu.Lock()
		p.cpu += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		p.cmd = nil
		p.mu.Unlock()
		close(done)
	}(p.done)
	return nil
}

// inherited is the environment without our own settings: those of whoever runs the tests are not those of the stage, and switches of
// tests are unknown settings to the program.
func inherited() []string {
	return slices.DeleteFunc(os.Environ(), func(pair string) bool { return strings.HasPrefix(pair, "AUDITTRAIL_") })
}

// Kill9 kills the process at once and waits until it is gone; nothing happens when it is not running.
func (p *Process) Kill9() { p.signal(syscall.SIGKILL); p.wait(context.Background()) }

// Pause and Resume stop the process in its tracks and let it go on (a zombie, for the others).
func (p *Process) Pause() { p.signal(syscall.SIGSTOP) }

// Resume ends Pause.
func (p *Process) Resume() { p.signal(syscall.SIGCONT) }

// Stop asks the process to end in good order and waits; after ctx it is killed, which is an error.
func (p *Process) Stop(ctx context.Context) error {
	p.signal(syscall.SIGTERM)
	if p.wait(ctx) {
		return nil
	}
	p.Kill9()
	return fmt.Errorf("stop %s: %w; it was killed, see %s", p.name, context.Cause(ctx), p.log)
}

// Running reports whether the process runs.
func (p *Process) Running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd != nil
}

// Usage is what a process has used so far, its dead instances included.
type Usage struct {
	CPU      time.Duration
	Resident int64 // bytes now
	Peak     int64 // bytes, of the running instance
}

// Usage reads what the process has used.
func (p *Process) Usage() (Usage, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	u := Usage{CPU: p.cpu}
	if p.cmd == nil {
		return u, nil
	}
	running, err := UsageOf(p.cmd.Process.Pid)
	u.CPU, u.Resident, u.Peak = u.CPU+running.CPU, running.Resident, running.Peak
	return u, err
}

func (p *Process) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		_ = p.cmd.Process.Signal(s) // gone already is as good
	}
}

func (p *Process) wait(ctx context.Context) bool {
	p.mu.Lock()
	running, done := p.cmd != nil, p.done
	p.mu.Unlock()
	if !running {
		return true
	}
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

// Tail is the end of the process's output, for error messages.
func (p *Process) Tail(n int64) string {
	f, err := os.Open(p.log)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if end, err := f.Seek(0, 2); err == nil {
		_, _ = f.Seek(max(0, end-n), 0)
	}
	b := make([]byte, n)
	m, err := f.Read(b)
	if err != nil && m == 0 && !errors.Is(err, os.ErrClosed) {
		return "(no output)"
	}
	return string(b[:m])
}
