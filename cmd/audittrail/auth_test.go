package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestTokensAreAskedFor: the commands make a token, the roles ask for it, and its principal is what is stored.
func TestTokensAreAskedFor(t *testing.T) {
	dir := t.TempDir()
	tokens := filepath.Join(dir, "tokens")
	secret := command(t, "", "tokens", "create", "--file", tokens, "--name", "ci/deploy", "--group", "ops").mustBe(t, exitOK)
	if lines := secret.lines(); len(lines) != 1 || !strings.HasPrefix(lines[0], "audittrail_") || strings.Contains(secret.errors, lines[0]) {
		t.Fatalf("tokens create printed %q and %q", secret.out, secret.errors)
	}
	text, err := os.ReadFile(tokens)
	if err != nil || strings.Contains(string(text), strings.TrimSpace(secret.out)) {
		t.Fatalf("the file holds the token, or %v", err)
	}
	if info, err := os.Stat(tokens); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v, %v", info.Mode(), err)
	}
	shown := filepath.Join(dir, "token")
	if err := os.WriteFile(shown, []byte(secret.out), 0o600); err != nil {
		t.Fatal(err)
	}

	i := newInstallation(t)
	t.Setenv("AUDITTRAIL_AUTH_TOKENS_FILE", tokens)
	t.Setenv("AUDITTRAIL_TLS_RELOAD", "1s")
	command(t, "", "topics", "apply").mustBe(t, exitOK)
	command(t, "", "migrate").mustBe(t, exitOK)
	for _, name := range []string{"gateway", "enricher", "sink", "emitter"} {
		role(t, name)
	}
	emit := []string{"emit", "--source", "acme/api", "--action", "x", "--addr", i.emitter}
	if r := command(t, "", emit...).mustBe(t, exitRefused); !strings.Contains(r.errors, "it is not known who makes this call") {
		t.Errorf("without a token: %s", r.errors)
	}
	command(t, "", "events", "list", "--addr", i.gateway).mustBe(t, exitRefused)

	t.Setenv("AUDITTRAIL_CLIENT_TOKEN_FILE", shown)
	command(t, "", emit...).mustBe(t, exitOK)
	command(t, "", "status", "--wait", "--addr", i.gateway).mustBe(t, exitOK)
	if r := command(t, "", "events", "list", "-o", "jsonl", "--addr", i.gateway).mustBe(t, exitOK); len(r.lines()) != 1 || !strings.Contains(r.out, `"token:ci/deploy"`) {
		t.Errorf("stored: %s", r.out)
	}
	if r := command(t, "", "events", "list", "--addr", "audit.example:7482").mustBe(t, exitUsage); !strings.Contains(r.errors, "without TLS") {
		t.Errorf("a token in the clear: %s", r.errors)
	}

	list := command(t, "", "tokens", "list", "--file", tokens).mustBe(t, exitOK).lines()
	if len(list) != 2 || !strings.Contains(list[1], "token:ci/deploy") || !strings.HasSuffix(list[1], "ops") {
		t.Fatalf("tokens list: %q", list)
	}
	id := strings.Fields(list[1])[0]
	command(t, "", "tokens", "revoke", "--file", tokens, "000000000000").mustBe(t, exitRefused)
	command(t, "", "tokens", "revoke", "--file", tokens, id).mustBe(t, exitOK)
	await(t, "the token is refused", func() bool { return command(t, "", emit...).code == exitRefused })
	for _, args := range [][]string{{"--name", "a b"}, {"--name", "x", "--days", "0"}, {"--name", "x", "--days", "367"}, {}} {
		command(t, "", append([]string{"tokens", "create", "--file", tokens}, args...)...).mustBe(t, exitUsage)
	}
}

func TestDevelopmentCertificatesAreNotOverwritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "certs")
	if r := command(t, "", "certs", "dev", "--dir", dir).mustBe(t, exitOK); !strings.Contains(r.out, "valid for 30 days") {
		t.Errorf("certs dev: %s", r.out)
	}
	if r := command(t, "", "certs", "dev", "--dir", dir).mustBe(t, exitRefused); !strings.Contains(r.errors, "not overwritten") {
		t.Errorf("again: %s", r.errors)
	}
	command(t, "", "certs", "dev", "--dir", dir+"2", "--days", "0").mustBe(t, exitUsage)
}

// await waits until the condition holds.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}
