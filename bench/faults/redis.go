package faults

import (
	"regexp"
	"strconv"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/maxviazov/audittrail/bench/load"
	"github.com/maxviazov/audittrail/bench/traffic"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

var redisScenarios = []Scenario{
	{ID: "F10-redis-worse", Title: "Redis stopped in its tracks, wiped again and again, slow, and behind a black hole: right answers, and soon", Quick: true, Run: redisWorse},
}

// redisWorse holds the same as redisUnreachable for what is worse than an error: Redis accepts connections and says nothing, forgets what it
// said it knows, or answers late.
func redisWorse(t *T) {
	const rate = 300
	events, each := 4500, 2*time.Second
	if t.Long {
		events, each = 60_000, 20*time.Second
	}
	var front *proxy
	s := startSystem(t, systemConfig{cluster: t.kafka(), partitions: 4, emitters: 1, enrichers: 1, sinks: 1, gateways: 1,
		wire: func(s *system) {
			front = t.proxy("redis", s.Redis)
			s.Redis = front.addr()
		}})
	s.allReady(30 * time.Second)
	shape := faultShape(66)
	traffic := s.start(load.Config{Shape: shape, Events: events, Batch: 10, Workers: 4, Rate: rate})
	u := s.redisUser(shape)
	u.use("there")
	if u.remembered() < 1 {
		t.Error("Redis is there, and a request that was sent twice was not answered from memory: this test shows nothing")
	}
	traffic.reach(rate, time.Minute)
	client := redis.NewClient(&redis.Options{Addr: s.redis.Addr()})
	defer client.Close()
	pid := redisPID(t, client)
	signal := func(s syscall.Signal) {
		if err := syscall.Kill(pid, s); err != nil {
			t.Fatal(err)
		}
	}

	for _, fault := range []struct {
		state      string
		begin, end func()
		again      func() // before each use
	}{
		{state: "stopped in its tracks", begin: func() { signal(syscall.SIGSTOP) }, end: func() { signal(syscall.SIGCONT) }},
		{state: "wiped", again: func() {
			if err := client.FlushAll(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
		}},
		{state: "slow", begin: func() { front.add(slow) }, end: front.heal},
		{state: "behind a black hole", begin: func() { front.add(blackHole) }, end: front.heal},
	} {
		if fault.begin != nil {
			fault.begin()
		}
		for began := time.Now(); time.Since(began) < each; pause(t, 50*time.Millisecond) {
			if fault.again != nil {
				fault.again()
			}
			u.use(fault.state)
		}
		if fault.end != nil {
			fault.end()
		}
		before, back := u.remembered(), time.Now()
		waitFor(t, "requests are remembered again", 30*time.Second, func() bool { u.use("back"); return u.remembered() > before })
		t.recovered("Redis "+fault.state+" (until requests are remembered again)", time.Since(back), goalRecovery)
	}
	if report := traffic.wait(2 * time.Minute); report.Retries > 0 || report.Slowest > 5*time.Second {
		t.Errorf("producers without request ids were affected: %d retries, slowest call %s", report.Retries, report.Slowest)
	}
	s.allReady(10 * time.Second)
	s.sameProcesses()
	s.judged(events)
}

var redisProcess = regexp.MustCompile(`process_id:(\d+)`)

// redisPID asks the server for its process id, while it answers.
func redisPID(t *T, client *redis.Client) int {
	t.Helper()
	info, err := client.Info(t.Context(), "server").Result()
	match := redisProcess.FindStringSubmatch(info)
	if err != nil || match == nil {
		t.Fatalf("ask Redis for its process id: %v", err)
	}
	pid, err := strconv.Atoi(match[1])
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// redisUser uses what Redis makes fast: request ids at the emitter, events that are read again at the gateway.
type redisUser struct {
	s       *system
	shape   traffic.Shape
	emitter audittrailv1.EmitterServiceClient
	gateway audittrailv1.QueryServiceClient
	sent    int
}

func (s *system) redisUser(shape traffic.Shape) *redisUser {
	s.t.Helper()
	return &redisUser{s: s, shape: shape, emitter: audittrailv1.NewEmitterServiceClient(s.conns()[0]), gateway: s.gateway()}
}

// use sends the same request twice and reads its event twice. What is late is a fault: without Redis an answer takes some milliseconds.
func (u *redisUser) use(state string) {
	const soon = 1500 * time.Millisecond
	t := u.s.t
	t.Helper()
	events := []*audittrailv1.Event{u.shape.Event(u.sent)} // of the traffic, or soon to be: it is stored once anyway
	u.sent += 10
	id := uuid.UUID(load.ID(events[0])).String()
	for range 2 {
		began := time.Now()
		response, err := u.emitter.BatchEmitEvents(t.Context(), &audittrailv1.BatchEmitEventsRequest{Events: events, RequestId: "request-" + id})
		if err != nil || response.GetResults()[0].GetId() != id {
			t.Errorf("redis %s: a request with an id is answered %v, %v", state, response, err)
		}
		if took := time.Since(began); took > soon {
			t.Errorf("redis %s: a request with an id took %s", state, took)
		}
	}
	waitFor(t, "the event is stored", 20*time.Second, func() bool {
		_, err := u.gateway.GetEvent(t.Context(), &audittrailv1.GetEventRequest{Id: id})
		return err == nil
	})
	for range 2 {
		began := time.Now()
		response, err := u.gateway.GetEvent(t.Context(), &audittrailv1.GetEventRequest{Id: id})
		if err != nil || response.GetEvent().GetId() != id {
			t.Errorf("redis %s: GetEvent: %v", state, err)
		}
		if took := time.Since(began); took > soon {
			t.Errorf("redis %s: GetEvent took %s", state, took)
		}
	}
}

// remembered is how many events the emitter has answered from memory.
func (u *redisUser) remembered() float64 {
	return metric(u.s.t, u.s.emitterHTTP[0], "audittrail_emitter_events_remembered_total")
}
