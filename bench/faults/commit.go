package faults

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/maxviazov/audittrail/bench/stage"
)

var commitScenarios = []Scenario{
	{ID: "F03-commit", Title: "the sink killed in the middle of COMMIT: before PostgreSQL has it, while PostgreSQL is at it, and when only the answer is missing (R10, R11)",
		Quick: true, Run: killedInCommit},
}

// killedInCommit holds R10 and R11 where the two systems of the sink may come apart: it is killed with its COMMIT on the way. What became
// of that transaction only PostgreSQL knows, and the next session takes it from there: nothing is lost when it is gone, nothing is
// stored twice when it is there, and a transaction of the dead sink that does not end is ended.
func killedInCommit(t *T) {
	s := startSystem(t, systemConfig{cluster: t.kafka(), partitions: 4, emitters: 1, enrichers: 1, gateways: 1})
	gate := newCommitGate(t, s.DSN)
	addrs, err := stage.FreeAddrs(1)
	if err != nil {
		t.Fatal(err)
	}
	through := s.Pipeline
	through.DSN = gate.dsn
	s.sinks, s.sinkHTTP = append(s.sinks, through.Sink(0, addrs[0])), addrs
	s.track()
	sink := s.sinks[0]
	if err := sink.Start(); err != nil {
		t.Fatal(err)
	}
	p := s.press(23, 400)
	rounds := 1
	if t.Long {
		rounds = 5
	} else if t.Broker == "kafka" {
		rounds = 2
	}
	for range rounds {
		for _, forward := range []bool{false, true} {
			name := "kill -9 with COMMIT on the way to PostgreSQL"
			if forward {
				name = "kill -9 with the answer to COMMIT on the way back"
			}
			p.fault(name, func() {
				before := gate.killAtCommit(t, s, sink, forward)
				if !forward {
					if now := s.storedTotal(); now != before {
						t.Errorf("%s: %d records were stored by a COMMIT that nobody sent", name, now-before)
					}
				} else {
					waitFor(t, "PostgreSQL does what the dead sink asked for", 10*time.Second, func() bool { return s.storedTotal() > before })
				}
				if err := sink.Start(); err != nil {
					t.Fatal(err)
				}
			})
		}
		p.fault("kill -9 while PostgreSQL is in COMMIT and stays there", func() { s.killWhileCommitHangs(sink) })
	}
	p.report(goalRecovery, boundRecovery)
	p.endClean()
}

// killWhileCommitHangs lets COMMIT wait, in the server, for a standby that does not exist, kills the sink then and starts it again. The new
// session finds the heads of its logs locked, and ends what locks them.
func (s *system) killWhileCommitHangs(sink *stage.Process) {
	s.t.Helper()
	s.alterSystem("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
	waiting := func() (pid int) {
		// An error (no row) leaves 0.
		_ = s.ask("SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query = 'commit' ORDER BY state_change LIMIT 1", &pid)
		return pid
	}
	var pid int
	waitFor(s.t, "a COMMIT of the sink waits in PostgreSQL", 10*time.Second, func() bool { pid = waiting(); return pid != 0 })
	sink.Kill9()
	if err := sink.Start(); err != nil {
		s.t.Fatal(err)
	}
	gone := func() bool {
		var there bool
		return s.ask("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'SyncRep')", &there, pid) == nil && !there
	}
	waitFor(s.t, "the new session ends the transaction of the dead sink", 30*time.Second, gone)
	s.alterSystem("ALTER SYSTEM RESET synchronous_standby_names")
}

// alterSystem changes a setting of the running server.
func (s *system) alterSystem(sql string) {
	s.t.Helper()
	conn, err := pgx.Connect(s.t.Context(), s.DSN)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, statement := range []string{sql, "SELECT pg_reload_conf()"} {
		if _, err := conn.Exec(s.t.Context(), statement); err != nil {
			s.t.Fatalf("%s: %v", statement, err)
		}
	}
}

// ask reads one value.
func (s *system) ask(sql string, into any, args ...any) error {
	conn, err := pgx.Connect(s.t.Context(), s.DSN)
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	return conn.QueryRow(s.t.Context(), sql, args...).Scan(into)
}

// commitGate stands between a sink and PostgreSQL and sees its COMMITs pass. It reads the frontend's half of PostgreSQL's protocol
// (version 3, not encrypted).
type commitGate struct {
	dsn, target string

	mu   sync.Mutex
	hook func() bool // nil: not armed. Called with the next COMMIT of a transaction that wrote rows; says whether PostgreSQL gets it
}

func newCommitGate(t *T, dsn string) *commitGate {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &commitGate{target: u.Host}
	u.Host = listener.Addr().String()
	g.dsn = u.String()
	var work sync.WaitGroup
	t.Cleanup(func() { listener.Close(); work.Wait() })
	work.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // the scenario has ended
			}
			work.Go(func() { g.relay(t.Context(), client) })
		}
	})
	return g
}

// killAtCommit kills the sink with its next COMMIT in this gate, and then lets PostgreSQL have it or not. It returns the number of
// records stored before.
func (g *commitGate) killAtCommit(t *T, s *system, sink *stage.Process, forward bool) (before int) {
	t.Helper()
	killed := make(chan struct{})
	g.mu.Lock()
	g.hook = func() bool {
		defer close(killed)
		before = s.storedTotal()
		sink.Kill9()
		return forward
	}
	g.mu.Unlock()
	select {
	case <-killed:
	case <-time.After(20 * time.Second):
		t.Fatal("the sink sends no COMMIT")
	}
	return before
}

func (g *commitGate) atCommit() (forward bool) {
	g.mu.Lock()
	hook := g.hook
	g.hook = nil
	g.mu.Unlock()
	return hook == nil || hook()
}

func (g *commitGate) relay(ctx context.Context, client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", g.target)
	if err != nil {
		return
	}
	defer server.Close()
	defer context.AfterFunc(ctx, func() { client.Close(); server.Close() })()
	answers := make(chan struct{})
	go func() {
		defer close(answers)
		_, _ = io.Copy(client, server) // how it ends does not matter: both ends are closed then
		client.Close()
	}()
	_ = g.requests(server, client)
	if tcp, ok := server.(*net.TCPConn); ok {
		_ = tcp.CloseWrite() // PostgreSQL does what it has got, and then finds out
	}
	<-answers
}

// requests passes on one message after the other.
func (g *commitGate) requests(server io.Writer, client io.Reader) error {
	header, wrote := make([]byte, 5), false
	for first := true; ; first = false {
		h := header
		if first {
			h = header[1:] // the first message has no letter
		}
		if _, err := io.ReadFull(client, h); err != nil {
			return err
		}
		n := binary.BigEndian.Uint32(header[1:])
		if n < 4 || n > 1<<30 {
			return errors.New("not PostgreSQL's protocol")
		}
		body := make([]byte, n-4)
		if _, err := io.ReadFull(client, body); err != nil {
			return err
		}
		if query, ok := strings.CutSuffix(string(body), "\x00"); ok && !first && header[0] == 'Q' {
			wrote = wrote || strings.HasPrefix(query, "COPY ")
			if strings.EqualFold(query, "commit") {
				if wrote && !g.atCommit() {
					return nil
				}
				wrote = false
			}
		}
		if _, err := server.Write(append(h[:len(h):len(h)], body...)); err != nil {
			return err
		}
	}
}
