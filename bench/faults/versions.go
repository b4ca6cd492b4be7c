package faults

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/maxviazov/audittrail/bench/load"
	"github.com/maxviazov/audittrail/bench/stage"
	"github.com/maxviazov/audittrail/bench/traffic"
)

var versionScenarios = []Scenario{
	{ID: "F24-upgrade", Title: "a rolling upgrade from an earlier version under load, in the order sink, enricher, emitter, gateway: no error, nothing lost", Run: rollingUpgrade},
	{ID: "F24-envelope", Title: "an upgrade in the wrong order: roles that meet envelopes of a newer version refuse to run, lose nothing, and go on when they are upgraded",
		Run: unknownEnvelope},
}

// previousCommits is how far back the earlier version is where no release is tagged.
const previousCommits = 20

// rollingUpgrade upgrades an installation as the documentation says: tables and topics first, then sink, enricher, emitter and gateway,
// one process after the other, so that for a while two versions of each role work side by side.
func rollingUpgrade(t *T) {
	old, commit := previousProgram(t)
	s := startSystem(t, systemConfig{cluster: t.kafka(), partitions: 4, emitters: 2, enrichers: 2, sinks: 2, gateways: 2, binary: old})
	t.note("the earlier version is commit %s", commit)
	p := s.press(32, 400)
	readers := s.startReaders(p.feed, 3)
	s.Binary = t.program()
	p.fault("topics and tables of the newer version", func() {
		if err := s.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	upgrade := func(role string, processes []*stage.Process, http []string, newer func(i int) *stage.Process) {
		// As one step: a sink that the newer tables are unknown to stores nothing after its session has ended with the others'.
		p.fault(fmt.Sprintf("upgrade of two processes of the %s, one after the other", role), func() {
			for i := range processes {
				stopBriefly(t, processes[i])
				processes[i] = newer(i)
				if err := processes[i].Start(); err != nil {
					t.Fatal(err)
				}
				waitFor(t, processes[i].Name()+" is ready", time.Minute, func() bool { return ready(http[i]) })
			}
		})
	}
	upgrade("sink", s.sinks, s.sinkHTTP, func(i int) *stage.Process { return s.Sink(i, s.sinkHTTP[i]) })
	upgrade("enricher", s.enrichers, s.enricherHTTP, func(i int) *stage.Process { return s.Enricher(i, s.enricherHTTP[i]) })
	upgrade("emitter", s.emitters, s.emitterHTTP, func(i int) *stage.Process { return s.Emitter(i, s.emitterAddrs[i], s.emitterHTTP[i]) })
	upgrade("gateway", s.gateways, s.gatewayHTTP, func(i int) *stage.Process { return s.Gateway(i, s.gatewayAddrs[i], s.gatewayHTTP[i]) })
	p.report(goalRecovery, boundRecovery)
	readers.end(t)
	p.endClean()
}

// unknownEnvelope holds "unknown rule or envelope version: stop, never dead-letter". The newer version is this one with the next
// envelope version, which reads the old one too. Its emitter comes first, which is the wrong order: the enricher refuses to run on what
// that writes, then the sink on what the newer enricher writes. Each goes on once it is upgraded, and all is as if nothing had been.
func unknownEnvelope(t *T) {
	newer := nextEnvelopeProgram(t)
	s := startSystem(t, systemConfig{cluster: t.kafka(), partitions: 2, emitters: 1, enrichers: 1, sinks: 1, gateways: 1})
	f := s.newFeed(traffic.Shape{Seed: 33, Sources: 40, Run: 1})
	f.mustSend(500, load.Config{Batch: 50, Workers: 2})
	s.awaitStored(500, time.Minute)

	s.Binary = newer
	replace := func(process **stage.Process, next *stage.Process) {
		stopBriefly(t, *process)
		*process = next
		if err := next.Start(); err != nil {
			t.Fatal(err)
		}
	}
	refuses := func(process *stage.Process) {
		waitFor(t, process.Name()+" refuses to run", 30*time.Second, func() bool {
			return logHas(process, "group refuses to run") && logHas(process, "unknown envelope version") && !process.Running()
		})
		// An orchestrator starts it again, which changes nothing.
		if err := process.Start(); err != nil {
			t.Fatal(err)
		}
		waitFor(t, process.Name()+" refuses to run again", 30*time.Second, func() bool { return !process.Running() })
		if n := s.storedTotal(); n != 500 {
			t.Errorf("%s refused to run, and %d records are stored, want 500", process.Name(), n)
		}
	}
	replace(&s.emitters[0], s.Emitter(0, s.emitterAddrs[0], s.emitterHTTP[0]))
	waitFor(t, "the newer emitter is ready", 30*time.Second, func() bool { return ready(s.emitterHTTP[0]) })
	f.mustSend(500, load.Config{Batch: 50, Workers: 2})
	refuses(s.enrichers[0])
	replace(&s.enrichers[0], s.Enricher(0, s.enricherHTTP[0]))
	refuses(s.sinks[0])
	replace(&s.gateways[0], s.Gateway(0, s.gatewayAddrs[0], s.gatewayHTTP[0]))
	began := time.Now()
	replace(&s.sinks[0], s.Sink(0, s.sinkHTTP[0]))
	s.awaitStored(501, time.Minute)
	t.recovered("the upgrade of the sink that had refused", time.Since(began), goalRecovery)
	s.expectUntouched(f)
}

// previousProgram compiles an earlier version of the program: the last release before this commit, or that of some commits ago. It
// skips the scenario where there is no history.
func previousProgram(t *T) (path, commit string) {
	t.Helper()
	root := moduleRoot(t)
	git := func(args ...string) (string, error) {
		out, err := exec.CommandContext(t.Context(), "git", append([]string{"-C", root}, args...)...).Output()
		return strings.TrimSpace(string(out)), err
	}
	commit, err := git("describe", "--tags", "--abbrev=0", "HEAD^")
	if err != nil {
		commit = fmt.Sprintf("HEAD~%d", previousCommits)
	}
	if commit, err = git("rev-parse", "--short", "--verify", commit+"^{commit}"); err != nil {
		t.Skipf("there is no earlier version here: neither a release nor %d commits of history", previousCommits)
	}
	dir := t.TempDir()
	archive := filepath.Join(dir, "earlier.tar")
	if _, err := git("archive", "--output", archive, commit); err != nil {
		t.Fatalf("get commit %s: %v", commit, err)
	}
	if out, err := exec.CommandContext(t.Context(), "tar", "-xf", archive, "-C", dir).CombinedOutput(); err != nil {
		t.Fatalf("unpack commit %s: %v\n%s", commit, err, out)
	}
	return compile(t, dir, filepath.Join(dir, "audittrail-earlier")), commit
}

// nextEnvelopeProgram compiles this program as the next version of the envelope would have it: it writes the next version, and reads
// both.
func nextEnvelopeProgram(t *T) string {
	t.Helper()
	root, dir := moduleRoot(t), t.TempDir()
	original := filepath.Join(root, "proto", "stream", "envelope.go")
	source, err := os.ReadFile(original)
	if err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{"envelopeVersion = 1\n": "envelopeVersion = 2\n", "v != envelopeVersion": "v > envelopeVersion"} {
		if bytes.Count(source, []byte(from)) != 1 {
			t.Fatalf("%s has not one %q: this scenario must be told how to make the next version", original, from)
		}
		source = bytes.Replace(source, []byte(from), []byte(to), 1)
	}
	changed, overlay := filepath.Join(dir, "envelope.go"), filepath.Join(dir, "overlay.json")
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {original: changed}})
	if err != nil {
		t.Fatal(err)
	}
	for path, content := range map[string][]byte{changed: source, overlay: replace} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return compile(t, root, filepath.Join(dir, "audittrail-next"), "-overlay", overlay)
}

func compile(t *T, root, out string, flags ...string) string {
	t.Helper()
	args := append([]string{"build", "-buildvcs=false", "-o", out}, flags...)
	cmd := exec.CommandContext(t.Context(), "go", append(args, "./cmd/audittrail")...)
	cmd.Dir = root
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("compile: %v\n%s", err, text)
	}
	return out
}

// moduleRoot is the directory of the sources.
func moduleRoot(t *T) string {
	t.Helper()
	file, err := exec.CommandContext(t.Context(), "go", "env", "GOMOD").Output()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Dir(strings.TrimSpace(string(file)))
}
