package faults

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/maxviazov/audittrail/bench/load"
	"github.com/maxviazov/audittrail/bench/traffic"
)

var gapScenarios = []Scenario{
	{ID: "F22-both-lost", Title: "audit-events and audit-records emptied before the sinks read them: alerted, recorded as gaps to the slot, and what is lost is stored when its producers send it again (R13, R14)",
		Quick: true, Run: bothLost},
}

// bothLost holds R13 and R14: what both topics lost before the sink had it cannot be made again, so the log says so, slot by slot, and
// everybody who looks is told. The enricher still knows the lost events by their ids: when their producers send them again they are
// duplicates of slots that nobody has (the shadow of the gap), and must be stored all the same.
func bothLost(t *T) {
	s := startSystem(t, systemConfig{cluster: t.kafka(), partitions: 4, emitters: 1, enrichers: 1, sinks: 1, gateways: 1})
	r := &refilling{system: s, feed: s.newFeed(traffic.Shape{Seed: 22, Sources: 40}), admin: s.kafkaAdmin()}
	r.send()
	s.expectClean(r.feed)

	stop(t, s.sinks[0])
	ends := r.ends("audit-events")
	r.send()
	r.enriched()
	first, lost, half := refillEvents, refillEvents, refillEvents/2
	r.empty("audit-events")
	r.empty("audit-records")
	starts := r.ends("audit-events")
	emptied := time.Now()
	status := func() string {
		out, err := s.Run(t.Context(), "status", "--addr", s.gatewayAddrs[0])
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	s.await("status alerts although no sink runs", 30*time.Second, func() bool {
		return strings.Contains(status(), "were deleted by Kafka's retention before they were stored")
	})
	t.note("both topics emptied: status says so after %s", time.Since(emptied).Round(10*time.Millisecond))

	// The idle sink alerts and decides nothing: only an output that comes behind says up to where slots are lost.
	r.startAll(s.sinks)
	s.await("the sink's metric says so", 30*time.Second, func() bool { return metricSum(t, s.sinkHTTP[0], "audittrail_sink_input_expired") >= 1 })
	if gaps := r.gaps(); gaps != "nothing found\n" {
		t.Errorf("a gap was recorded before anything came behind it:\n%s", gaps)
	}

	began := time.Now()
	s.resend(r.feed.shape, first, first+half)
	s.awaitStored(first+half, time.Minute)
	t.recovered("both topics lost, and half of it sent again", time.Since(began), goalRecovery)
	r.feed.mustSend(refillEvents, load.Config{Batch: 20, Workers: 4}) // through every partition
	s.awaitStored(2*refillEvents+half, time.Minute)
	if err := s.settle(time.Minute); err != nil {
		t.Error(err)
	}
	v := s.judge()
	t.Logf("verdict with half of it missing: %s", v)
	if v.Lost != lost-half || v.Gaps == 0 || v.Duplicated+v.Phantom+v.Changed+v.Misplaced+v.Holes+v.Rows+v.Hashes+v.Heads+v.DeadLetters != 0 {
		t.Errorf(contractBroken+": %s", v)
	}
	// The ledger of gaps names exactly the slots that are lost, partition by partition.
	listed := r.gaps()
	for p, from := range ends {
		if end := starts[p]; end > from && !hasGap(listed, p, from, end) {
			t.Errorf("partition %d lost %d to %d, and no gap says so:\n%s", p, from, end, listed)
		}
	}
	if !strings.Contains(status(), "gaps are open") {
		t.Errorf("status does not alert:\n%s", status())
	}
	if n := metricSum(t, s.sinkHTTP[0], "audittrail_sink_gaps_total"); n == 0 {
		t.Error("the sink's metric counts no gap")
	}
	// Restarts change nothing of it.
	stop(t, s.sinks[0])
	kill(s.enrichers)
	s.startEnded()
	s.resend(r.feed.shape, first+half, first+lost)
	s.awaitStored(r.feed.sent, time.Minute)
	s.await("the gaps of dropped events are filled", time.Minute, func() bool { return !strings.Contains(r.gaps("--open"), "DROP_WITHOUT_FIRST_COPY") })
	v = s.judge()
	t.Logf("verdict with all of it sent again: %s", v)
	if v.Lost+v.Duplicated+v.Phantom+v.Changed+v.Misplaced+v.Holes+v.Rows+v.Hashes+v.Heads+v.DeadLetters != 0 || v.Stored != r.feed.sent {
		t.Errorf(contractBroken+": %s", v)
	}
	if !strings.Contains(r.gaps("--open"), "EXPIRED_INPUT") {
		t.Error("the gap is forgotten: what was in its slots was sent again, but nobody can know that it was all")
	}
}

// ends is where a topic's partitions end.
func (r *refilling) ends(topic string) map[int32]int64 {
	r.t.Helper()
	listed, err := r.admin.ListEndOffsets(r.t.Context(), topic)
	if err != nil {
		r.t.Fatal(err)
	}
	ends := map[int32]int64{}
	listed.Each(func(o kadm.ListedOffset) { ends[o.Partition] = o.Offset })
	return ends
}

// gaps is what `audittrail gaps list` says.
func (r *refilling) gaps(args ...string) string {
	r.t.Helper()
	out, err := r.Run(r.t.Context(), append([]string{"gaps", "list", "--addr", r.gatewayAddrs[0]}, args...)...)
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

// hasGap says whether the list has an expired input of these slots.
func hasGap(list string, partition int32, from, end int64) bool {
	for line := range strings.Lines(list) {
		f := strings.Fields(line)
		if len(f) >= 5 && f[1] == fmt.Sprint(partition) && f[2] == fmt.Sprintf("%d/0", from) && f[3] == fmt.Sprintf("%d/0", end) && f[4] == "EXPIRED_INPUT" {
			return true
		}
	}
	return false
}

// metricSum adds up a metric over its labels.
func metricSum(t *T, addr, name string) (sum float64) {
	t.Helper()
	response, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		return 0 // it does not serve yet
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if ok && (key == name || strings.HasPrefix(key, name+"{")) {
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatal(err)
			}
			sum += v
		}
	}
	return sum
}
