package faults

import (
	"context"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/maxviazov/audittrail/bench/load"
	"github.com/maxviazov/audittrail/bench/traffic"
	"github.com/maxviazov/audittrail/internal/embedded/embeddedtest"
)

var failoverScenarios = []Scenario{
	{ID: "F08-failover", Title: "PostgreSQL fails over to an asynchronous standby that lacks the last transactions, with busy and with idle sinks: the difference is filled by itself",
		Quick: true, Run: failover},
}

// failover holds R10 and R11 where they are needed most (and R12, R16 on the way): a primary that has told the sinks of commits which
// its asynchronous standby never got. The standby takes over at the same address, once while the sinks are busy and once when nothing
// comes at all, and nobody is restarted. Each time the standby is a new one, a copy of the primary of that time.
func failover(t *T) {
	behind := 2000 // records that the standby lacks
	if t.Long {
		behind = 30_000
	}
	var front *proxy
	s := startSystem(t, systemConfig{cluster: t.kafka(), partitions: 4, emitters: 1, enrichers: 1, sinks: 2, gateways: 1,
		wire: func(s *system) {
			front = t.proxy("postgres", hostOf(t, s.DSN))
			s.DSN = through(t, s.DSN, front)
		}})
	f := s.newFeed(traffic.Shape{Seed: 8, Sources: 40})
	f.mustSend(1000, load.Config{Batch: 50, Workers: 4})
	s.awaitStored(f.sent, time.Minute)

	// Busy: traffic before, during and after.
	b := s.newStandby()
	before := f.sent
	done := make(chan error, 1)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		_, err := f.send(ctx, behind+6*restoreRate, load.Config{Batch: 50, Workers: 4, Rate: restoreRate, DuplicatePercent: 5})
		done <- err
	}()
	s.awaitStored(before+restoreRate/2, time.Minute)
	b.lose()
	lost := s.storedTotal()
	s.awaitStored(lost+behind, time.Minute+time.Duration(behind/restoreRate)*time.Second)
	s.failOver(b, front, "under load", lost)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	s.expectClean(f)

	// Idle: all is stored, and judged, when the primary dies; nothing is sent afterwards.
	b = s.newStandby()
	b.lose()
	lost = s.storedTotal()
	f.mustSend(behind, load.Config{Batch: 50, Workers: 4})
	s.expectClean(f)
	s.failOver(b, front, "when idle", lost)
	s.awaitStored(f.sent, time.Minute)
	s.expectClean(f)
	s.expectAnswers(f, lost)
	s.sameProcesses()
	f.mustSend(1000, load.Config{Batch: 50, Workers: 4}) // and the logs go on from there
	s.expectClean(f)
}

// standby is a server that follows another one through a proxy.
type standby struct {
	*embeddedtest.Server
	t      *T
	stream *proxy
}

// newStandby makes a standby of the server that the system uses, and waits until it has all of it.
func (s *system) newStandby() *standby {
	s.t.Helper()
	b := &standby{t: s.t, stream: s.t.proxy("replication", hostOf(s.t, s.postgres.DSN()))}
	copied := onlineCopy(s.t, s.postgres)
	signal := filepath.Join(copied, "standby.signal")
	if err := os.WriteFile(signal, nil, 0o600); err != nil {
		s.t.Fatal(err)
	}
	config, err := pgx.ParseConfig(through(s.t, s.postgres.DSN(), b.stream))
	if err != nil {
		s.t.Fatal(err)
	}
	host, port, _ := strings.Cut(b.stream.addr(), ":")
	b.Server = embeddedtest.PostgresServer(s.t, embeddedtest.ServerOptions{DataDir: copied, Settings: map[string]string{
		"primary_conninfo": "host=" + host + " port=" + port + " user=" + config.User + " password=" + config.Password,
	}})
	s.await("the standby follows", time.Minute, func() bool { return b.has(s.storedTotal()) })
	return b
}

// has says whether the standby holds at least n records and is still one.
func (b *standby) has(n int) bool {
	ctx, cancel := context.WithTimeout(b.t.Context(), 2*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, b.DSN())
	if err != nil {
		return false
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var follows bool
	if err := conn.QueryRow(ctx, "SELECT pg_is_in_recovery() AND EXISTS (SELECT FROM pg_stat_wal_receiver)").Scan(&follows); err != nil || !follows {
		return false
	}
	counts, err := stored(ctx, conn)
	if err != nil {
		return false
	}
	total := 0
	for _, c := range counts {
		total += int(c)
	}
	return total >= n
}

// lose cuts the standby off: what the primary commits from now on it never gets.
func (b *standby) lose() { b.stream.cut() }

// failOver kills the primary and puts the standby in its place, at the same address for the roles.
func (s *system) failOver(b *standby, front *proxy, when string, had int) {
	s.t.Helper()
	acked := s.storedTotal()
	s.postgres.Kill9(s.t)
	conn, err := pgx.Connect(s.t.Context(), b.DSN())
	if err != nil {
		s.t.Fatal(err)
	}
	var promoted bool
	err = conn.QueryRow(s.t.Context(), "SELECT pg_promote()").Scan(&promoted)
	conn.Close(context.WithoutCancel(s.t.Context()))
	if err != nil || !promoted {
		s.t.Fatalf("promote the standby: %v, %v", promoted, err)
	}
	s.postgres = b.Server
	has := s.storedTotal()
	if has < 0 || has > had+restoreRate || has >= acked {
		s.t.Fatalf("the standby has %d records, the primary had %d, and %d when they were parted: this shows nothing", has, acked, had)
	}
	front.turnTo(hostOf(s.t, b.DSN()))
	began := time.Now()
	s.awaitStored(has+1, time.Minute)
	s.t.recovered("the failover "+when, time.Since(began), goalRecovery)
	s.awaitStored(acked, time.Minute)
	s.t.note("failover %s: the standby had %d records of %d; it had as many again %s after it took over", when, has, acked, time.Since(began).Round(time.Millisecond))
}

// hostOf is host:port of a connection string.
func hostOf(t *T, dsn string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort(u.Hostname(), u.Port())
}

// through is a connection string that leads through a proxy.
func through(t *T, dsn string, p *proxy) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = p.addr()
	return u.String()
}
