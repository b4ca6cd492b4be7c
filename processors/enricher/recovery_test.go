package enricher

import (
	"fmt"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/maxviazov/audittrail/proto/stream"
)

// fillTable writes values of 100 accepted ids each into the table, of 1,000 sources, and returns their bytes.
func (p *pipe) fillTable(values int) (bytes int) {
	p.t.Helper()
	id, _, err := p.admin.TopicID(testContext(p.t), stream.Events)
	if err != nil {
		p.t.Fatal(err)
	}
	now := time.Now().UnixMilli()
	messages := make([]*sarama.ProducerMessage, 0, 500)
	for i := range values {
		value := tableValue(id, int64(i), now, uint64(i)*100, 100)
		bytes += len(value)
		messages = append(messages, &sarama.ProducerMessage{Topic: stream.Table, Key: sarama.StringEncoder(fmt.Sprintf("acme/s%d", i%1000)), Value: sarama.ByteEncoder(value)})
		if len(messages) == cap(messages) || i == values-1 {
			if err := p.producer.SendMessages(messages); err != nil {
				p.t.Fatal(err)
			}
			messages = messages[:0]
		}
	}
	return bytes
}

// TestSnapshotSparesTheChangelog: with a snapshot a restart reads only what was written since.
func TestSnapshotSparesTheChangelog(t *testing.T) {
	t.Parallel()
	p := newPipe(t, 1)
	p.fillTable(500)
	dir := t.TempDir()
	const source = "acme/pay"
	read := func(what string, want float64) {
		t.Helper()
		e := p.start(p.config(dir))
		e.awaitReady()
		if got := testutil.ToFloat64(e.metrics.recovered); got != want {
			t.Errorf("%s: %v values read, want %v", what, got, want)
		}
		if got := e.stores.get(0).window.len(); got < 50_000 {
			t.Errorf("%s: %d ids in the window", what, got)
		}
		_, offset := p.sendBatch(source, testEvent(source, what))
		p.awaitCommit(0, offset+1)
		if err := e.stop(); err != nil {
			t.Fatal(err)
		}
	}
	read("the whole changelog", 500)
	read("from the snapshot", 0)
	p.fillTable(20) // a zombie's, say: the first of them is older than what is there
	read("the tail", 20)
}

// BenchmarkRecovery is the time from the start of an enricher until it processes, with a full window (1 M ids in one
// partition): from the whole changelog, and from a snapshot.
func BenchmarkRecovery(b *testing.B) {
	p := newPipe(b, 1)
	bytes := p.fillTable(10_000)
	dir := b.TempDir()
	for _, c := range []struct{ name, dir string }{{"changelog", ""}, {"snapshot", dir}} {
		if c.dir != "" { // make the snapshot
			e := p.start(p.config(dir))
			e.awaitReady()
			if err := e.stop(); err != nil {
				b.Fatal(err)
			}
		}
		b.Run(c.name, func(b *testing.B) {
			var ready time.Duration
			for range b.N {
				began := time.Now()
				e := p.start(p.config(c.dir))
				e.awaitReady()
				ready += time.Since(began)
				s := e.stores.get(0)
				if s.window.len() != 1_000_000 {
					b.Fatalf("%d ids", s.window.len())
				}
				b.StopTimer()
				if err := e.stop(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			b.ReportMetric(float64(bytes)/1e6, "MB-changelog")
			b.ReportMetric(ready.Seconds()/float64(b.N), "s-ready")
		})
	}
}
