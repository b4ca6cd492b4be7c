package main

import (
	"os"
	"os/exec"
	"runtime"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func heapGoal() uint64 {
	runtime.GC()
	sample := []metrics.Sample{{Name: "/gc/heap/goal:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// resident is the resident memory of this process in bytes, or 0 where there is no proc(5).
func resident(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	pages, err := strconv.Atoi(strings.Fields(string(b))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// headroomChild makes this test binary a process that has allocated nothing yet, as a role at its start: memory that was used before
// is cleared, and so resident, when it is used again.
const headroomChild = "AUDITTRAIL_TEST_HEADROOM"

func TestHeadroomDelaysTheCollectorAndTakesNoMemory(t *testing.T) {
	if os.Getenv(headroomChild) == "" {
		child := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		child.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "GOGC=") || strings.HasPrefix(v, "GOMEMLIMIT=") }),
			headroomChild+"=1")
		if out, err := child.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	const n = 512 << 20
	goal, memory := heapGoal(), resident(t)
	release := gcHeadroom(n)
	defer release()
	if now := heapGoal(); now < goal+n/2 {
		t.Errorf("the collector runs at %d MiB, before at %d MiB: want %d MiB more", now>>20, goal>>20, n>>20)
	}
	if now := resident(t); memory != 0 && now > memory+n/4 {
		t.Errorf("%d MiB are resident, before %d MiB", now>>20, memory>>20)
	}
}

func TestHeadroomLeavesATunedCollectorAlone(t *testing.T) {
	t.Setenv("GOGC", "100")
	goal := heapGoal()
	release := gcHeadroom(512 << 20)
	defer release()
	if now := heapGoal(); now > goal+256<<20 {
		t.Errorf("the collector runs at %d MiB, before at %d MiB", now>>20, goal>>20)
	}
}
