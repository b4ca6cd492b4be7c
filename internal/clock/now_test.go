//go:build !mutations

package clock

import (
	"testing"
	"time"
)

func TestNow(t *testing.T) {
	if d := time.Since(Now()); d < 0 || d > time.Minute {
		t.Errorf("the clock is %v behind", d)
	}
}
