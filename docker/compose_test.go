// Package docker holds the container image and the compose file; this test checks what can be checked
// of them without containers. `make compose-check` adds the Compose Specification's own loader.
package docker

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/maxviazov/audittrail/internal/config"
)

type composeFile struct {
	Services map[string]service
	Secrets  map[string]struct{ File string }
	Volumes  map[string]any
}

type service struct {
	Image       string
	Command     []string
	Environment map[string]string
	Secrets     []string
	Ports       []string
	Volumes     []string
	Healthcheck struct{ Test []string }
	Build       struct{ Context, Dockerfile string }
	DependsOn   map[string]struct{ Condition string } `yaml:"depends_on"`
}

func load(t *testing.T) composeFile {
	t.Helper()
	text, err := os.ReadFile("compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var c composeFile
	if err := yaml.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c composeFile) roles() map[string]service {
	roles := map[string]service{}
	for name, s := range c.Services {
		if s.Image == "audittrail" {
			roles[name] = s
		}
	}
	return roles
}

// The program itself must accept each role's configuration: it refuses unknown keys and what is missing.
func TestEachRoleAcceptsItsConfiguration(t *testing.T) {
	known := []config.Role{config.Topics, config.Migrate, config.Emitter, config.Enricher, config.Sink, config.Gateway}
	seen := map[config.Role]int{}
	dir := makeSecrets(t)
	for name, s := range load(t).roles() {
		role := config.Role(s.Command[0])
		if !slices.Contains(known, role) {
			t.Errorf("%s runs %q, which is no role", name, s.Command)
			continue
		}
		seen[role]++
		var env []string
		for k, v := range s.Environment {
			// Where the container has the secrets, this machine has none.
			env = append(env, k+"="+strings.ReplaceAll(v, "/run/secrets", dir))
		}
		if _, err := config.Load(role, config.Source{Env: env}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, role := range known {
		want := 1
		if role == config.Enricher || role == config.Sink {
			want = 2
		}
		if seen[role] != want {
			t.Errorf("%d services run %s, want %d", seen[role], role, want)
		}
	}
}

func TestKafkaKeepsThreeCopies(t *testing.T) {
	nodes := 0
	for name, s := range load(t).Services {
		if !strings.HasPrefix(s.Image, "apache/kafka:") {
			continue
		}
		nodes++
		for k, want := range map[string]string{
			"KAFKA_DEFAULT_REPLICATION_FACTOR": "3", "KAFKA_MIN_INSYNC_REPLICAS": "2",
			"KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "3", "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
			"KAFKA_ADVERTISED_LISTENERS": "PLAINTEXT://" + name + ":9092",
			"KAFKA_NODE_ID":              strings.TrimPrefix(name, "kafka-"),
		} {
			if got := s.Environment[k]; got != want {
				t.Errorf("%s: %s is %q, want %q", name, k, got, want)
			}
		}
	}
	if nodes != 3 {
		t.Errorf("%d Kafka nodes, want 3", nodes)
	}
}

func TestServicesAreHealthCheckedAndNotExposed(t *testing.T) {
	c := load(t)
	for name, s := range c.Services {
		once := name == "topics" || name == "migrate"
		if !once && len(s.Healthcheck.Test) < 2 {
			t.Errorf("%s has no health check", name)
		}
		for _, p := range s.Ports {
			if !strings.HasPrefix(p, "127.0.0.1:") {
				t.Errorf("%s publishes %s beyond this machine", name, p)
			}
		}
		for on, d := range s.DependsOn {
			want := "service_healthy"
			if on == "topics" || on == "migrate" {
				want = "service_completed_successfully"
			}
			if _, ok := c.Services[on]; !ok || d.Condition != want {
				t.Errorf("%s waits for %s to be %s", name, on, d.Condition)
			}
		}
		for _, v := range s.Volumes {
			volume, _, _ := strings.Cut(v, ":")
			if file, isFile := strings.CutPrefix(volume, "./"); isFile {
				if _, err := os.Stat(file); err != nil {
					t.Errorf("%s mounts %v", name, err)
				}
			} else if _, ok := c.Volumes[volume]; !ok {
				t.Errorf("%s mounts the unknown volume %s", name, volume)
			}
		}
		if s.Build.Context != "" {
			if _, err := os.Stat(filepath.Join(s.Build.Context, s.Build.Dockerfile)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// Passwords come by files that secrets.sh makes: none stands in the compose file, each is made, and each
// service has those that its configuration names.
func TestSecretsComeByFile(t *testing.T) {
	c := load(t)
	dir := makeSecrets(t)
	for name, s := range c.Secrets {
		if info, err := os.Stat(filepath.Join(dir, filepath.Base(s.File))); err != nil || info.Size() < 24 {
			t.Errorf("secret %s is not made: %v", name, err)
		}
		if !strings.HasPrefix(s.File, "secrets/") {
			t.Errorf("secret %s is in %s, which git does not ignore", name, s.File)
		}
	}
	const mount = "/run/secrets/"
	for name, s := range c.Services {
		for key, v := range s.Environment {
			if strings.Contains(strings.ToUpper(key), "PASSWORD") && !strings.HasPrefix(v, mount) {
				t.Errorf("%s: %s is not a file", name, key)
			}
			if password.MatchString(v) {
				t.Errorf("%s: %s holds a password", name, key)
			}
			if _, secret, ok := strings.Cut(v, mount); ok && !slices.Contains(s.Secrets, secret) {
				t.Errorf("%s: %s needs the secret %s, which is not mounted", name, key, secret)
			}
		}
		for _, secret := range s.Secrets {
			if _, ok := c.Secrets[secret]; !ok {
				t.Errorf("%s mounts the unknown secret %s", name, secret)
			}
		}
	}
}

func TestSecretsAreMadeOnceAndPrivate(t *testing.T) {
	dir := makeSecrets(t)
	before := read(t, dir)
	if out, err := exec.Command("./secrets.sh", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	after := read(t, dir)
	for name, text := range before {
		if after[name] != text {
			t.Errorf("%s changed at the second run", name)
		}
	}
	if before["sink_password"] == before["gateway_password"] {
		t.Error("two users have the same password")
	}
	want := "postgres:5432:audittrail:audittrail_sink:" + before["sink_password"] + "\n"
	if before["sink_pgpass"] != want {
		t.Errorf("sink_pgpass does not match sink_password")
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory's mode is %v, want 0700 (%v)", info.Mode(), err)
	}
}

// password matches one in a connection string.
var password = regexp.MustCompile(`//[^/@]*:[^/@]*@|password=`)

func makeSecrets(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "secrets")
	if out, err := exec.Command("./secrets.sh", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

func read(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(text)
	}
	return files
}
