package kafkatest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
)

// fakeMaven puts a program named mvn first in PATH and gives the test a cache directory of its own.
func fakeMaven(t *testing.T, script string) (cache string) {
	t.Helper()
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "mvn"), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	cache = t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	return filepath.Join(cache, "audittrail")
}

// copyJars does what Maven would: it fills the directory given by -DoutputDirectory.
const copyJars = `
for a; do case $a in -DoutputDirectory=*) out=${a#*=};; esac; done
mkdir -p "$out" && touch "$out/kafka_2.13-4.3.1.jar" "$out/other.jar"
echo x >> "$XDG_CACHE_HOME/fetched"
`

func TestLibrariesAreFetchedOnceAndWhole(t *testing.T) {
	cache := fakeMaven(t, copyJars)
	var g errgroup.Group
	for range 8 {
		g.Go(func() error {
			dir, err := Libraries(t.Context())
			if err != nil {
				return err
			}
			_, err = os.Stat(filepath.Join(dir, "other.jar"))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(cache)
	if err != nil || len(left) != 1 || left[0].Name() != "kafka-4.3.1" {
		t.Errorf("cache holds %v (%v), want kafka-4.3.1 alone", left, err)
	}
	before, _ := os.ReadFile(filepath.Join(filepath.Dir(cache), "fetched"))
	if _, err := Libraries(t.Context()); err != nil {
		t.Fatal(err)
	}
	after, _ := os.ReadFile(filepath.Join(filepath.Dir(cache), "fetched"))
	if string(before) != string(after) {
		t.Error("fetched again although everything is there")
	}
}

func TestFailedFetchLeavesNothing(t *testing.T) {
	for name, script := range map[string]string{
		"maven fails":               "mkdir -p \"$XDG_CACHE_HOME\"; echo no such artifact; exit 1",
		"jar of the broker missing": "exit 0",
	} {
		t.Run(name, func(t *testing.T) {
			cache := fakeMaven(t, script)
			if dir, err := Libraries(t.Context()); err == nil {
				t.Fatalf("got %s, want an error", dir)
			}
			if left, err := os.ReadDir(cache); err != nil || len(left) != 0 {
				t.Errorf("left behind: %v (%v)", left, err)
			}
		})
	}
}

func TestMissingProgramsAreNamed(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("JAVA_HOME", "")
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	if _, err := Libraries(t.Context()); !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "mvn") {
		t.Errorf("without Maven: %v", err)
	}
	if _, err := New(t.Context(), t.TempDir(), Options{}); !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "java") {
		t.Errorf("without Java: %v", err)
	}
}

func TestOptions(t *testing.T) {
	if _, err := New(context.Background(), t.TempDir(), Options{Nodes: 2}); err == nil {
		t.Error("2 nodes were accepted")
	}
	o, err := Options{Nodes: 3, Properties: map[string]string{"broker.session.timeout.ms": "6000", "num.partitions": "7"}}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	nodes := []*node{{id: 1, port: 1, controllerPort: 2}, {id: 2, port: 3, controllerPort: 4}, {id: 3, port: 5, controllerPort: 6, dir: "/d"}}
	got := o.properties(nodes[2], nodes)
	for _, want := range []string{
		"node.id=3\n",
		"controller.quorum.voters=1@127.0.0.1:2,2@127.0.0.1:4,3@127.0.0.1:6\n",
		"listeners=PLAINTEXT://127.0.0.1:5,CONTROLLER://127.0.0.1:6\n",
		"min.insync.replicas=2\n",
		"default.replication.factor=3\n",
		"message.max.bytes=4194304\n",
		"broker.session.timeout.ms=6000\n",
		"num.partitions=7\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}
