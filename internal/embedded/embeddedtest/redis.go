package embeddedtest

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
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
	args []string                 // further ones of redis-server
	dial func() (net.Conn, error) // nil: plaintext
	stop func()                   // nil while stopped
}

// NewRedis is Redis for tests that stop the server on the way.
func NewRedis(tb testing.TB) *RedisServer {
	tb.Helper()
	return newRedis(tb, new(RedisServer))
}

// RedisTLS starts a server that speaks TLS only, to clients with a certificate of the CA: paths of PEM files. acl are lines such as
// "user default off". ping connects to it as a client may.
func RedisTLS(tb testing.TB, cert, key, ca string, acl []string, ping func(addr string) (net.Conn, error)) *RedisServer {
	tb.Helper()
	users := filepath.Join(tb.TempDir(), "users.acl")
	if err := os.WriteFile(users, []byte(strings.Join(acl, "\n")+"\n"), 0o600); err != nil {
		tb.Fatal(err)
	}
	s := &RedisServer{args: []string{"--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", ca, "--tls-auth-clients", "yes",
		"--tls-protocols", "TLSv1.3", "--aclfile", users}}
	s.dial = func() (net.Conn, error) { return ping(s.Addr()) }
	return newRedis(tb, s)
}

func newRedis(tb testing.TB, s *RedisServer) *RedisServer {
	tb.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		const hint = "redis-server is not installed (apt-get install redis-server)"
		if os.Getenv("CI") == "true" {
			tb.Fatal(hint)
		}
		tb.Skip(hint)
	}
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
	port := []string{"--port", strconv.Itoa(s.port)}
	if s.dial != nil {
		port = []string{"--port", "0", "--tls-port", strconv.Itoa(s.port)}
	}
	args := append([]string{"-c", redisKeeper, "redis-keeper", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", tb.TempDir()}, port...)
	cmd := exec.Command("/bin/sh", append(args, s.args...)...)
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
	if err := s.await(); err != nil {
		stop()
		return fmt.Errorf("%w: %s", err, out)
	}
	s.stop = stop
	return nil
}

// await waits until the server answers a PING.
func (s *RedisServer) await() error {
	var err error
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if err = s.ping(); err == nil {
			return nil
		}
	}
	return err
}

func (s *RedisServer) ping() error {
	dial := s.dial
	if dial == nil {
		dial = func() (net.Conn, error) { return net.DialTimeout("tcp", s.Addr(), time.Second) }
	}
	conn, err := dial()
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
	if err == nil && answer != "+PONG\r\n" && (s.dial == nil || !strings.HasPrefix(answer, "-NOAUTH")) {
		err = fmt.Errorf("answer to PING: %q", answer)
	}
	return err
}
