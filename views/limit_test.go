package views_test

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/maxviazov/audittrail/internal/embedded/embeddedtest"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/views"
)

var sharedKey = []byte("0123456789abcdef0123456789abcdef")

// unreachable is a database that nobody needs: sources are answered from memory.
const unreachable = "postgres://audittrail@127.0.0.1:1/none"

// limited is a gateway that grants slowly: what a test spends does not come back while it runs.
func limited(t *testing.T, client *redis.Client, principal string) *gateway {
	return limitedWithin(t, client, principal, time.Second)
}

func limitedWithin(t *testing.T, client *redis.Client, principal string, wait time.Duration) *gateway {
	return newGateway(t, unreachable, options{redis: client, principal: principal,
		cfg: views.Config{Key: sharedKey, RateLimit: 1, RateBurst: 60, RedisTime: wait}})
}

// spend calls until it is refused, n times at most, and returns how many calls were granted.
func spend(t *testing.T, g *gateway, n int) int {
	t.Helper()
	for i := range n {
		_, err := g.ListSources(t.Context(), &audittrailv1.ListSourcesRequest{})
		if status.Code(err) == codes.ResourceExhausted {
			wait := time.Duration(0)
			for _, d := range status.Convert(err).Details() {
				if info, ok := d.(*errdetails.RetryInfo); ok {
					wait = info.GetRetryDelay().AsDuration()
				}
			}
			if wait <= 0 || wait > 1100*time.Millisecond {
				t.Errorf("told to wait %v for one token a second", wait)
			}
			return i
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return n
}

func TestGatewaysShareTheRateOfAPrincipal(t *testing.T) {
	client := newRedis(t, embeddedtest.Redis(t))
	one, two := limited(t, client, "alice"), limited(t, client, "alice")
	if got := spend(t, one, 40); got != 40 {
		t.Fatalf("%d of 40 calls granted", got)
	}
	// 20 are left, and what has come back meanwhile.
	if got := spend(t, two, 60); got < 20 || got > 30 {
		t.Errorf("the other gateway granted %d", got)
	}
	if two.counter(t, "audittrail_gateway_limited_total", "shared") == 0 {
		t.Error("not counted as refused by the shared bucket")
	}
	if got := spend(t, limited(t, client, "bob"), 60); got != 60 {
		t.Errorf("another principal was granted %d", got)
	}
	names, err := client.Keys(t.Context(), "*").Result()
	if err != nil || len(names) != 2 || strings.Contains(strings.Join(names, " "), "alice") {
		t.Errorf("keys in redis: %v %v", names, err)
	}
	for _, name := range names {
		if ttl := client.PTTL(t.Context(), name).Val(); ttl <= 0 || ttl > 62*time.Second {
			t.Errorf("%s is kept for %v", name, ttl)
		}
	}
}

// With Redis gone, hung, slow or wiped each gateway grants what its own bucket has: no more, and no call fails or waits for long.
func TestWithoutRedisEachGatewayLimitsOnItsOwn(t *testing.T) {
	for name, harm := range map[string]func(*testing.T, *embeddedtest.RedisServer, *redis.Client) (through *redis.Client){
		"gone": func(t *testing.T, s *embeddedtest.RedisServer, c *redis.Client) *redis.Client {
			s.Stop()
			return c
		},
		"hung": func(t *testing.T, _ *embeddedtest.RedisServer, c *redis.Client) *redis.Client {
			stopProcess(t, c)
			return c
		},
		"slow": func(t *testing.T, s *embeddedtest.RedisServer, _ *redis.Client) *redis.Client {
			return newRedis(t, slowProxy(t, s.Addr(), 400*time.Millisecond))
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := embeddedtest.NewRedis(t)
			client := newRedis(t, server.Addr())
			if got := spend(t, limited(t, client, "alice"), 60); got != 60 {
				t.Fatalf("%d of 60 calls granted", got)
			}
			through := harm(t, server, client)
			g := limitedWithin(t, through, "alice", 200*time.Millisecond)
			started := time.Now()
			if got := spend(t, g, 200); got < 60 || got > 75 {
				t.Errorf("%d granted by the gateway's own bucket of 60", got)
			}
			if took := time.Since(started); took > 10*time.Second {
				t.Errorf("took %v", took)
			}
			if g.counter(t, "audittrail_gateway_redis_failures_total", "limits") < 50 {
				t.Error("nothing warns of it")
			}
			if g.counter(t, "audittrail_gateway_redis_away") != 1 {
				t.Error("the gauge does not say that redis is away")
			}
			if g.counter(t, "audittrail_gateway_limited_total", "local") == 0 {
				t.Error("not counted as refused by the local bucket")
			}
		})
	}
	t.Run("wiped", func(t *testing.T) {
		client := newRedis(t, embeddedtest.Redis(t))
		g := limited(t, client, "alice")
		granted := 0
		for range 10 {
			granted += spend(t, g, 20)
			if err := client.FlushAll(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			if err := client.ScriptFlush(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
		}
		if granted < 60 || granted > 75 {
			t.Errorf("%d granted by a gateway whose bucket has 60", granted)
		}
		if g.counter(t, "audittrail_gateway_redis_failures_total") != 0 {
			t.Error("a wiped redis counts as failed")
		}
	})
}

// stopProcess stops the server as a hung machine does: connections stay, nothing answers.
func stopProcess(t *testing.T, client *redis.Client) {
	t.Helper()
	info, err := client.Info(t.Context(), "server").Result()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(info) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), "process_id:"); ok {
			pid, err := strconv.Atoi(text)
			if err != nil {
				t.Fatal(err)
			}
			if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("no process_id in %s", info)
}

// slowProxy passes on what the server says after a delay.
func slowProxy(t *testing.T, addr string, delay time.Duration) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	pass := func(from, to net.Conn, wait time.Duration) {
		defer from.Close()
		defer to.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := from.Read(buf)
			if err != nil {
				return
			}
			time.Sleep(wait)
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
	}
	go func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", addr)
			if err != nil {
				in.Close()
				return
			}
			go pass(in, out, 0)
			go pass(out, in, delay)
		}
	}()
	return listener.Addr().String()
}

func TestRecordsOfAHungSlowOrWipedRedisFailNoCall(t *testing.T) {
	store, events := storeOf(t, 30)
	for name, harm := range map[string]func(*testing.T, *embeddedtest.RedisServer, *redis.Client) *redis.Client{
		"hung": func(t *testing.T, _ *embeddedtest.RedisServer, c *redis.Client) *redis.Client {
			stopProcess(t, c)
			return c
		},
		"slow": func(t *testing.T, s *embeddedtest.RedisServer, _ *redis.Client) *redis.Client {
			return newRedis(t, slowProxy(t, s.Addr(), 300*time.Millisecond))
		},
		"wiped": func(t *testing.T, _ *embeddedtest.RedisServer, c *redis.Client) *redis.Client {
			if err := c.FlushAll(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			return c
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := embeddedtest.NewRedis(t)
			client := newRedis(t, server.Addr())
			g := newGateway(t, store, options{redis: client})
			for i, e := range events {
				g.get(t, stored(e, 0, int64(i)))
			}
			g = newGateway(t, store, options{redis: harm(t, server, client)})
			for i, e := range events {
				g.get(t, stored(e, 0, int64(i)))
			}
			errors, misses := g.counter(t, "audittrail_gateway_record_cache_total", "error"), g.counter(t, "audittrail_gateway_record_cache_total", "miss")
			if name == "wiped" && (errors != 0 || misses != 30) || name != "wiped" && errors == 0 {
				t.Errorf("%v errors, %v misses", errors, misses)
			}
			if (g.counter(t, "audittrail_gateway_redis_failures_total", "records") > 0) != (name != "wiped") {
				t.Error("the warning metric is wrong")
			}
		})
	}
}

// An entry is one id's: given for another one's, by whoever can write to Redis, it is refused, whosever it is.
func TestNobodyIsServedAnothersRecordThroughRedis(t *testing.T) {
	store, events := storeOf(t, 2)
	client := newRedis(t, embeddedtest.Redis(t))
	g := newGateway(t, store, options{redis: client, cfg: views.Config{Key: sharedKey, RedisTime: time.Second}})
	g.get(t, stored(events[0], 0, 0))
	key := func(i int) string { return fmt.Sprintf("audittrail:record:%s", stored(events[i], 0, int64(i)).GetId()) }
	mine, err := client.Get(t.Context(), key(0)).Result()
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Set(t.Context(), key(1), mine, 0).Err(); err != nil {
		t.Fatal(err)
	}
	g.get(t, stored(events[1], 0, 1))
	if g.counter(t, "audittrail_gateway_record_cache_total", "refused") != 1 {
		t.Error("the swapped entry was not refused")
	}
}
