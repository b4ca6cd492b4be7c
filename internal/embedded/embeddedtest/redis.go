package embeddedtest

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/maxviazov/audittrail/internal/embedded/pgserver"
)

// redisKeeper runs redis-server until its standard input, a pipe to the test process, closes.
const redisKeeper = `redis-server "$@" </dev/null & server=$!
cat >/dev/null
kill -KILL $server
wait $server 2>/dev/null`

// Redis starts an empty redis-server for the test, without persistence, and returns its address as host:port. Without the
// program the test is skipped, or fails when CI=true.
func Redis(tb testing.TB) string {
	tb.Helper()
	return NewRedis(tb).Addr()
}

// RedisServer is a redis-server that a test can stop and start again, empty, on the same port.
type RedisServer struct {
	port int
	stop func() // nil while stopped
}

// NewRedis is Redis for tests that stop the server on the way.
func NewRedis(tb testing.TB) *RedisServer {
	tb.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		const hint = "redis-server is not installed (apt-get install redis-server)"
		if os.Getenv("CI") == "true" {
			tb.Fatal(hint)
		}
		tb.Skip(hint)
	}
	s := new(RedisServer)
	tb.Cleanup(s.Stop)
	// A free port may be taken by somebody else before the server has it.
	for try := 0; ; try++ {
		var err error
		if s.port, err = pgserver.FreePort(); err != nil {
			tb.Fatal(err)
		}
		if err = s.start(tb); err == nil {
			return s
		}
		if try == 2 {
			tb.Fatalf("start redis-server: %v", err)
		}
	}
}

// Addr is the server's address, host:port.
func (s *RedisServer) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Stop kills the server.
func (s *RedisServer) Stop() {
	if s.stop != nil {
		s.stop()
		s.stop = nil
	}
}

// Start starts the server again after Stop.
func (s *RedisServer) Start(tb testing.TB) {
	tb.Helper()
	if err := s.start(tb); err != nil {
		tb.Fatalf("start redis-server: %v", err)
	}
}

func (s *RedisServer) start(tb testing.TB) error {
	out := new(strings.Builder)
	cmd := exec.Command("/bin/sh", "-c", redisKeeper, "redis-keeper",
		"--port", strconv.Itoa(s.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", tb.TempDir())
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a Ctrl-C is for the test, which then takes the server with it
	leash, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	stop := func() {
		leash.Close()
		_ = cmd.Wait() // its status is that of the kill
	}
	if err := awaitRedis(s.Addr()); err != nil {
		stop()
		return fmt.Errorf("%w: %s", err, out)
	}
	s.stop = stop
	return nil
}

// awaitRedis waits until the server answers a PING.
func awaitRedis(addr string) error {
	var err error
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if err = ping(addr); err == nil {
			return nil
		}
	}
	return err
}

func ping(addr string) error {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil && answer != "+PONG\r\n" {
		err = fmt.Errorf("answer to PING: %q", answer)
	}
	return err
}
