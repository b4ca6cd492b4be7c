package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

func load(t *testing.T, role Role, file string, env []string, args ...string) (*Config, error) {
	t.Helper()
	src := Source{Env: env}
	if file != "" {
		src.File = filepath.Join(t.TempDir(), "audittrail.yaml")
		if err := os.WriteFile(src.File, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	src.Flags = pflag.NewFlagSet("test", pflag.ContinueOnError)
	AddFlags(src.Flags, role)
	if err := src.Flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return Load(role, src)
}

func TestDefaultsOfEveryRoleAreWithinTheirBounds(t *testing.T) {
	env := []string{"AUDITTRAIL_KAFKA_BROKERS=localhost:9092", "AUDITTRAIL_POSTGRES_DSN=postgres://localhost/audittrail"}
	for _, role := range []Role{None, All, Emitter, Enricher, Sink, Gateway, Topics, Migrate, Retention} {
		if _, err := load(t, role, "", env); err != nil {
			t.Errorf("%s: %v", role, err)
		}
	}
}

func TestLaterSourcesWinAndOriginsAreKept(t *testing.T) {
	file := "kafka:\n  brokers: [a:1, b:2]\nsink:\n  batch_rows: 100\n  batch_age: 50ms\n  batch_bytes: 2MiB\n"
	env := []string{"AUDITTRAIL_SINK_BATCH_ROWS=200", "AUDITTRAIL_SINK_BATCH_AGE=60ms", "AUDITTRAIL_POSTGRES_DSN=postgres://h/d", "AUDITTRAIL_LOG_LEVEL=", "AUDITTRAIL_INSECURE=true"}
	c, err := load(t, Sink, file, env, "--sink-batch-rows=300")
	if err != nil {
		t.Fatal(err)
	}
	if c.Sink.BatchRows != 300 || c.Sink.BatchAge != 60*time.Millisecond || c.Sink.BatchBytes != 2<<20 || strings.Join(c.Kafka.Brokers, " ") != "a:1 b:2" || c.Log.Level != "info" {
		t.Errorf("got %+v", c)
	}
	want := map[string]string{"sink.batch_rows": "flag --sink-batch-rows", "sink.batch_age": "environment AUDITTRAIL_SINK_BATCH_AGE", "kafka.brokers": "file ", "log.level": "default"}
	for _, s := range c.Settings() {
		if w := want[s.Key]; w != "" && !strings.HasPrefix(s.Origin, w) {
			t.Errorf("origin of %s = %q, want %q", s.Key, s.Origin, w)
		}
	}
}

func TestUnknownKeysAreNamedWithTheNearest(t *testing.T) {
	_, err := load(t, All, "kafka:\n  partition: 3\n", []string{"AUDITTRAIL_SINK_BATCHROWS=1", "AUDITTRAIL_ADDR=x", "AUDITTRAIL_MUTATION=y", "AUDITTRAIL_TEST_PG=15", "HOME=/"})
	for _, want := range []string{"unknown key kafka.partition in ", "did you mean kafka.partitions?", "unknown environment variable AUDITTRAIL_SINK_BATCHROWS, did you mean AUDITTRAIL_SINK_BATCH_ROWS?"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Load = %v, want %q", err, want)
		}
	}
	var p *Problems
	if !errors.As(err, &p) || len(p.Unwrap()) != 2 {
		t.Errorf("Load = %v, want two problems", err)
	}
}

func TestAllProblemsAreReportedAtOnce(t *testing.T) {
	_, err := load(t, Sink, "sink:\n  batch_rows: many\n  batch_age: 2s\n  batch_bytes: 1XB\nlog:\n  level: loud\ninsecure: maybe\n", nil)
	for _, want := range []string{
		`sink.batch_rows: "many" is no whole number (file `, "sink.batch_age: 2s is not 1ms to 1s", `sink.batch_bytes: "1XB" is no size`,
		`log.level: "loud" is none of debug, info, warn, error`, `insecure: "maybe" is neither true nor false`,
		"kafka.brokers: sink needs it", "postgres.dsn: sink needs it",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Load = %v\nwant %q", err, want)
		}
	}
}

func TestListeningOffLoopbackNeedsInsecure(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:7480", ":7480", "192.0.2.1:1", "[::]:1", "example.com:1"} {
		if _, err := load(t, All, "", nil, "--grpc-listen="+addr); err == nil || !strings.Contains(err.Error(), "--insecure") {
			t.Errorf("%s: %v, want it refused", addr, err)
		}
		if _, err := load(t, All, "", nil, "--grpc-listen="+addr, "--insecure"); err != nil {
			t.Errorf("%s with --insecure: %v", addr, err)
		}
	}
	for _, addr := range []string{"127.0.0.1:1", "127.8.9.1:1", "[::1]:1", "localhost:1"} {
		if _, err := load(t, All, "", nil, "--grpc-listen="+addr); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}
	if _, err := load(t, All, "", nil, "--insecure", "--kafka-listen=0.0.0.0:9092"); err == nil {
		t.Error("the embedded broker may never leave loopback")
	}
}

func TestEmbeddedBrokerHasALayoutOfItsOwn(t *testing.T) {
	c, err := load(t, All, "", nil, "--kafka-partitions=2")
	if err != nil || c.Kafka.Partitions != 2 || c.Kafka.Replication != 1 || c.Kafka.MinInsync != 1 {
		t.Errorf("got %+v, %v", c, err)
	}
	c, err = load(t, All, "", []string{"AUDITTRAIL_KAFKA_BROKERS=localhost:9092"})
	if err != nil || c.Kafka.Partitions != 12 || c.Kafka.Replication != 3 {
		t.Errorf("got %+v, %v", c, err)
	}
	if problems := c.Layout().Validate(); len(problems) > 0 {
		t.Error(problems)
	}
}

func TestSecretsAreNeverPrinted(t *testing.T) {
	const secret = "s3cr3t"
	for _, dsn := range []string{
		"postgres://u:s3cr3t@h/d", "postgresql://u@h/d?password=s3cr3t&sslmode=disable", "host=h user=u password=s3cr3t dbname=d",
		"host=h password = 's3cr3t \\' s3cr3t' dbname=d", "POSTGRES://u:s3cr3t@h:x/d", "postgres://u:s3cr3t@h/%zz", "password=s3cr3t port=x",
	} {
		c, err := load(t, Gateway, "", []string{"AUDITTRAIL_POSTGRES_DSN=" + dsn, "AUDITTRAIL_KAFKA_BROKERS=localhost:9092"})
		if err != nil {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("error shows the secret: %v", err)
			}
			continue
		}
		var b strings.Builder
		if err := c.Print(&b); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(b.String(), secret) || !strings.Contains(b.String(), "REDACTED") {
			t.Errorf("%q is printed as\n%s", dsn, b.String())
		}
	}
	if got := redactDSN("host=h user=u dbname=d"); got != "host=h user=u dbname=d" {
		t.Errorf("without a secret: %q", got)
	}
}

func TestSizesReadTheirOwnForm(t *testing.T) {
	var n int64
	v := sizeValue{&n, 0, 1 << 40}
	for text, want := range map[string]int64{"0": 0, "17": 17, "1KiB": 1024, "64 MiB": 64 << 20, "3GiB": 3 << 30, "5B": 5} {
		if err := v.Set(text); err != nil || n != want {
			t.Errorf("Set(%q) = %d, %v, want %d", text, n, err, want)
		}
		if err := v.Set(v.String()); err != nil || n != want {
			t.Errorf("Set(String()) of %q = %d, %v", text, n, err)
		}
	}
	for _, text := range []string{"", "-1", "1.5MiB", "MiB", "9999999999GiB"} {
		if err := v.Set(text); err == nil {
			t.Errorf("Set(%q) was accepted as %d", text, n)
		}
	}
}

func TestFlagsAndVariablesAreUnique(t *testing.T) {
	flags, vars := map[string]bool{}, map[string]bool{}
	for _, k := range keys {
		if flags[FlagName(k.name)] || vars[EnvName(k.name)] {
			t.Errorf("%s has the flag or variable of another key", k.name)
		}
		flags[FlagName(k.name)], vars[EnvName(k.name)] = true, true
	}
}

func TestSuspiciousSettingsAreExplained(t *testing.T) {
	for _, tt := range []struct {
		role Role
		args []string
		want string
	}{
		{All, nil, ""},
		{All, []string{"--insecure", "--grpc-listen=0.0.0.0:1"}, "grpc_listen is 0.0.0.0:1 without TLS"},
		{Emitter, []string{"--kafka-brokers=localhost:1"}, ""},
		{Emitter, []string{"--insecure", "--kafka-brokers=localhost:1,a:1"}, "kafka.tls.enabled is false: the network between here and a:1"},
		{Sink, []string{"--insecure", "--kafka-brokers=localhost:1", "--postgres-dsn=postgres://h/d"}, "postgres.dsn has no sslmode=verify-full"},
		{Emitter, []string{"--insecure", "--kafka-brokers=localhost:1", "--redis-addr=r:1"}, "redis.tls.enabled is false"},
		{Emitter, []string{"--kafka-brokers=localhost:1", "--kafka-replication=1", "--kafka-min-insync-replicas=1"}, "kafka.replication is 1"},
		{Topics, []string{"--kafka-brokers=localhost:1", "--kafka-min-insync-replicas=1"}, "kafka.min_insync_replicas is 1"},
	} {
		c, err := load(t, tt.role, "", nil, tt.args...)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(c.Warnings(tt.role), "\n"); !strings.Contains(got, tt.want) || (tt.want == "") != (got == "") {
			t.Errorf("%s %v: %q, want %q", tt.role, tt.args, got, tt.want)
		}
	}
}
