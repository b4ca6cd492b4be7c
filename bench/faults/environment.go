package faults

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/maxviazov/audittrail/internal/kafkatest"
)

// Environment is what a run of the scenarios rests on, for the report: name and value.
func Environment(s Settings) [][2]string {
	commit, kfake := "unknown", "unknown"
	// A program that `go run` made does not know its commit.
	if out, err := exec.Command("git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*").Output(); err == nil {
		commit = strings.TrimSpace(string(out))
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == "github.com/twmb/franz-go/pkg/kfake" {
				kfake = m.Version
			}
		}
	}
	rows := [][2]string{{"commit", commit}, {"Go", runtime.Version()}, {"machine", fmt.Sprintf("%s/%s, %d cores, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), totalMemory())}}
	if strings.Contains(s.Broker, "kafka") {
		rows = append(rows, [2]string{"Kafka", "Apache Kafka " + kafkatest.Version})
	}
	if strings.Contains(s.Broker, "kfake") {
		rows = append(rows, [2]string{"in-process broker", "kfake " + kfake})
	}
	forms := "short"
	if s.Long {
		forms = "long"
	}
	return append(rows, [2]string{"PostgreSQL", fmt.Sprint(s.Postgres)}, [2]string{"forms, seed", fmt.Sprintf("%s, %d", forms, s.Seed)})
}

// totalMemory is the machine's, as Linux says it.
func totalMemory() string {
	file, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return "memory unknown"
	}
	var kib int64
	if _, err := fmt.Sscanf(string(file), "MemTotal: %d kB", &kib); err != nil {
		return "memory unknown"
	}
	return fmt.Sprintf("%d MiB", kib>>10)
}
