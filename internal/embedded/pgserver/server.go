package pgserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// keeper runs the server ($@) and stops it in an orderly way (SIGINT, "fast") when descriptor 3, a pipe to the process that started it,
// closes; then it removes the directory $REMOVE, if one is named. A server that ends by itself leaves the directory
// for its log to be read. The exit status is the server's.
const keeper = `"$@" </dev/null 3<&- & server=$!
{ cat >/dev/null; kill -INT $server; exit 0; } <&3 2>/dev/null & watch=$!
exec 3<&-
wait $server; status=$?
{ kill $watch; wait $watch; } 2>/dev/null; told=$?
if [ -n "$REMOVE" ] && [ $told = 0 ]; then rm -rf -- "$REMOVE"; fi
exit $status`

// Config describes one run of a server.
type Config struct {
	Binaries Binaries
	User     *User             // runs the server; must own Dir
	Dir      string            // absolute; an initialised data directory
	Port     int               // on 127.0.0.1
	Settings map[string]string // as in postgresql.conf, over the file's
	Log      string            // file the server's log is appended to; must be writable for this process, not for User
	Remove   string            // directory to remove once the server was stopped, however this process ends; empty: none
}

// Server is a running server. All methods may be called at once from several goroutines.
type Server struct {
	cfg    Config
	cmd    *exec.Cmd
	leash  *os.File // closing it stops the server
	done   chan struct{}
	err    error // why the keeper ended; set before done closes
	unhook sync.Once
}

// Start runs a server and returns when it accepts connections, or with an error and nothing left running when it does
// not before ctx ends. The error carries the end of the server's log.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if os.Geteuid() == 0 && cfg.User == nil {
		return nil, errors.New("start PostgreSQL: root needs a user to run it as")
	}
	log, err := os.OpenFile(cfg.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	defer log.Close()
	logged, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	held, leash, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	defer held.Close()

	s := &Server{cfg: cfg, leash: leash, done: make(chan struct{})}
	s.cmd = exec.Command("/bin/sh", append([]string{"-c", keeper, "postgres-keeper", filepath.Join(cfg.Binaries.Bin, "postgres")}, cfg.args()...)...)
	cfg.User.prepare(s.cmd)
	s.cmd.Env = append(s.cmd.Env, "REMOVE="+cfg.Remove)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.ExtraFiles = []*os.File{held}
	if err := s.cmd.Start(); err != nil {
		leash.Close()
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	go func() {
		s.err = s.cmd.Wait()
		s.release()
		close(s.done)
	}()
	if err := s.awaitReady(ctx); err != nil {
		s.abort()
		return nil, fmt.Errorf("start PostgreSQL on port %d: %w; its log ends with: %s", cfg.Port, err, tail(cfg.Log, logged))
	}
	return s, nil
}

func (cfg Config) args() []string {
	settings := map[string]string{"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "logging_collector": "off"}
	maps.Copy(settings, cfg.Settings)
	args := []string{"-D", cfg.Dir, "-p", strconv.Itoa(cfg.Port)}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", name+"="+settings[name])
	}
	return args
}

// awaitReady waits until the server writes "ready" into its pid file, which is what pg_ctl -w waits for.
func (s *Server) awaitReady(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if pid, err := readPidFile(s.cfg.Dir); err == nil && pid.ready && pid.port == s.cfg.Port && alive(pid.pid) {
			return nil
		}
		select {
		case <-tick.C:
		case <-s.done:
			return errors.New("the server ended")
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Done is closed when the server has ended, whatever the reason.
func (s *Server) Done() <-chan struct{} { return s.done }

// Pid returns the process id of the server, or an error when it is not running.
func (s *Server) Pid() (int, error) {
	select {
	case <-s.done:
		return 0, errors.New("PostgreSQL is not running")
	default:
	}
	pid, err := readPidFile(s.cfg.Dir)
	return pid.pid, err
}

// Stop shuts the server down: it ends the sessions, writes a checkpoint and exits. When ctx ends first it is told to quit at
// once and recovers at its next start; nothing committed is lost either way. Returns when the server is gone.
func (s *Server) Stop(ctx context.Context) error {
	s.release()
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
	}
	if pid, err := s.Pid(); err == nil {
		_ = syscall.Kill(pid, syscall.SIGQUIT) // an error means that it is gone, which is what done tells
	}
	<-s.done
	return fmt.Errorf("stop PostgreSQL in order: %w", context.Cause(ctx))
}

// abort stops a server that never became ready, by force after 10 s.
func (s *Server) abort() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_ = s.Stop(ctx) // its error would hide why the start did not succeed
}

func (s *Server) release() { s.unhook.Do(func() { s.leash.Close() }) }

// tail returns what was added to the log file since from, the last 4 KiB at most.
func tail(path string, from int64) []byte {
	data, err := os.ReadFile(path)
	if err != nil || int64(len(data)) < from {
		return nil
	}
	data = data[from:]
	return data[max(0, len(data)-4096):]
}
