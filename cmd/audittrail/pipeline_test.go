package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"

	"github.com/maxviazov/audittrail/internal/embedded/embeddedtest"
	"github.com/maxviazov/audittrail/proto/stream"
)

// installation is Kafka, PostgreSQL and the four roles, each as its command runs it, in this process.
type installation struct {
	brokers []string
	dsn     string
	emitter string // gRPC addresses
	gateway string
}

func newInstallation(t *testing.T) *installation {
	t.Helper()
	i := &installation{brokers: embeddedtest.Kafka(t), dsn: embeddedtest.Postgres(t), emitter: freeAddr(t), gateway: freeAddr(t)}
	for name, value := range map[string]string{
		"KAFKA_BROKERS": strings.Join(i.brokers, ","), "KAFKA_PARTITIONS": "3", "KAFKA_REPLICATION": "1", "KAFKA_MIN_INSYNC_REPLICAS": "1",
		"POSTGRES_DSN": i.dsn, "POSTGRES_MIGRATE_DSN": i.dsn, "LOG_FORMAT": "json", "ENRICHER_SNAPSHOT_DIR": t.TempDir(),
		"EMITTER_GRPC_LISTEN": i.emitter, "EMITTER_HTTP_LISTEN": "127.0.0.1:0", "GATEWAY_GRPC_LISTEN": i.gateway, "GATEWAY_HTTP_LISTEN": "127.0.0.1:0",
	} {
		t.Setenv("AUDITTRAIL_"+name, value)
	}
	return i
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// role runs a role until the returned function is called, which must find that it ended well.
func role(t *testing.T, name string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	log, done := &transcript{}, make(chan int, 1)
	go func() { done <- run(ctx, []string{name}, strings.NewReader(""), log, log) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case code := <-done:
			if code != exitOK {
				t.Errorf("%s: exit code %d", name, code)
			}
		case <-time.After(time.Minute):
			t.Errorf("%s does not end", name)
		}
		if t.Failed() {
			t.Logf("%s:\n%s", name, log.String())
		}
	}
	t.Cleanup(stop)
	return stop
}

func TestRolesAloneMakeOnePipeline(t *testing.T) {
	i := newInstallation(t)
	r := command(t, "", "topics", "check").mustBe(t, exitRefused)
	if !strings.Contains(r.out, "topic audit-events: topic is missing, must be there") {
		t.Errorf("topics check: %s", r.out)
	}
	command(t, "", "topics", "apply").mustBe(t, exitOK)
	command(t, "", "topics", "check").mustBe(t, exitOK)
	if r := command(t, "", "doctor").mustBe(t, exitRefused); !strings.Contains(r.out, "BAD   schema") || !strings.Contains(r.out, "audittrail migrate") {
		t.Errorf("doctor before the migration: %s", r.out)
	}
	command(t, "", "migrate").mustBe(t, exitOK)
	if r := command(t, "", "doctor"); !strings.Contains(r.out, "ok    schema") || !strings.Contains(r.out, "BAD   append-only") {
		t.Errorf("doctor does not see that a superuser stores: %s", r.out)
	}

	role(t, "gateway")
	role(t, "enricher")
	role(t, "sink")
	stopEmitter := role(t, "emitter")

	// Before the emitter is connected to Kafka it answers UNAVAILABLE, and the client tries again.
	command(t, "", "demo", "--rate", "1000", "--events", "300", "--addr", i.emitter).mustBe(t, exitOK)
	lines := `{"source":"acme/api","idempotencyKey":"k1","occurredAt":"2024-01-01T00:00:00Z","action":"user.login","actor":{"id":"eve\u001b[31m"},"outcome":"OUTCOME_DENIED"}
{"source":"acme/api","idempotencyKey":"k1","occurredAt":"2024-01-01T00:00:00Z","action":"user.login","actor":{"id":"eve\u001b[31m"},"outcome":"OUTCOME_DENIED"}
{"source":"acme//api","action":"user.login"}

{"source":"acme/api"`
	r = command(t, lines, "emit", "--addr", i.emitter).mustBe(t, exitRefused)
	if ids := r.lines(); len(ids) != 2 || ids[0] != ids[1] {
		t.Errorf("emit printed %q, want the same id twice", ids)
	}
	if !strings.Contains(r.errors, "line 3: source ") || !strings.Contains(r.errors, "line 5: ") || !strings.Contains(r.errors, "2 events rejected") {
		t.Errorf("emit said %s", r.errors)
	}

	if r := command(t, "", "status", "--wait", "--addr", i.gateway).mustBe(t, exitOK); !strings.Contains(r.out, "stored 301, duplicates 1, dead letters 0, open gaps 0; everything acknowledged is stored") {
		t.Errorf("status: %s", r.out)
	}
	if rows := command(t, "", "events", "list", "--limit", "0", "--filter", `source:"acme/*"`, "-o", "csv", "--addr", i.gateway).mustBe(t, exitOK).lines(); len(rows) != 302 {
		t.Errorf("%d rows of CSV, want 301 and the title", len(rows))
	}
	table := command(t, "", "events", "list", "--filter", `occurred_at<"2025-01-01T00:00:00Z"`, "--addr", i.gateway).mustBe(t, exitOK).out
	if strings.Contains(table, "\x1b") || !strings.Contains(table, `eve\u001b[31m`) {
		t.Errorf("the table lets a record speak to the terminal: %q", table)
	}
	command(t, "", "events", "get", "01890000-0000-7000-8000-000000000000", "--addr", i.gateway).mustBe(t, exitRefused)

	command(t, "", "sources", "set", "acme/api", "--owner", "team-a", "--retention-days", "30", "--addr", i.gateway).mustBe(t, exitOK)
	var source struct{ Registration struct{ Owner string } }
	if err := json.Unmarshal([]byte(command(t, "", "sources", "get", "acme/api", "-o", "json", "--addr", i.gateway).mustBe(t, exitOK).out), &source); err != nil || source.Registration.Owner != "team-a" {
		t.Errorf("sources get: %+v, %v", source, err)
	}

	followAndResume(t, i)
	produceRubbish(t, i.brokers)
	command(t, "", "status", "--wait", "--addr", i.gateway).mustBe(t, exitOK)
	if r := command(t, "", "deadletters", "list", "--pending", "--addr", i.gateway).mustBe(t, exitOK); !strings.Contains(r.out, "UNDECODABLE") {
		t.Errorf("deadletters list: %s", r.out)
	}
	if r := command(t, "", "deadletters", "redrive", "--pending", "--addr", i.gateway).mustBe(t, exitOK); r.lastLine() != "sent again 1, failed 0" {
		t.Errorf("redrive: %s", r.out)
	}
	if r := command(t, "", "gaps", "list", "--addr", i.gateway).mustBe(t, exitOK); r.out != "nothing found\n" {
		t.Errorf("gaps list: %s", r.out)
	}
	if r := command(t, "", "topics", "accept-new").mustBe(t, exitOK); !strings.Contains(r.out, "nothing to accept") {
		t.Errorf("accept-new: %s", r.out)
	}

	stopEmitter()
	command(t, "", "emit", "--source", "acme/api", "--action", "x", "--outcome", "lost", "--addr", i.emitter).mustBe(t, exitUsage)
}

// followAndResume: a tail shows what is stored from its start on, and one that resumes misses nothing that was stored in between.
func followAndResume(t *testing.T, i *installation) {
	t.Helper()
	emit := func(action string) {
		command(t, "", "emit", "--source", "acme/tail", "--action", action, "--addr", i.emitter).mustBe(t, exitOK)
	}
	tail := start(t, "events", "tail", "--filter", `source="acme/tail"`, "-o", "jsonl", "--limit", "1", "--addr", i.gateway)
	for n := 0; ; n++ { // until the tail has begun it shows nothing
		emit("first")
		if !strings.Contains(tail.output.String(), `"action":"first"`) && n < 100 {
			select {
			case <-tail.exited:
			case <-time.After(500 * time.Millisecond):
				continue
			}
		}
		break
	}
	if code := tail.code(t); code != exitOK {
		t.Fatalf("tail: exit code %d", code)
	}
	token := tail.await(t, "resume with --resume ")
	emit("second")
	command(t, "", "status", "--wait", "--addr", i.gateway).mustBe(t, exitOK)
	resumed := start(t, "events", "tail", "--filter", `source="acme/tail"`, "--resume", token, "-o", "jsonl", "--addr", i.gateway)
	resumed.await(t, `"action":"second"`)
	resumed.signal(t, os.Interrupt)
	if code := resumed.code(t); code != exitOK {
		t.Errorf("resumed tail: exit code %d", code)
	}
}

func produceRubbish(t *testing.T, brokers []string) {
	t.Helper()
	s := stream.Settings{Brokers: brokers}
	producer, err := sarama.NewSyncProducer(brokers, stream.ProducerConfig(s, stream.Events))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	if _, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: stream.Events, Key: sarama.StringEncoder("acme/api"), Value: sarama.StringEncoder("\x00rubbish")}); err != nil {
		t.Fatal(err)
	}
}

func TestImportAccountsForEveryRecord(t *testing.T) {
	i := newInstallation(t)
	command(t, "", "topics", "apply").mustBe(t, exitOK)
	command(t, "", "migrate").mustBe(t, exitOK)
	for _, name := range []string{"gateway", "enricher", "sink", "emitter"} {
		role(t, name)
	}
	args := []string{"import", "cloudtrail", "testdata/cloudtrail", "--addr", i.emitter, "--gateway-addr", i.gateway}
	for n, want := range []string{"read 9, accepted 6, stored before 1, rejected 2", "read 9, accepted 0, stored before 7, rejected 2"} {
		r := command(t, "", args...).mustBe(t, exitRefused)
		if r.lastLine() != want {
			t.Errorf("import %d ends with %q, want %q", n+1, r.lastLine(), want)
		}
		for _, want := range []string{"second.json.gz, record 2: eventTime", "second.json.gz, record 4: has the source, key and time of an earlier record"} {
			if !strings.Contains(r.errors, want) {
				t.Errorf("import %d says %s\nwant %q", n+1, r.errors, want)
			}
		}
		if !strings.Contains(r.out, "1  context.ip left out") {
			t.Errorf("import %d does not say what did not fit: %s", n+1, r.out)
		}
		command(t, "", "status", "--wait", "--addr", i.gateway).mustBe(t, exitOK)
	}
	rows := command(t, "", "events", "list", "--limit", "0", "-o", "jsonl", "--addr", i.gateway).mustBe(t, exitOK).lines()
	if len(rows) != 6 {
		t.Errorf("%d events stored, want 6", len(rows))
	}
	original, err := os.ReadFile("testdata/cloudtrail/first.json")
	if err != nil {
		t.Fatal(err)
	}
	inFirst := 0
	for _, row := range rows {
		var e struct{ ID, Details string }
		if err := json.Unmarshal([]byte(row), &e); err != nil {
			t.Fatal(err)
		}
		details := command(t, "", "events", "get", e.ID, "--details", "--addr", i.gateway).mustBe(t, exitOK).out
		if details != e.Details {
			t.Errorf("%s: --details differs from the record", e.ID)
		}
		if strings.Contains(string(original), details) {
			inFirst++
		}
	}
	if inFirst != 4 {
		t.Errorf("%d records of first.json are stored byte for byte, want 4", inFirst)
	}

	// Damage costs the records behind it, and says so.
	damaged := filepath.Join(t.TempDir(), "damaged.json")
	if err := os.WriteFile(damaged, original[:len(original)-40], 0o600); err != nil {
		t.Fatal(err)
	}
	r := command(t, "", "import", "cloudtrail", damaged, "--addr", i.emitter, "--gateway-addr", i.gateway).mustBe(t, exitRefused)
	if want := "read 5, accepted 0, stored before 4, rejected 1"; r.lastLine() != want || !strings.Contains(r.errors, "damaged.json, record 5: ") {
		t.Errorf("import of a damaged file: %q, want %q\n%s", r.lastLine(), want, r.errors)
	}
	command(t, "", "import", "cloudtrail", "testdata/nothing", "--addr", i.emitter).mustBe(t, exitUsage)
	command(t, "", "import", "cloudtrail", "testdata/cloudtrail/more/digest.json", "--addr", i.emitter, "--gateway-addr", i.gateway).mustBe(t, exitRefused)
}

// TestImportOfRealLogs runs where the data is there: it is not ours to publish.
func TestImportOfRealLogs(t *testing.T) {
	const dir = "../../../shared/data/cloudtrail"
	if _, err := os.Stat(dir); err != nil {
		t.Skip("no real CloudTrail logs beside the repository")
	}
	_, addr := startAll(t, dataDir(t))
	for n, want := range []string{"read 2122, accepted 2122, stored before 0, rejected 0", "read 2122, accepted 0, stored before 2122, rejected 0"} {
		if r := command(t, "", "import", "cloudtrail", dir, "--addr", addr).mustBe(t, exitOK); r.lastLine() != want {
			t.Errorf("import %d ends with %q, want %q", n+1, r.lastLine(), want)
		}
	}
	if rows := command(t, "", "events", "list", "--limit", "0", "-o", "jsonl", "--addr", addr).mustBe(t, exitOK).lines(); len(rows) != 2122 {
		t.Errorf("%d events stored, want 2122", len(rows))
	}
}

func TestClientsSayThatNobodyAnswers(t *testing.T) {
	addr := freeAddr(t)
	for _, args := range [][]string{{"events", "list"}, {"sources", "list"}, {"status"}, {"gaps", "list"}, {"deadletters", "list"}, {"events", "tail"}, {"status", "--wait", "--timeout", "100ms"}} {
		if r := command(t, "", append(args, "--addr", addr)...); r.code != exitUnavailable {
			t.Errorf("%v: exit code %d, want %d: %s", args, r.code, exitUnavailable, r.errors)
		}
	}
	t.Setenv("AUDITTRAIL_KAFKA_BROKERS", addr)
	if r := command(t, "", "topics", "check"); r.code != exitUnavailable {
		t.Errorf("topics check: exit code %d: %s", r.code, r.errors)
	}
	t.Setenv("AUDITTRAIL_POSTGRES_DSN", fmt.Sprintf("postgres://%s/none", addr))
	if r := command(t, "", "migrate"); r.code != exitUnavailable {
		t.Errorf("migrate: exit code %d: %s", r.code, r.errors)
	}
}
