package faults

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/maxviazov/audittrail/bench/load"
	"github.com/maxviazov/audittrail/bench/traffic"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

var linkScenarios = []Scenario{
	{ID: "F11-links", Title: "each connection between two parts slow, narrow, reset or a black hole, one after the other: nothing lost, and all goes on afterwards",
		Quick: true, Run: func(t *T) { links(t, 2*time.Second, false) }},
	{ID: "F11-each-link", Title: "each connection between two parts in every one of those ways, for longer than the time-outs: nothing lost, and all goes on afterwards",
		Run: func(t *T) { links(t, 7*time.Second, true) }},
}

// pair is the connection between two parts.
type pair struct {
	name string
	way
	// store says that what is acknowledged cannot be stored, or nothing acknowledged, without it; else both must go on.
	store bool
}

type way interface {
	add(toxic)
	heal()
}

var toxics = []struct {
	name string
	toxic
}{{"slow", slow}, {"narrow", narrow}, {"reset", resets}, {"a black hole", blackHole}}

// links holds clause 1 and what DESIGN 5 says of time-outs: one connection after the other misbehaves while events come. Storing goes on
// where that connection has nothing to do with it, and soon after the end of it where it has; then nothing is lost or there twice. Of each
// pair one way to misbehave, by the seed, or each of them.
func links(t *T, each time.Duration, all bool) {
	const rate = 300
	if t.Long {
		each *= 4
	}
	var pairs []pair
	s := startSystem(t, systemConfig{cluster: t.kafka(), partitions: 4, emitters: 1, enrichers: 1, sinks: 1, gateways: 1,
		wire: func(s *system) { pairs = t.wireAll(s) }})
	s.allReady(30 * time.Second)
	client := t.proxy("client-emitter", s.emitterAddrs[0])
	s.emitterAddrs[0] = client.addr()
	pairs = append(pairs, pair{name: "client and emitter", way: client, store: true})
	gateway := s.gateway()
	answers := func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		page, err := gateway.ListEvents(ctx, &audittrailv1.ListEventsRequest{PageSize: 1})
		return err == nil && len(page.GetEvents()) == 1 && ready(s.gatewayHTTP[0])
	}

	f := s.newFeed(traffic.Shape{Seed: 11, Sources: 60, Run: 1})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done := make(chan error, 1)
	go func() {
		_, err := f.send(ctx, 1<<30, load.Config{Batch: 12, Workers: 8, Rate: rate, DuplicatePercent: 3, Timeout: 5 * time.Second})
		done <- err
	}()
	s.awaitStored(rate, time.Minute)

	for i, p := range pairs {
		works := func(since int) bool { return s.storedTotal() > since }
		if strings.HasPrefix(p.name, "gateway") {
			works = func(int) bool { return answers() }
		}
		for j, how := range toxics {
			if !all && j != (i+int(t.Seed))%len(toxics) {
				continue
			}
			what := fmt.Sprintf("%s, %s", p.name, how.name)
			before := s.storedTotal()
			p.add(how.toxic)
			pause(t, each)
			during := s.storedTotal()
			if !p.store && during < before+int(each.Seconds()*rate)/2 {
				t.Errorf("%s: %d records were stored in %s, which has nothing to do with it", what, during-before, each)
			}
			p.heal()
			since := s.storedTotal()
			took := s.await("goes on after: "+what, time.Minute, func() bool { return works(since) })
			t.recovered(fmt.Sprintf("%s (%d stored during it)", what, during-before), took, goalRecovery)
		}
	}
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatalf("the load ended by itself: %v", err)
	}
	f.sent = int(f.progress.Acked.Load())
	s.expectClean(f)
	s.allReady(30 * time.Second)
	s.sameProcesses()
}

// wireAll puts proxies between the roles and what they use.
func (t *T) wireAll(s *system) []pair {
	postgres := func(role string) *proxy {
		p := t.proxy(role+"-postgres", hostOf(t, s.DSN))
		s.connect(role, "POSTGRES_DSN", through(t, s.DSN, p))
		return p
	}
	redis := func(role string) *proxy {
		p := t.proxy(role+"-redis", s.Redis)
		s.connect(role, "REDIS_ADDR", p.addr())
		return p
	}
	return []pair{
		{name: "emitter and Kafka", way: s.link("emitter"), store: true},
		{name: "enricher and Kafka", way: s.link("enricher"), store: true},
		{name: "sink and Kafka", way: s.link("sink"), store: true},
		{name: "sink and PostgreSQL", way: postgres("sink"), store: true},
		{name: "gateway and Kafka", way: s.link("gateway")},
		{name: "gateway and PostgreSQL", way: postgres("gateway")},
		{name: "gateway and Redis", way: redis("gateway")},
		{name: "emitter and Redis", way: redis("emitter")},
	}
}

// link puts proxies between a role, or a process, and all brokers.
func (s *system) link(role string) *kafkaLink {
	l := s.t.kafkaLink(role, s.Brokers)
	s.connect(role, "KAFKA_BROKERS", strings.Join(l.brokers(), ","))
	return l
}

// connect gives a role, or a process, an address of its own for something.
func (s *system) connect(role, setting, address string) {
	if s.Roles == nil {
		s.Roles = map[string][]string{}
	}
	s.Roles[role] = append(s.Roles[role], "AUDITTRAIL_"+setting+"="+address)
}
