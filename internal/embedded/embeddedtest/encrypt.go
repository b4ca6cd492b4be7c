package embeddedtest

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/maxviazov/audittrail/internal/embedded/pgserver"
)

// Encrypt makes the server refuse connections that are not encrypted or whose client has no certificate of the CAs (all PEM); called again, it
// changes the certificate. Sessions that exist stay.
func (s *Server) Encrypt(tb testing.TB, cert, key, cas []byte) {
	tb.Helper()
	user, err := pgserver.Unprivileged()
	if err != nil {
		tb.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"server.crt": cert, "server.key": key, "clients.crt": cas,
		"pg_hba.conf": []byte("hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-ca\n"),
	} {
		path := filepath.Join(s.dir, name)
		if err := os.WriteFile(path+".new", content, 0o600); err != nil {
			tb.Fatal(err)
		}
		if err := user.Own(path + ".new"); err != nil {
			tb.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			tb.Fatal(err)
		}
	}
	if s.encrypted {
		pid, err := s.run.Pid()
		if err != nil {
			tb.Fatal(err)
		}
		process, err := os.FindProcess(pid)
		if err != nil {
			tb.Fatal(err)
		}
		if err := process.Signal(syscall.SIGHUP); err != nil {
			tb.Fatal(err)
		}
		return
	}
	for _, sql := range []string{"ALTER SYSTEM SET ssl = on", "ALTER SYSTEM SET ssl_ca_file = 'clients.crt'", "ALTER SYSTEM SET ssl_min_protocol_version = 'TLSv1.3'", "SELECT pg_reload_conf()"} {
		if err := s.exec(sql); err != nil {
			tb.Fatal(err)
		}
	}
	s.encrypted = true
	for deadline := time.Now().Add(10 * time.Second); s.exec("SELECT 1") == nil; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatal("PostgreSQL still takes plaintext")
		}
	}
}

// EncryptedDSN is DSN for a server that Encrypt was called on; the files of the client are added by the caller.
func (s *Server) EncryptedDSN() string {
	u, err := url.Parse(s.DSN())
	if err != nil {
		panic(fmt.Sprintf("our own DSN: %v", err))
	}
	u.RawQuery = "sslmode=verify-full"
	return u.String()
}
