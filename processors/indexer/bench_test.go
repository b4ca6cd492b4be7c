package indexer

import (
	"context"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// BenchmarkRun makes a run of 1,024 segments (262,144 events of some 300 bytes with 2.5 attributes). It reports the bytes of the blocks an event, and
// the CPU-seconds a million events of this process and of its PostgreSQL connections.
func BenchmarkRun(b *testing.B) {
	const segments = 1024
	f := newFilled(b)
	f.add(b, 0, segments, 256)
	x := start(b, Config{DSN: f.writer(b), RunSegments: segments})
	var bytes, pairs int64
	before := cpu(b) + f.serverCPU(b)
	b.ResetTimer()
	for range b.N {
		r, err := makeRun(context.Background(), x.db, map[int16]int64{}, segments, func(context.Context) error { return nil })
		if err != nil {
			b.Fatal(err)
		}
		bytes, pairs = r.Bytes, r.Pairs
	}
	b.StopTimer()
	events := float64(segments * 256)
	b.ReportMetric((cpu(b)+f.serverCPU(b)-before).Seconds()/float64(b.N)/events*1e6, "cpu-s/Mevents")
	b.ReportMetric(float64(bytes)/events, "B/event")
	b.ReportMetric(float64(pairs)/segments, "pairs/segment")
}

func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// serverCPU is what the connections to the test's database have used, as Linux tells.
func (f *filled) serverCPU(b *testing.B) (total time.Duration) {
	b.Helper()
	rows, err := f.db.Query(context.Background(), "SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
	if err != nil {
		b.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var pid int
		if err := rows.Scan(&pid); err != nil {
			b.Fatal(err)
		}
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil {
			b.Skip("no /proc here")
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		for _, at := range []int{11, 12} { // utime and stime, in ticks of 10 ms
			ticks, err := strconv.Atoi(fields[at])
			if err != nil {
				b.Fatal(err)
			}
			total += time.Duration(ticks) * 10 * time.Millisecond
		}
	}
	return total
}
