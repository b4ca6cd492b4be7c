package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/maxviazov/audittrail/internal/devcerts"
)

// certs makes certificates and returns the path of a file of theirs.
func certs(t *testing.T) func(name string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "certs")
	if _, err := devcerts.Write(devcerts.Options{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	return func(name string) string { return filepath.Join(dir, name) }
}

func TestWhatLeavesTheMachineIsEncryptedAndVerified(t *testing.T) {
	file := certs(t)
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("s3cr3t\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tokens := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(tokens, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	kafka, away := "kafka.brokers=localhost:1", "kafka.brokers=kafka.example:1"
	tests := []struct {
		role Role
		set  string // key=value, separated by spaces
		want string // part of the error; empty: accepted
	}{
		{Emitter, away, "kafka.tls.enabled: false, and kafka.example:1 is not on this machine"},
		{Emitter, away + " insecure=true", ""},
		{Emitter, away + " kafka.tls.enabled=true", ""},
		{Topics, "kafka.brokers=127.0.0.1:1,[::1]:2,10.1.2.3:9", "10.1.2.3:9 is not on this machine"},
		{Emitter, kafka + " kafka.tls.ca_file=" + file("ca.crt"), "kafka.tls.enabled: false, so that"},
		{Emitter, kafka + " kafka.tls.enabled=true kafka.tls.cert_file=" + file("emitter.crt"), "kafka.tls.cert_file and kafka.tls.key_file belong together"},
		{Emitter, kafka + " kafka.tls.enabled=true kafka.tls.ca_file=" + file("ca.key"), "kafka.tls.ca_file " + file("ca.key") + ": holds a PRIVATE KEY"},
		{Emitter, kafka + " kafka.tls.enabled=true kafka.tls.ca_file=/nowhere", "kafka.tls.ca_file: open /nowhere"},
		{Emitter, kafka + " kafka.tls.enabled=true kafka.tls.cert_file=" + file("emitter.crt") + " kafka.tls.key_file=" + file("sink.key"), "does not match"},
		{Emitter, kafka + " kafka.sasl.mechanism=scram-sha-512", "kafka.sasl.username: kafka.sasl.mechanism needs it"},
		{Emitter, kafka + " kafka.sasl.mechanism=scram-sha-512 kafka.sasl.username=u", "kafka.sasl.password_file: kafka.sasl.mechanism needs it"},
		{Emitter, kafka + " kafka.sasl.mechanism=scram-sha-512 kafka.sasl.username=u kafka.sasl.password_file=" + password, ""},
		{Emitter, kafka + " kafka.sasl.mechanism=plain", `"plain" is none of none, scram-sha-256, scram-sha-512`},
		{Emitter, kafka + " kafka.sasl.username=u", "kafka.sasl.mechanism: none, so that"},
		{Emitter, kafka + " redis.addr=redis.example:1", "redis.tls.enabled: false, and redis.example:1"},
		{Emitter, kafka + " redis.addr=redis.example:1 redis.tls.enabled=true redis.tls.ca_file=" + file("ca.crt"), ""},
		{Emitter, kafka + " redis.addr=localhost:1 redis.username=u", "redis.password_file: redis.username needs it"},
		{Emitter, kafka + " tls.cert_file=" + file("emitter.crt"), "tls.cert_file and tls.key_file belong together"},
		{Emitter, kafka + " tls.cert_file=" + file("emitter.crt") + " tls.key_file=" + file("emitter.key") + " tls.client_auth=required", "tls.ca_file: tls.client_auth is required and needs it"},
		{Emitter, kafka + " tls.client_auth=required", "without tls.cert_file there is no TLS"},
		{Emitter, kafka + " tls.cert_file=" + file("emitter.crt") + " tls.key_file=" + file("emitter.key") + " tls.ca_file=" + file("ca.crt"), "tls.client_auth: none, so that tls.ca_file does nothing"},
		{Emitter, kafka + " emitter.grpc_listen=0.0.0.0:1 tls.cert_file=" + file("emitter.crt") + " tls.key_file=" + file("emitter.key") + " tls.ca_file=" + file("ca.crt") + " tls.client_auth=required", ""},
		{Emitter, kafka + " emitter.grpc_listen=0.0.0.0:1 tls.cert_file=" + file("emitter.crt") + " tls.key_file=" + file("emitter.key"), "emitter.grpc_listen: 0.0.0.0:1 is not a loopback address"},

		{Emitter, kafka + " emitter.grpc_listen=0.0.0.0:1 auth.tokens_file=" + tokens + " tls.cert_file=" + file("emitter.crt") + " tls.key_file=" + file("emitter.key"), ""},
		{Emitter, kafka + " emitter.grpc_listen=0.0.0.0:1 auth.tokens_file=" + tokens, "emitter.grpc_listen: 0.0.0.0:1 is not a loopback address"},
		{Emitter, kafka + " auth.tokens_file=" + password, "auth.tokens_file: " + password + ": line 1: 1 fields"},
		{Emitter, kafka + " auth.tokens_file=/nowhere", "auth.tokens_file: open /nowhere"},
		{Emitter, kafka + " auth.certificates=cn:x", "auth.certificates: tls.client_auth is none"},
		{Emitter, kafka + " auth.certificates=dns:*", `auth.certificates: "dns:*": must be dns:NAME`},
		{Emitter, kafka + " auth.oidc.issuer=https://i.example", "auth.oidc.audience: auth.oidc.issuer needs it"},
		{Emitter, kafka + " auth.oidc.audience=a", "auth.oidc.issuer: needed"},
		{Emitter, kafka + " auth.oidc.issuer=http://i.example auth.oidc.audience=a", "auth.oidc.issuer: \"http://i.example\" is no https URL"},
		{Emitter, kafka + " auth.oidc.issuer=https://i.example auth.oidc.audience=a", ""},
		{Sink, kafka + " postgres.dsn=postgres://localhost/d metrics.listen=0.0.0.0:1 auth.tokens_file=" + tokens, "metrics.listen: 0.0.0.0:1 is not a loopback address"},

		{Sink, kafka + " postgres.dsn=postgres://db.example/d?sslmode=verify-full", ""},
		{Sink, kafka + " postgres.dsn=postgres://db.example/d", "postgres.dsn: neither verifies the server"},
		{Sink, kafka + " postgres.dsn=postgres://db.example/d?sslmode=require", "postgres.dsn: neither verifies the server"},
		{Sink, kafka + " postgres.dsn=postgres://db.example/d?sslmode=prefer", "postgres.dsn: neither verifies the server"},
		{Sink, kafka + " postgres.dsn=postgres://db.example/d?sslmode=verify-ca&sslrootcert=" + file("ca.crt"), "postgres.dsn: neither verifies the server"},
		{Sink, kafka + " postgres.dsn=postgres://db.example/d?sslmode=disable insecure=true", ""},
		{Sink, kafka + " postgres.dsn=postgres://localhost,db.example/d?sslmode=disable", "postgres.dsn: neither verifies the server"},
		{Sink, kafka + " postgres.dsn=postgres://localhost/d?sslmode=disable", ""},
		{Sink, kafka + " postgres.dsn=postgres://db.example/d?sslmode=verify-full&sslrootcert=/nowhere", "postgres.dsn: its TLS settings cannot be used"},
		{Sink, kafka + " postgres.dsn=postgres://db.example/d?sslmode=verify-full postgres.tls.ca_file=" + file("ca.crt"), ""},
		{Migrate, "postgres.migrate_dsn=postgres://db.example/d", "postgres.migrate_dsn: neither verifies the server"},
	}
	for _, tt := range tests {
		var env []string
		for set := range strings.FieldsSeq(tt.set) {
			name, value, _ := strings.Cut(set, "=")
			env = append(env, EnvName(name)+"="+value)
		}
		_, err := load(t, tt.role, "", env)
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s %s: %v", tt.role, tt.set, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s %s: %v, want %q", tt.role, tt.set, err, tt.want)
		}
	}
}

func TestAnExpiredCertificateIsRefusedAtTheStart(t *testing.T) {
	ca, err := devcerts.NewCA("ca", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Issue(devcerts.Request{Name: "old", NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, b := range map[string][]byte{"c": pair.Cert, "k": pair.Key} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := load(t, All, "", nil, "--tls-cert-file="+filepath.Join(dir, "c"), "--tls-key-file="+filepath.Join(dir, "k")); err == nil || !strings.Contains(err.Error(), "tls.cert_file "+dir+"/c: the certificate expired on ") {
		t.Errorf("Load = %v", err)
	}
}

func TestDSNsAreCompletedWithTheFilesOfTheConfiguration(t *testing.T) {
	c := &Config{}
	c.Postgres.TLS.CAFile, c.Postgres.TLS.CertFile, c.Postgres.TLS.KeyFile = "/ca's", "/c", "/k"
	for dsn, want := range map[string]string{
		"": "", "postgres://h/d?sslmode=verify-full": "postgres://h/d?sslcert=%2Fc&sslkey=%2Fk&sslmode=verify-full&sslrootcert=%2Fca%27s",
		"host=h sslmode=verify-full":                      `host=h sslmode=verify-full sslrootcert='/ca\'s' sslcert='/c' sslkey='/k'`,
		"postgres://h/d?sslrootcert=x&sslcert=y&sslkey=z": "postgres://h/d?sslrootcert=x&sslcert=y&sslkey=z",
		"host=h sslrootcert = x":                          "host=h sslrootcert = x sslcert='/c' sslkey='/k'",
	} {
		if got := c.completeDSN(dsn); got != want {
			t.Errorf("completeDSN(%q) = %q, want %q", dsn, got, want)
		}
	}
}
