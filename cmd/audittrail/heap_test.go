package main

import (
	"os"
	"runtime"
	"runtime/metrics"
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

func TestHeadroomDelaysTheCollectorAndTakesNoMemory(t *testing.T) {
	if _, tuned := os.LookupEnv("GOGC"); tuned {
		t.Skip("GOGC is set")
	}
	const n = 512 << 20
	goal, memory := heapGoal(), resident(t)
	release := gcHeadroom(n)
	defer release()
	if now := heapGoal(); now < goal+n {
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
