package pgserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// pidFile is what PostgreSQL writes into postmaster.pid: one value a line.
type pidFile struct {
	pid, port int
	ready     bool
}

func readPidFile(dir string) (pidFile, error) {
	data, err := os.ReadFile(filepath.Join(dir, "postmaster.pid"))
	if err != nil {
		return pidFile{}, err
	}
	lines := strings.Split(string(data), "\n")
	if lines[0] == "" { // the server died between making the file and writing it
		return pidFile{pid: gone}, nil
	}
	pid, err := strconv.Atoi(strings.TrimSpace(lines[0]))
	if err != nil || pid <= 1 {
		return pidFile{}, fmt.Errorf("%s/postmaster.pid: no process id in its first line", dir)
	}
	p := pidFile{pid: pid}
	if len(lines) > 3 {
		p.port, _ = strconv.Atoi(strings.TrimSpace(lines[3])) // 0 when it is not written yet
	}
	if len(lines) > 7 {
		status := strings.TrimSpace(lines[7])
		p.ready = status == "ready" || status == "standby" // a hot standby takes connections, too
	}
	return p, nil
}

// gone is a process id that no process has: above the largest that any system gives out.
const gone = 1<<31 - 1

func alive(pid int) bool { return syscall.Kill(pid, 0) != syscall.ESRCH }

// StopLeftover stops the server that an earlier process left running on dir and returns its process id, 0 when there is none.
// First an orderly shutdown for half the time ctx has left, then an immediate one.
//
// The pid file alone is not believed, because process ids are used again: the process must have dir as its working directory, as
// a PostgreSQL server has. A pid file that names some other living process is removed, since PostgreSQL would take
// that process for its predecessor and refuse to start. The caller makes sure that nobody else starts a server on dir.
func StopLeftover(ctx context.Context, dir string) (int, error) {
	file, err := readPidFile(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("find a server left behind: %w", err)
	}
	if !alive(file.pid) && file.pid != gone {
		return 0, nil
	}
	if !serves(file.pid, dir) {
		return 0, os.Remove(filepath.Join(dir, "postmaster.pid"))
	}
	gentle, cancel := context.WithDeadline(ctx, halfway(ctx))
	defer cancel()
	for _, step := range []struct {
		ctx    context.Context
		signal syscall.Signal
	}{{gentle, syscall.SIGINT}, {ctx, syscall.SIGQUIT}} {
		if err := syscall.Kill(file.pid, step.signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return file.pid, fmt.Errorf("stop the PostgreSQL left behind, process %d: %w", file.pid, err)
		}
		if awaitGone(step.ctx, file.pid, dir) == nil {
			return file.pid, nil
		}
	}
	return file.pid, fmt.Errorf("stop the PostgreSQL left behind, process %d: %w", file.pid, context.Cause(ctx))
}

func halfway(ctx context.Context) time.Time {
	deadline, ok := ctx.Deadline()
	if !ok {
		return time.Now().Add(30 * time.Second)
	}
	return time.Now().Add(time.Until(deadline) / 2)
}

func awaitGone(ctx context.Context, pid int, dir string) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for alive(pid) && serves(pid, dir) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// serves reports whether the process is a PostgreSQL server of the data directory.
func serves(pid int, dir string) bool {
	if runtime.GOOS == "linux" {
		return sameDir(fmt.Sprintf("/proc/%d/cwd", pid), dir)
	}
	out, err := exec.Command("ps", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && strings.Contains(string(out), "postgres") && strings.Contains(string(out), " -D "+dir+" ")
}

func sameDir(a, b string) bool {
	x, errA := os.Stat(a)
	y, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(x, y)
}
