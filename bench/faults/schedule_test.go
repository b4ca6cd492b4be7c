package faults

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestScheduleFollowsFromTheSeed: the same seed makes the same schedule, another one another; and what was written down is read back.
func TestScheduleFollowsFromTheSeed(t *testing.T) {
	a, b := makeSchedule(7, time.Minute, 20*time.Second, "kfake"), makeSchedule(7, time.Minute, 20*time.Second, "kfake")
	if !reflect.DeepEqual(a, b) || reflect.DeepEqual(a, makeSchedule(8, time.Minute, 20*time.Second, "kfake")) {
		t.Error("a schedule is not what its seed says")
	}
	if a[len(a)-1].round != 2 {
		t.Errorf("a minute has rounds up to %d, want 0 to 2", a[len(a)-1].round)
	}
	read, err := parseSchedule(strings.NewReader(writeSchedule(a)))
	if err != nil || !reflect.DeepEqual(a, read) {
		t.Errorf("%v; written and read back:\n%s", err, writeSchedule(read))
	}
	for _, bad := range []string{"0 1s kill-everybody 0 1s", "0 1s kill-sink 0", "0 now kill-sink 0 1s", "0 1s kill-sink -1 1s", "-1 1s kill-sink 0 1s"} {
		if _, err := parseSchedule(strings.NewReader(bad)); err == nil || !strings.Contains(err.Error(), "line 1") {
			t.Errorf("%q was read: %v", bad, err)
		}
	}
}

// TestKindsOfOneBrokerStayThere: what only a real broker can have is in no schedule of kfake, and is in those of Kafka.
func TestKindsOfOneBrokerStayThere(t *testing.T) {
	kill := func(a act) bool { return a.kind == "kill-broker" }
	if slices.ContainsFunc(makeSchedule(1, time.Hour, 20*time.Second, "kfake"), kill) {
		t.Error("the broker in this process would be killed")
	}
	all := makeSchedule(1, time.Hour, 20*time.Second, "kafka")
	for _, k := range catalogue {
		if !slices.ContainsFunc(all, func(a act) bool { return a.kind == k.name }) {
			t.Errorf("%s does not happen in an hour", k.name)
		}
	}
}

// TestShrinkFindsTheReason: of a schedule that fails for two of its faults together, these two are left, in few tries; and when there is no time the smallest
// one that failed is returned.
func TestShrinkFindsTheReason(t *testing.T) {
	all := makeSchedule(3, 2*time.Minute, 20*time.Second, "kfake")
	first, second := all[len(all)/5], all[len(all)-2]
	both := func(acts []act) bool { return slices.Contains(acts, first) && slices.Contains(acts, second) }
	tries := 0
	got := shrink(all, func(part []act) (bool, bool) { tries++; return both(part), true })
	if !slices.Equal(got, []act{first, second}) || tries > 10*len(all) {
		t.Errorf("%d tries over %d faults leave %v", tries, len(all), got)
	}
	tries = 0
	got = shrink(all, func(part []act) (bool, bool) { tries++; return both(part), tries < 6 })
	if !both(got) || len(got) == len(all) {
		t.Errorf("after 6 tries: %d of %d faults, with the reason: %v", len(got), len(all), both(got))
	}
	if got := shrink(all, func([]act) (bool, bool) { return false, true }); len(got) != len(all) {
		t.Errorf("what only fails as a whole was made %d of %d", len(got), len(all))
	}
}
