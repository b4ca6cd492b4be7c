//go:build mutations

package clock

import (
	"os"
	"strings"
	"sync"
	"time"
)

// offsetFile names a file with how far this process's clock is ahead, as time.ParseDuration reads it ("24h", "-24h"). The file is read again
// and again, so that the clock of a running process jumps. No file: the clock is right.
const offsetFile = "AUDITTRAIL_MUTATION_CLOCK_FILE"

var (
	path   = os.Getenv(offsetFile)
	mu     sync.Mutex
	read   time.Time // when offset was read last
	offset time.Duration
)

// readEvery bounds how often the file is read.
const readEvery = 10 * time.Millisecond

// Now is the time of day as this process has it.
func Now() time.Time {
	now := time.Now()
	if path == "" {
		return now
	}
	mu.Lock()
	defer mu.Unlock()
	if now.Sub(read) >= readEvery {
		read = now
		if text, err := os.ReadFile(path); err == nil {
			if d, err := time.ParseDuration(strings.TrimSpace(string(text))); err == nil {
				offset = d
			}
		}
	}
	return now.Add(offset)
}
