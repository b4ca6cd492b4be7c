package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/maxviazov/audittrail/internal/config"
)

func TestLogTimesHaveMilliseconds(t *testing.T) {
	for _, tt := range []struct {
		format string
		want   *regexp.Regexp
	}{
		{"json", regexp.MustCompile(`"time":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(Z|[+-]\d\d:\d\d)"`)},
		{"console", regexp.MustCompile(`^\d\d:\d\d:\d\d\.\d{3} `)},
	} {
		var b bytes.Buffer
		cfg := &config.Config{}
		cfg.Log.Level, cfg.Log.Format = "info", tt.format
		log := newLogger(&b, cfg)
		log.Info().Msg("hello")
		if !tt.want.MatchString(b.String()) {
			t.Errorf("%s: %q does not match %s", tt.format, b.String(), tt.want)
		}
	}
}

// pflag makes what stands between back quotes the name of the value: "--grpc-listen all".
func TestHelpNamesTheKindOfAValue(t *testing.T) {
	help := command(t, "", "all", "--help").mustBe(t, exitOK).out + command(t, "", "status", "--help").mustBe(t, exitOK).out
	for _, want := range []string{"--grpc-listen text ", "--enricher-window duration ", "--kafka-brokers list ", "--addr address "} {
		if !strings.Contains(help, want) {
			t.Errorf("help lacks %q", want)
		}
	}
}

func TestAnErrorIsNotAnEmptyAnswer(t *testing.T) {
	for _, format := range formats {
		var b bytes.Buffer
		cmd := &cobra.Command{}
		addOutput(cmd)
		cmd.SetOut(&b)
		if err := cmd.Flags().Set("output", format); err != nil {
			t.Fatal(err)
		}
		p, err := newPrinter(cmd, false, eventColumns)
		if err != nil {
			t.Fatal(err)
		}
		failed := errors.New("away")
		if err := finish(p, failed); !errors.Is(err, failed) {
			t.Errorf("%s: the error is lost: %v", format, err)
		}
		if out := b.String(); strings.Contains(out, "nothing found") || strings.Contains(out, "[") {
			t.Errorf("%s: says that there is nothing: %q", format, out)
		}
	}
}

func TestWithoutAServerItSaysWhatToDo(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"events", "list"}, {"status"}, {"sources", "list"}, {"events", "tail", "--resume", "x"}} {
		r := command(t, "", append(args, "--addr", addr)...).mustBe(t, exitUnavailable)
		if !strings.Contains(r.errors, "does it run (audittrail all)") || strings.Contains(r.errors, "desc =") || strings.Contains(r.errors, "resume with") || r.out != "" {
			t.Errorf("%v: %s%s", args, r.out, r.errors)
		}
	}
	r := command(t, "", "status", "--wait", "--timeout", "300ms", "--addr", addr).mustBe(t, exitUnavailable)
	if strings.Contains(r.errors, "not everything is stored") {
		t.Errorf("status --wait of a server that never answered: %s", r.errors)
	}
	if text := describeStatus(status.New(codes.Unavailable, "the broker does not answer")); strings.Contains(text, "does it run") {
		t.Errorf("a server's own answer: %s", text)
	}
}

func TestEmitSaysThatItTriesAgain(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	var out, errs bytes.Buffer
	code := run(ctx, []string{"emit", "--source", "a/b", "--action", "c.d", "--addr", "127.0.0.1:1"}, strings.NewReader(""), &out, &errs)
	if code != exitUnavailable || strings.Count(errs.String(), "trying again for 1m0s: ") != 1 || !strings.Contains(errs.String(), "1 event not acknowledged") {
		t.Errorf("exit code %d: %s", code, errs.String())
	}
}

func TestFilesOfADirectoryThatAreNoLogsAreCounted(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"digest.json", "digest2.json"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(`{"logFiles":[]}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files, err := findLogFiles([]string{dir})
	if err != nil {
		t.Fatal(err)
	}
	var out, notes bytes.Buffer
	m := &memory{}
	i := newImporter(m, m, &notes)
	if err := i.run(t.Context(), func(ctx context.Context, yield func(*imported) error) error { return readCloudTrail(ctx, files, yield) }); err != nil {
		t.Fatal(err)
	}
	i.summary(&out)
	want := "2 files without a list of records left out, such as " + filepath.Join(dir, "digest.json") + "\nread 0, accepted 0, stored before 0, rejected 0\n"
	if out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

func TestAFindingOfTheDoctorIsOneLine(t *testing.T) {
	r := command(t, "", "doctor", "--postgres-dsn", "postgres://u:p@127.0.0.1:1/d?sslmode=disable").mustBe(t, exitRefused)
	for _, line := range r.lines() {
		if !regexp.MustCompile(`^(ok   |BAD  |skip ) `).MatchString(line) {
			t.Errorf("a line of its own: %q", line)
		}
	}
	if r := command(t, "", "doctor").mustBe(t, exitOK); !strings.Contains(r.lastLine(), "nothing was looked at") {
		t.Errorf("doctor without a configuration: %s", r.out)
	}
}
