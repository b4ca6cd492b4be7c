package faults

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/maxviazov/audittrail/bench/ledger"
	"github.com/maxviazov/audittrail/bench/load"
	"github.com/maxviazov/audittrail/bench/stage"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// answers is how emitters answered a load generator.
type answers struct {
	mu      sync.Mutex
	codes   map[codes.Code]int // OK answers, and events or calls refused
	offered int64              // bytes of all requests
	illegal []string           // answers that no producer would know what to do with
	slowest time.Duration      // of one call
}

// conns connects to the emitters and takes note of every answer.
func (a *answers) conns(s *system) []grpc.ClientConnInterface {
	s.t.Helper()
	a.codes = map[codes.Code]int{}
	var conns []grpc.ClientConnInterface
	for _, addr := range s.emitterAddrs {
		conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithUnaryInterceptor(a.intercept))
		if err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(func() { conn.Close() })
		conns = append(conns, conn)
	}
	return conns
}

func (a *answers) intercept(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	began := time.Now()
	err := invoke(ctx, method, req, reply, cc, opts...)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.slowest = max(a.slowest, time.Since(began))
	if m, ok := req.(interface{ SizeVT() int }); ok {
		a.offered += int64(m.SizeVT())
	}
	if err != nil {
		a.note(status.Convert(err))
		return err
	}
	for _, r := range reply.(*audittrailv1.BatchEmitEventsResponse).GetResults() {
		if r.GetStatus() != nil {
			a.note(status.FromProto(r.GetStatus()))
		}
	}
	a.codes[codes.OK]++
	return nil
}

// note counts a refusal. Of a fault of ours a producer must learn that it may try again, and when (clause 2 of the contract).
func (a *answers) note(st *status.Status) {
	a.codes[st.Code()]++
	if (st.Code() == codes.Unavailable || st.Code() == codes.ResourceExhausted) && retryDelay(st.Proto()) > 0 {
		return
	}
	if len(a.illegal) < 5 {
		a.illegal = append(a.illegal, st.String())
	}
}

func (a *answers) count(c codes.Code) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.codes[c]
}

func (a *answers) String() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return fmt.Sprintf("%v; %d MiB offered, slowest call %s", a.codes, a.offered>>20, a.slowest.Round(time.Millisecond))
}

// running is a load that runs while a test does something else.
type running struct {
	load.Progress
	answers answers
	t       *T
	done    chan struct{}
	report  load.Report
	err     error
}

// start sends traffic, with a ledger, until all is acknowledged.
func (s *system) start(c load.Config) *running {
	s.t.Helper()
	l, err := ledger.Create(s.ledger)
	if err != nil {
		s.t.Fatal(err)
	}
	r := &running{t: s.t, done: make(chan struct{})}
	c.Conns, c.Ledger = r.answers.conns(s), l
	go func() {
		defer close(r.done)
		defer l.Close()
		r.report, r.err = load.Run(s.t.Context(), c, &r.Progress)
	}()
	s.t.Cleanup(func() { <-r.done }) // the context of the test has ended by then
	return r
}

// wait returns when everything is acknowledged.
func (r *running) wait(within time.Duration) load.Report {
	r.t.Helper()
	select {
	case <-r.done:
	case <-time.After(within):
		r.t.Fatalf("not everything was acknowledged within %s: %d events were; answers: %s", within, r.Acked.Load(), &r.answers)
	}
	if r.err != nil {
		r.t.Fatal(r.err)
	}
	r.t.Logf("sent: %+v; answers: %s", r.report, &r.answers)
	return r.report
}

// reach waits until so many events are acknowledged.
func (r *running) reach(events int64, within time.Duration) {
	r.t.Helper()
	waitFor(r.t, fmt.Sprintf("%d events are acknowledged", events), within, func() bool {
		select {
		case <-r.done:
			r.t.Fatalf("the load ended before, after %d events: %v", r.Acked.Load(), r.err)
		default:
		}
		return r.Acked.Load() >= events
	})
}

// memory samples the resident memory of processes.
type memory struct {
	mu   sync.Mutex
	high map[string]int64 // of each process, since the last look
}

// watchMemory samples until the test ends.
func (s *system) watchMemory() *memory {
	m := &memory{high: map[string]int64{}}
	ctx, done, processes := s.t.Context(), make(chan struct{}), s.processes()
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			for _, p := range processes {
				if u, err := p.Usage(); err == nil {
					m.mu.Lock()
					m.high[p.Name()] = max(m.high[p.Name()], u.Resident)
					m.mu.Unlock()
				}
			}
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	s.t.Cleanup(func() { <-done })
	return m
}

// look returns the most that each process has had since the last look, and checks it against bounds in MiB by the name of the role.
func (m *memory) look(t *T, during string, bounds map[string]int64) map[string]int64 {
	t.Helper()
	m.mu.Lock()
	high := m.high
	m.high = map[string]int64{}
	m.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(high)) {
		role, _, _ := strings.Cut(name, "-")
		bound, bounded := bounds[role]
		t.Logf("memory of %s, %s: %d MiB (bound: %d MiB)", name, during, high[name]>>20, bound)
		if bounded && high[name] > bound<<20 {
			t.Errorf("memory of %s, %s: %d MiB, at most %d MiB are allowed", name, during, high[name]>>20, bound)
		}
	}
	return high
}

// sameProcesses checks that nobody died of the fault: a supervisor would only hide it.
func (s *system) sameProcesses() {
	s.t.Helper()
	for _, p := range s.processes() {
		if !p.Running() {
			s.t.Errorf("%s has ended", p.Name())
		}
	}
}

// ready asks a role whether it is.
func ready(addr string) bool {
	response, err := http.Get("http://" + addr + "/readyz")
	if err != nil {
		return false
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode == http.StatusOK
}

func (s *system) allReady(within time.Duration) {
	s.t.Helper()
	for _, addr := range slices.Concat(s.emitterHTTP, s.enricherHTTP, s.sinkHTTP, s.gatewayHTTP) {
		waitFor(s.t, addr+" is ready", within, func() bool { return ready(addr) })
	}
}

// gateway is a client of the first gateway.
func (s *system) gateway() audittrailv1.QueryServiceClient {
	s.t.Helper()
	conn, err := grpc.NewClient(s.gatewayAddrs[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	return audittrailv1.NewQueryServiceClient(conn)
}

// signalPostgres sends a signal to the server and its children, all of which this test started.
func (s *system) signalPostgres(sig syscall.Signal) {
	s.t.Helper()
	file, err := os.ReadFile(filepath.Join(s.postgres.DataDir(), "postmaster.pid"))
	if err != nil {
		s.t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(file), "\n")
	server, err := strconv.Atoi(first)
	if err != nil {
		s.t.Fatal(err)
	}
	pids := []int{server} // first: it starts no more children then
	entries, err := os.ReadDir("/proc")
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range entries {
		stat, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil {
			continue // no process, or gone
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(fields) > 1 && fields[1] == first {
			pid, err := strconv.Atoi(e.Name())
			if err != nil {
				continue
			}
			pids = append(pids, pid)
		}
	}
	for _, pid := range pids {
		_ = syscall.Kill(pid, sig) // a session may have ended meanwhile
	}
}

// judged waits until everything is stored and judges.
func (s *system) judged(events int) {
	s.t.Helper()
	if err := s.settle(2 * time.Minute); err != nil {
		s.t.Error(err)
	}
	v := s.judge()
	s.t.Logf("verdict: %s", v)
	if !v.OK() || v.Acked != events || v.Stored != events || v.DeadLetters != 0 {
		s.t.Errorf(contractBroken+": %s", v)
	}
}

// entries is how many entries the logs have together.
func (s *system) entries() int64 {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.DSN)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var n int64
	if err := conn.QueryRow(ctx, "SELECT coalesce(sum(size), 0) FROM audittrail.heads").Scan(&n); err != nil {
		s.t.Fatal(err)
	}
	return n
}

func (s *system) awaitEntries(n int64, within time.Duration) {
	s.t.Helper()
	waitFor(s.t, fmt.Sprintf("%d entries are stored", n), within, func() bool { return s.entries() >= n })
}

// logHas says whether a process has written a text to its log.
func logHas(p *stage.Process, text string) bool { return countIn(p, text) > 0 }

// countIn is how often a process has written a text to its log.
func countIn(p *stage.Process, text string) int {
	log, err := os.ReadFile(p.Log())
	if err != nil {
		return 0
	}
	return strings.Count(string(log), text)
}

// listens says whether somebody accepts connections.
func listens(addr string) bool {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return false
	}
	return conn.Close() == nil
}

// metric reads one metric without labels.
func metric(t *T, addr, name string) float64 {
	t.Helper()
	response, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	t.Fatalf("%s has no metric %s", addr, name)
	return 0
}
