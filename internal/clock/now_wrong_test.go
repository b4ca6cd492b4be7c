//go:build mutations

package clock

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestClockJumps: the clock of a running process follows the file.
func TestClockJumps(t *testing.T) {
	path = filepath.Join(t.TempDir(), "offset")
	defer func() { path = "" }()
	for _, offset := range []time.Duration{0, 24 * time.Hour, -24 * time.Hour, 0} {
		if err := os.WriteFile(path, []byte(offset.String()+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(10 * time.Second)
		for (Now().Sub(time.Now()) - offset).Abs() > time.Minute {
			if time.Now().After(deadline) {
				t.Fatalf("the clock is %v ahead, want %v", Now().Sub(time.Now()), offset)
			}
			time.Sleep(time.Millisecond)
		}
	}
}
