package tlsfiles

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/maxviazov/audittrail/internal/devcerts"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newCA(t *testing.T) *devcerts.CA {
	t.Helper()
	ca, err := devcerts.NewCA("test CA", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// put writes a certificate of ca, its key, and trust's certificate as what peers must be of.
func put(t *testing.T, dir string, ca, trust *devcerts.CA, r devcerts.Request) Paths {
	t.Helper()
	pair, err := ca.Issue(r)
	if err != nil {
		t.Fatal(err)
	}
	trusted, err := trust.PEM()
	if err != nil {
		t.Fatal(err)
	}
	p := Paths{Cert: filepath.Join(dir, "cert"), Key: filepath.Join(dir, "key"), CA: filepath.Join(dir, "ca")}
	for path, b := range map[string][]byte{p.Cert: pair.Cert, p.Key: pair.Key, p.CA: trusted.Cert} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func loaded(t *testing.T, ca, trust *devcerts.CA, r devcerts.Request) *Files {
	t.Helper()
	f, err := Load("test", put(t, t.TempDir(), ca, trust, r))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// echo serves until the test ends.
func echo(t *testing.T, f *Files, auth ClientAuth) string {
	t.Helper()
	cfg, err := f.Server(auth)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return l.Addr().String()
}

// ask makes a connection and an exchange over it: in TLS 1.3 a client learns only then that its certificate was refused.
func ask(f *Files, name, addr string) (*tls.Conn, error) {
	c, err := (&Dialer{Files: f, ServerName: name, Timeout: 10 * time.Second}).Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return c.(*tls.Conn), exchange(c)
}

func exchange(c net.Conn) error {
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("plaintext")); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 9))
	return err
}

var localhost = devcerts.Request{Name: "server", Hosts: []string{"localhost", "127.0.0.1"}}

func TestPeersMustBeWhoTheyShouldBe(t *testing.T) {
	ours, other := newCA(t), newCA(t)
	server := echo(t, loaded(t, ours, ours, localhost), RequireClientCert)
	past := devcerts.Request{Name: "client", NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(2 * time.Second)}
	expiring := loaded(t, ours, ours, past)
	for name, tt := range map[string]struct {
		client       *Files
		server, addr string
		refused      string // empty: accepted
	}{
		"by address":         {client: loaded(t, ours, ours, devcerts.Request{Name: "client"}), addr: server},
		"by name":            {client: loaded(t, ours, ours, devcerts.Request{Name: "client"}), addr: server, server: "localhost"},
		"another name":       {client: loaded(t, ours, ours, devcerts.Request{Name: "client"}), addr: server, server: "kafka.example", refused: "not kafka.example"},
		"client of other CA": {client: loaded(t, other, ours, devcerts.Request{Name: "client"}), addr: server, refused: "remote error"},
		"server of other CA": {client: loaded(t, ours, other, devcerts.Request{Name: "client"}), addr: server, refused: "unknown authority"},
		"address look-alike": {client: loaded(t, ours, ours, devcerts.Request{Name: "client"}), refused: "cannot validate certificate for 127.0.0.1",
			addr: echo(t, loaded(t, ours, ours, devcerts.Request{Name: "127.0.0.1", Hosts: []string{"127.0.0.1.example", "localhost"}}), NoClientCert)},
		"name look-alike": {client: loaded(t, ours, ours, devcerts.Request{Name: "client"}), server: "kafka.example", refused: "not kafka.example",
			addr: echo(t, loaded(t, ours, ours, devcerts.Request{Name: "kafka.example", Hosts: []string{"kafka.example.evil.example", "xkafka.example"}}), NoClientCert)},
	} {
		c, err := ask(tt.client, tt.server, tt.addr)
		if c != nil {
			c.Close()
		}
		if tt.refused == "" && err != nil || tt.refused != "" && (err == nil || !strings.Contains(err.Error(), tt.refused)) {
			t.Errorf("%s: %v, want %q", name, err, tt.refused)
		}
	}
	none := &Files{use: "test"}
	none.current.Store(&material{cas: loaded(t, ours, ours, localhost).CAs()})
	if c, err := ask(none, "", server); err == nil {
		c.Close()
		t.Error("a client without a certificate was let in")
	}
	if c, err := ask(none, "", echo(t, loaded(t, ours, ours, localhost), OptionalClientCert)); err != nil {
		t.Errorf("an optional certificate is required: %v", err)
	} else {
		c.Close()
	}
	time.Sleep(time.Until(past.NotAfter) + time.Second) // a certificate's life is in whole seconds of real time
	if c, err := ask(expiring, "", server); err == nil {
		c.Close()
		t.Error("a client whose certificate expired after it was loaded was let in")
	}
	plain, err := net.Dial("tcp", server)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if err := exchange(plain); err == nil {
		t.Error("the server answers plaintext")
	}
}

func TestOnlyTLS13IsServed(t *testing.T) {
	ca := newCA(t)
	f := loaded(t, ca, ca, localhost)
	addr := echo(t, f, NoClientCert)
	cfg := f.Client("localhost")
	cfg.MaxVersion = tls.VersionTLS12
	if c, err := tls.Dial("tcp", addr, cfg); err == nil {
		c.Close()
		t.Error("TLS 1.2 was served")
	}
}

func TestReplacedFilesAreUsedAndBrokenOnesAreNot(t *testing.T) {
	ca, next := newCA(t), newCA(t)
	dir := t.TempDir()
	paths := put(t, dir, ca, ca, localhost)
	var log bytes.Buffer
	r := prometheus.NewRegistry()
	w := NewWatcher(time.Hour, zerolog.New(&log), r)
	f, err := w.Open("tls", paths)
	if err != nil {
		t.Fatal(err)
	}
	addr := echo(t, f, NoClientCert)
	works := func(trust *devcerts.CA) error {
		c, err := ask(loaded(t, trust, trust, localhost), "", addr)
		if c != nil {
			c.Close()
		}
		return err
	}
	kept, err := ask(loaded(t, ca, ca, localhost), "", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()

	broken := func(want float64, why string) {
		t.Helper()
		if got := testutil.ToFloat64(w.metrics.broken.WithLabelValues("tls")); got != want {
			t.Errorf("%s: files_broken = %v, want %v", why, got, want)
		}
		if err := works(ca); err != nil {
			t.Errorf("%s: the old certificate is not used any more: %v", why, err)
		}
	}
	good, err := os.ReadFile(paths.Key)
	if err != nil {
		t.Fatal(err)
	}
	for why, content := range map[string][]byte{"empty": nil, "another's key": must(t, next, localhost).Key, "rubbish": []byte("-----BEGIN X")} {
		log.Reset()
		if err := os.WriteFile(paths.Key, content, 0o600); err != nil {
			t.Fatal(err)
		}
		w.look(time.Now())
		broken(0, why+", first look")
		if log.Len() != 0 {
			t.Errorf("%s: complained at the first look: %s", why, log.String())
		}
		w.look(time.Now())
		broken(1, why)
		w.look(time.Now())
		if n := strings.Count(log.String(), "cannot be used"); n != 1 || !strings.Contains(log.String(), "tls.key_file") {
			t.Errorf("%s: said %d times: %s", why, n, log.String())
		}
		if err := os.WriteFile(paths.Key, good, 0o600); err != nil {
			t.Fatal(err)
		}
		w.look(time.Now())
		broken(0, why+", mended")
	}
	if err := os.Remove(paths.Cert); err != nil {
		t.Fatal(err)
	}
	w.look(time.Now())
	w.look(time.Now())
	broken(1, "missing")

	put(t, dir, next, next, localhost)
	w.look(time.Now())
	if err := works(next); err != nil {
		t.Errorf("the new certificate is not used: %v", err)
	}
	if err := works(ca); err == nil {
		t.Error("the old certificate is still used")
	}
	if err := exchange(kept); err != nil {
		t.Errorf("a connection from before the reload broke: %v", err)
	}
	if n := testutil.ToFloat64(w.metrics.reloads.WithLabelValues("tls")); n != 1 {
		t.Errorf("reloads_total = %v, want 1", n)
	}
}

func must(t *testing.T, ca *devcerts.CA, r devcerts.Request) devcerts.Pair {
	t.Helper()
	p, err := ca.Issue(r)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestExpiryIsAGaugeAndWarnedOf(t *testing.T) {
	ca := newCA(t) // an hour left: soon
	var log bytes.Buffer
	w := NewWatcher(time.Hour, zerolog.New(&log), prometheus.NewRegistry())
	r := localhost
	r.NotAfter = time.Now().Add(40 * 24 * time.Hour)
	if _, err := w.Open("kafka.tls", put(t, t.TempDir(), ca, ca, r)); err != nil {
		t.Fatal(err)
	}
	if got := testutil.ToFloat64(w.metrics.expiry.WithLabelValues("kafka.tls", "cert")); int64(got) != r.NotAfter.Unix() {
		t.Errorf("gauge is %v, want %d", got, r.NotAfter.Unix())
	}
	if n := strings.Count(log.String(), "certificate expires soon"); n != 1 || !strings.Contains(log.String(), "/ca") {
		t.Errorf("warned %d times of the CA: %s", n, log.String())
	}
	for at, want := range map[time.Duration]bool{0: false, 31 * 24 * time.Hour: false, 33 * 24 * time.Hour: true} {
		// 40 days: a fifth is 8.
		if got := w.files[0].Expiries()[0].Soon(time.Now().Add(at)); got != want {
			t.Errorf("soon after %s: %v, want %v", at, got, want)
		}
	}
	log.Reset()
	w.look(time.Now().Add(30 * time.Minute))
	if log.Len() != 0 {
		t.Errorf("warned again within the hour: %s", log.String())
	}
	w.look(time.Now().Add(2 * time.Hour))
	if !strings.Contains(log.String(), "certificate has expired") {
		t.Errorf("not warned of an expired CA: %s", log.String())
	}
}
