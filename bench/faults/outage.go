package faults

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/maxviazov/audittrail/bench/load"
	"github.com/maxviazov/audittrail/bench/stage"
	"github.com/maxviazov/audittrail/bench/traffic"
	"github.com/maxviazov/audittrail/internal/embedded/embeddedtest"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// Events of about 4.5 KB: the queues between the stages fill within seconds.
const faultPadding = 4096

// roomy bounds the memory of roles, in MiB, at any time of a fault and of the work that comes at once when it ends. A process without
// work takes 35 to 45. Enricher and sink hold, for each of 4 partitions, 32 messages (stream.GroupBufferedMessages) of up to 225 KB
// and what one fetch brings (1 MiB, compressed), some of it twice, decoded and encoded again: 60 MiB; the collector lets that double. None
// of it depends on how long a fault lasts, which the long forms show.
var roomy = map[string]int64{"emitter": 128, "enricher": 256, "sink": 256, "gateway": 96}

func faultShape(seed uint64) traffic.Shape {
	return traffic.Shape{Seed: seed, Start: time.Now().Add(-time.Hour), Sources: 40, Run: 50, Padding: faultPadding}
}

var outageScenarios = []Scenario{
	{ID: "F11-broker-gone", Title: "the broker gone and hung for longer than the emitter waits: refusals that say when to try again, bounded memory, nothing lost",
		Needs: Kfake, Quick: true, Run: brokerUnreachable},
	{ID: "F05-postgres-gone", Title: "PostgreSQL stopped, and hung: producers are not affected, the sink holds a bounded part of what waits",
		Quick: true, Run: postgresUnreachable},
	{ID: "F16-disk-full", Title: "the disk of PostgreSQL full: the sink tries again until there is space", Quick: true, Run: postgresDiskFull},
	{ID: "F16-wal-disk-full", Title: "the WAL disk of PostgreSQL full: it ends in the middle of COMMIT, and what it said about that is not believed",
		Quick: true, Run: postgresWALDiskFull},
	{ID: "F10-redis", Title: "Redis hung, killed and back empty: right answers, and soon", Quick: true, Run: redisUnreachable},
}

// brokerUnreachable holds clauses 1, 2 and 6 of the contract: while the broker is gone, and while it hangs, producers are told to
// try again and when; memory stays bounded however much they offer; once it is back everything acknowledged is stored, once.
func brokerUnreachable(t *T) {
	events, down := 9000, 13*time.Second // longer than the emitter waits for an acknowledgement (10 s)
	if t.Long {
		events, down = 60_000, 90*time.Second
	}
	const budget = 8 << 20
	broker, addr, err := stage.Kfake(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Kill9)
	waitFor(t, "the broker serves", 20*time.Second, func() bool { return listens(addr) })
	s := startSystem(t, systemConfig{brokers: []string{addr}, partitions: 4, emitters: 1, enrichers: 1, sinks: 1, gateways: 1,
		env: []string{fmt.Sprintf("AUDITTRAIL_EMITTER_MAX_IN_FLIGHT_BYTES=%d", budget)}})
	s.allReady(30 * time.Second)
	memory := s.watchMemory()
	// More calls at once than the budget has room for: some are refused at once, the others wait for the broker.
	traffic := s.start(load.Config{Shape: faultShape(61), Events: events, Batch: 50, Workers: 48, Rate: 1500})
	traffic.reach(int64(events/6), time.Minute)
	before := memory.look(t, "before", roomy)

	broker.Kill9()
	t.Logf("the broker is gone, %d events are acknowledged", traffic.Acked.Load())
	acked := traffic.Acked.Load()
	pause(t, down)
	if more := traffic.Acked.Load() - acked; more > 50*48 {
		t.Errorf("%d events were acknowledged without a broker", more)
	}
	for _, code := range []codes.Code{codes.Unavailable, codes.ResourceExhausted} {
		if traffic.answers.count(code) == 0 {
			t.Errorf("nobody was answered %s: %s", code, &traffic.answers)
		}
	}
	// The emitter: three times its budget, as it says, and the requests of 48 calls (230 KB each, twice while they are decoded).
	memory.look(t, "without a broker", map[string]int64{"emitter": before["emitter-0"]>>20 + 3*budget>>20 + 24, "enricher": 128, "sink": 128, "gateway": 64})
	if err := broker.Start(); err != nil {
		t.Fatal(err)
	}
	back := time.Now()
	traffic.reach(traffic.Acked.Load()+2000, time.Minute)
	t.Logf("the broker is back; 2,000 more events were acknowledged %s later", time.Since(back).Round(time.Millisecond))

	broker.Pause()
	t.Logf("the broker hangs, %d events are acknowledged", traffic.Acked.Load())
	pause(t, down/2)
	broker.Resume()
	traffic.wait(2 * time.Minute)
	if len(traffic.answers.illegal) > 0 {
		t.Errorf("answers that tell no producer to try again: %q", traffic.answers.illegal)
	}
	s.sameProcesses()
	s.judged(events)
	memory.look(t, "after", roomy)
}

// postgresUnreachable holds clauses 1 and 6 and R10, R11: while PostgreSQL is stopped, and while it hangs, producers are not
// affected at all, since an acknowledgement says that Kafka has the event; the sink holds a bounded part of what waits; queries are told
// to try again. Once PostgreSQL is back everything is stored, once, by the same processes.
func postgresUnreachable(t *T) {
	down, hung, rate := 20*time.Second, 6*time.Second, 700
	if t.Long {
		down, hung = 3*time.Minute, 90*time.Second
	}
	events := rate * int((down+hung+14*time.Second)/time.Second)
	s := startSystem(t, systemConfig{cluster: t.kafka(), partitions: 4, emitters: 1, enrichers: 1, sinks: 1, gateways: 1,
		env: []string{"AUDITTRAIL_SINK_BATCH_BYTES=1MiB"}})
	s.allReady(30 * time.Second)
	memory := s.watchMemory()
	shape := faultShape(62)
	traffic := s.start(load.Config{Shape: shape, Events: events, Batch: 25, Workers: 8, Rate: rate})
	traffic.reach(int64(4*rate), time.Minute)
	first := uuid.UUID(load.ID(shape.Event(0))).String()
	gateway := s.gateway()
	get := func() codes.Code {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		_, err := gateway.GetEvent(ctx, &audittrailv1.GetEventRequest{Id: first})
		return status.Code(err)
	}
	list := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		_, err := gateway.ListEvents(ctx, &audittrailv1.ListEventsRequest{PageSize: 1})
		return err
	}
	waitFor(t, "the first event is stored", 20*time.Second, func() bool { return get() == codes.OK })
	before := memory.look(t, "before", roomy)

	s.postgres.Stop(t)
	stopped, acked := time.Now(), traffic.Acked.Load()
	t.Logf("PostgreSQL is stopped, %d events are acknowledged", acked)
	pause(t, down/2)
	if st := status.Convert(list()); st.Code() != codes.Unavailable || retryDelay(st.Proto()) == 0 {
		t.Errorf("a list without PostgreSQL is answered %v; want UNAVAILABLE with RetryInfo", st)
	}
	pause(t, down-time.Since(stopped))
	grown := traffic.Acked.Load() - acked
	t.Logf("%d events were acknowledged meanwhile", grown)
	if want := int64(down.Seconds()*float64(rate)) * 7 / 10; grown < want {
		t.Errorf("producers were affected: %d events were acknowledged in %s, want %d or more", grown, down, want)
	}
	// Without PostgreSQL the sink has no session, so it fetches nothing, whatever waits in Kafka (here more than 60 MiB).
	memory.look(t, "without PostgreSQL", map[string]int64{"emitter": 96, "enricher": 128, "sink": before["sink-0"]>>20 + 48, "gateway": 64})
	s.postgres.Start(t)
	back := time.Now()
	s.awaitEntries(acked+int64(3*rate), time.Minute)
	t.Logf("%d entries were stored %s after PostgreSQL was back", acked+int64(3*rate), time.Since(back).Round(time.Millisecond))

	s.signalPostgres(syscall.SIGSTOP)
	resume := func() { s.signalPostgres(syscall.SIGCONT) }
	t.Cleanup(resume)
	acked = traffic.Acked.Load()
	t.Logf("PostgreSQL hangs, %d events are acknowledged", acked)
	pause(t, hung)
	if grown := traffic.Acked.Load() - acked; grown < int64(hung.Seconds()*float64(rate))*7/10 {
		t.Errorf("producers were affected: %d events were acknowledged in %s", grown, hung)
	}
	// The sink's transaction waits, its callbacks wait for room in the queue (2 MiB), and its client holds 32 messages of 115 KB and the rest
	// of one fetch (1.6 MiB) for each of 4 partitions, 25 MiB in all. What of the outage before is not stored yet is fetched at this time.
	memory.look(t, "while PostgreSQL hangs", map[string]int64{"emitter": 96, "enricher": 128, "sink": 192, "gateway": 64})
	resume()

	report := traffic.wait(time.Minute)
	if report.Retries > 0 {
		t.Errorf("producers had to try again %d times", report.Retries)
	}
	s.sameProcesses()
	s.judged(events)
	if code := get(); code != codes.OK {
		t.Errorf("a query afterwards is answered %s", code)
	}
	memory.look(t, "after", roomy)
}

// postgresDiskFull holds clauses 1 and 6: the disk of PostgreSQL is full (a tablespace on a small file system). Producers are not
// affected, the sink tries again with the same entries, and once there is space everything is stored, once.
func postgresDiskFull(t *T) {
	const rate = 1500
	events, full := 24_000, 5*time.Second
	if t.Long {
		events, full = 120_000, time.Minute
	}
	postgres := embeddedtest.PostgresServer(t, embeddedtest.ServerOptions{})
	disk := dataDisk(t, 512, postgres)
	s := startSystem(t, systemConfig{cluster: t.kafka(), partitions: 4, emitters: 1, enrichers: 1, sinks: 1, gateways: 1,
		postgres: postgres})
	s.allReady(30 * time.Second)
	memory := s.watchMemory()
	traffic := s.start(load.Config{Shape: traffic.Shape{Seed: 63, Start: time.Now().Add(-time.Hour)}, Events: events, Batch: 50, Workers: 4, Rate: rate})
	traffic.reach(2*rate, time.Minute)

	disk.fill(t, 256<<10)
	waitFor(t, "the sink meets a full disk", 30*time.Second, func() bool { return logHas(s.sinks[0], "53100") })
	acked := traffic.Acked.Load()
	t.Logf("the disk is full, %d events are acknowledged", acked)
	pause(t, full)
	if grown := traffic.Acked.Load() - acked; grown < int64(full.Seconds()*rate)*7/10 {
		t.Errorf("producers were affected: %d events were acknowledged in %s", grown, full)
	}
	if entries := s.entries(); entries >= acked {
		t.Errorf("%d entries are stored although the disk is full: this test shows nothing", entries)
	}
	disk.free(t)
	back := time.Now()
	s.awaitEntries(acked, time.Minute)
	t.Logf("%d entries were stored %s after there was space again", acked, time.Since(back).Round(time.Millisecond))

	if report := traffic.wait(time.Minute); report.Retries > 0 {
		t.Errorf("producers had to try again %d times", report.Retries)
	}
	s.sameProcesses()
	s.judged(events)
	memory.look(t, "in all", roomy)
}

// postgresWALDiskFull holds clauses 1 and 6 for the worse full disk, that of the WAL: PostgreSQL ends in the middle of a COMMIT and
// does not start again before there is space. What the sink was told about that COMMIT, if anything, is not what it believes (R11).
func postgresWALDiskFull(t *T) {
	const rate = 1000
	events := 15_000
	postgres := embeddedtest.PostgresServer(t, embeddedtest.ServerOptions{Settings: map[string]string{"min_wal_size": "32MB", "max_wal_size": "64MB"}})
	disk := walDisk(t, 512, postgres)
	s := startSystem(t, systemConfig{cluster: t.kafka(), partitions: 4, emitters: 1, enrichers: 1, sinks: 1, gateways: 1,
		postgres: postgres})
	s.allReady(30 * time.Second)
	traffic := s.start(load.Config{Shape: faultShape(65), Events: events, Batch: 50, Workers: 4, Rate: rate})
	traffic.reach(rate, time.Minute)
	disk.fill(t, 256<<10)
	answers := func() bool {
		conn, err := pgx.Connect(t.Context(), s.DSN)
		return err == nil && conn.Close(t.Context()) == nil
	}
	waitFor(t, "PostgreSQL ends for want of space", 40*time.Second, func() bool { return !answers() })
	acked := traffic.Acked.Load()
	t.Logf("PostgreSQL is gone, %d events are acknowledged", acked)
	disk.free(t)
	// It tries to start once by itself. When that failed, somebody must start it.
	gone := func() bool {
		_, err := os.Stat(filepath.Join(postgres.DataDir(), "postmaster.pid"))
		return errors.Is(err, fs.ErrNotExist)
	}
	waitFor(t, "PostgreSQL has started by itself, or ended", 30*time.Second, func() bool { return answers() || gone() })
	if gone() {
		t.Log("PostgreSQL must be started again")
		postgres.Stop(t) // what is left of it
		postgres.Start(t)
	}
	back := time.Now()
	s.awaitEntries(acked, time.Minute)
	t.Logf("%d entries were stored %s after PostgreSQL was back", acked, time.Since(back).Round(time.Millisecond))
	if report := traffic.wait(time.Minute); report.Retries > 0 {
		t.Errorf("producers had to try again %d times", report.Retries)
	}
	s.sameProcesses()
	s.judged(events)
}

// redisUnreachable holds clause 1 and what DESIGN says of Redis, that nothing needs it: while it hangs, while it is gone and
// when it is back, empty, producers with request ids and readers get the right answers, and soon.
func redisUnreachable(t *T) {
	const rate = 300
	events := 4500
	if t.Long {
		events = 40_000
	}
	s := startSystem(t, systemConfig{cluster: t.kafka(), partitions: 4, emitters: 1, enrichers: 1, sinks: 1, gateways: 1})
	s.allReady(30 * time.Second)
	memory := s.watchMemory()
	shape := faultShape(64)
	traffic := s.start(load.Config{Shape: shape, Events: events, Batch: 10, Workers: 4, Rate: rate})
	u := s.redisUser(shape)
	use, remembered := u.use, u.remembered

	use("there")
	if remembered() < 1 {
		t.Error("Redis is there, and a request that was sent twice was not answered from memory: this test shows nothing")
	}
	traffic.reach(rate, time.Minute)

	client := redis.NewClient(&redis.Options{Addr: s.redis.Addr()})
	defer client.Close()
	hung := 4 * time.Second
	if err := client.ClientPause(t.Context(), hung).Err(); err != nil { // all commands of all clients wait
		t.Fatal(err)
	}
	began := time.Now()
	for time.Since(began) < hung/2 {
		use("hangs")
		pause(t, 100*time.Millisecond)
	}
	if err := client.ClientUnpause(t.Context()).Err(); err != nil {
		t.Logf("end of the pause: %v (it may have ended by itself)", err)
	}
	s.redis.Stop()
	for range 10 {
		use("is gone")
		pause(t, 100*time.Millisecond)
	}
	s.redis.Start(t)
	before := remembered()
	waitFor(t, "the memory of requests works again", 30*time.Second, func() bool { use("is back"); return remembered() > before })

	if report := traffic.wait(time.Minute); report.Retries > 0 || report.Slowest > 5*time.Second {
		t.Errorf("producers without request ids were affected: %d retries, slowest call %s", report.Retries, report.Slowest)
	}
	s.allReady(10 * time.Second)
	s.sameProcesses()
	s.judged(events)
	memory.look(t, "in all", roomy)
}

// pause waits while a fault lasts: its length is the test's input, not a guess at when something has happened.
func pause(t *T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
		t.Fatal(context.Cause(t.Context()))
	}
}
