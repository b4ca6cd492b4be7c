package views_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/maxviazov/audittrail/internal/embedded/embeddedtest"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
	"github.com/maxviazov/audittrail/proto/segment"
	"github.com/maxviazov/audittrail/views"
	"github.com/maxviazov/audittrail/views/viewstest"
)

const absent = "01890a5d-ac96-774b-bcce-b302099a8057"

// stored is an event as it must be returned.
func stored(e *audittrailv1.Event, log int32, index int64) *audittrailv1.Event {
	want := proto.CloneOf(e)
	want.Id = event.IDOf(e).String()
	want.Position = &audittrailv1.Position{Log: log, Index: index}
	return want
}

// get reads one event and fails the test unless it is the one wanted.
func (g *gateway) get(t *testing.T, want *audittrailv1.Event) {
	t.Helper()
	got, err := g.GetEvent(t.Context(), &audittrailv1.GetEventRequest{Id: want.GetId()})
	if err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(got.GetEvent(), want) {
		t.Fatalf("got %v\nwant %v", got.GetEvent(), want)
	}
}

func TestGetEventFromTailAndSegment(t *testing.T) {
	store := viewstest.NewStore(t)
	g := newGateway(t, store.DSN, options{})
	gen := viewstest.NewGenerator(1, time.Now(), 500*24*time.Hour)
	events := gen.Events(258)
	events[0].Details = "{ \"kept\":\t1e3, \"ü\": \"\\u00fc\" }"
	events[257].ProtoReflect().SetUnknown([]byte{0xf8, 0x07, 0x01}) // a field of a newer producer
	store.Append(t, 3, events[:100]...)
	g.get(t, stored(events[0], 3, 0)) // from the tail
	g.get(t, stored(events[0], 3, 0)) // from memory
	store.Append(t, 3, events[100:]...)
	for _, i := range []int{0, 1, 255, 256, 257} {
		g.get(t, stored(events[i], 3, int64(i)))
	}
	if hits := g.counter(t, "audittrail_gateway_record_cache_total", "hit"); hits != 2 {
		t.Errorf("%v hits, want 2", hits)
	}
	_, err := g.GetEvent(t.Context(), &audittrailv1.GetEventRequest{Id: absent})
	if s := wantCode(t, err, codes.NotFound); !strings.Contains(s.Message(), absent) {
		t.Errorf("%v does not name the id", s)
	}
}

func TestBatchGetEvents(t *testing.T) {
	store := viewstest.NewStore(t)
	g := newGateway(t, store.DSN, options{})
	gen := viewstest.NewGenerator(2, time.Now(), time.Hour)
	var ids []string
	var want []*audittrailv1.Event
	for log := range int16(7) { // more bundles than are read together
		events := gen.Events(300)
		store.Append(t, log, events...)
		for _, i := range []int{299, 0} {
			want = append(want, stored(events[i], int32(log), int64(i)))
			ids = append(ids, want[len(want)-1].GetId())
		}
	}
	want, ids = append(want, want[3]), append(ids, ids[3]) // the same again
	for range 2 {                                          // from the store, then from memory
		got, err := g.BatchGetEvents(t.Context(), &audittrailv1.BatchGetEventsRequest{Ids: ids})
		if err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(got, &audittrailv1.BatchGetEventsResponse{Events: want}) {
			t.Fatalf("got %v\nwant %v", got, want)
		}
	}
	_, err := g.BatchGetEvents(t.Context(), &audittrailv1.BatchGetEventsRequest{Ids: []string{ids[0], absent, ids[1]}})
	if s := wantCode(t, err, codes.NotFound); !strings.Contains(s.Message(), absent) {
		t.Errorf("%v does not name the id", s)
	}
}

// wantField fails the test unless err is INVALID_ARGUMENT that names the field.
func wantField(t testing.TB, err error, field string) {
	t.Helper()
	for _, d := range wantCode(t, err, codes.InvalidArgument).Details() {
		if bad, ok := d.(*errdetails.BadRequest); ok && len(bad.GetFieldViolations()) > 0 && bad.GetFieldViolations()[0].GetField() == field {
			return
		}
	}
	t.Errorf("%v does not name %s", err, field)
}

func TestInvalidArgumentsNameTheField(t *testing.T) {
	store := viewstest.NewStore(t)
	g := newGateway(t, store.DSN, options{})
	ctx := t.Context()
	list := func(req *audittrailv1.ListEventsRequest) func() error {
		return func() error { _, err := g.ListEvents(ctx, req); return err }
	}
	tooMany := make([]string, 101)
	for field, calls := range map[string][]func() error{
		"id": {
			func() error { _, err := g.GetEvent(ctx, &audittrailv1.GetEventRequest{}); return err },
			func() error { _, err := g.GetEvent(ctx, &audittrailv1.GetEventRequest{Id: "x"}); return err },
		},
		"ids": {
			func() error { _, err := g.BatchGetEvents(ctx, &audittrailv1.BatchGetEventsRequest{}); return err },
			func() error {
				_, err := g.BatchGetEvents(ctx, &audittrailv1.BatchGetEventsRequest{Ids: tooMany})
				return err
			},
			func() error {
				_, err := g.RedriveDeadLetters(ctx, &audittrailv1.RedriveDeadLettersRequest{})
				return err
			},
		},
		"ids[1]": {func() error {
			_, err := g.BatchGetEvents(ctx, &audittrailv1.BatchGetEventsRequest{Ids: []string{absent, "x"}})
			return err
		}},
		"page_size": {
			list(&audittrailv1.ListEventsRequest{PageSize: -1}), list(&audittrailv1.ListEventsRequest{PageSize: 1001}),
			func() error {
				_, err := g.ListSources(ctx, &audittrailv1.ListSourcesRequest{PageSize: 1001})
				return err
			},
			func() error {
				_, err := g.ListDeadLetters(ctx, &audittrailv1.ListDeadLettersRequest{PageSize: 1001})
				return err
			},
			func() error { _, err := g.ListGaps(ctx, &audittrailv1.ListGapsRequest{PageSize: -3}); return err },
		},
		"filter": {list(&audittrailv1.ListEventsRequest{Filter: "foo = 1"}), func() error {
			tail, err := g.TailEvents(ctx, &audittrailv1.TailEventsRequest{Filter: "("})
			if err == nil {
				_, err = tail.Recv()
			}
			return err
		}},
		"page_token": {
			list(&audittrailv1.ListEventsRequest{PageToken: "x"}),
			func() error {
				_, err := g.ListSources(ctx, &audittrailv1.ListSourcesRequest{PageToken: "x"})
				return err
			},
			func() error {
				_, err := g.ListDeadLetters(ctx, &audittrailv1.ListDeadLettersRequest{PageToken: "x"})
				return err
			},
			func() error { _, err := g.ListGaps(ctx, &audittrailv1.ListGapsRequest{PageToken: "x"}); return err },
		},
		"resume_token": {func() error {
			tail, err := g.TailEvents(ctx, &audittrailv1.TailEventsRequest{ResumeToken: "x"})
			if err == nil {
				_, err = tail.Recv()
			}
			return err
		}},
		"source": {
			func() error { _, err := g.GetSource(ctx, &audittrailv1.GetSourceRequest{}); return err },
			func() error { _, err := g.GetSource(ctx, &audittrailv1.GetSourceRequest{Source: "a//b"}); return err },
			func() error {
				_, err := g.SetSource(ctx, &audittrailv1.SetSourceRequest{Registration: &audittrailv1.SourceRegistration{}})
				return err
			},
		},
		"prefix": {func() error {
			_, err := g.ListSources(ctx, &audittrailv1.ListSourcesRequest{Prefix: "a b"})
			return err
		}},
		"registration": {func() error {
			_, err := g.SetSource(ctx, &audittrailv1.SetSourceRequest{Source: "a"})
			return err
		}},
		"registration.owner": {func() error {
			_, err := g.SetSource(ctx, &audittrailv1.SetSourceRequest{Source: "a", Registration: &audittrailv1.SourceRegistration{
				Owner: strings.Repeat("x", 129),
			}})
			return err
		}},
	} {
		for i, call := range calls {
			t.Run(fmt.Sprint(field, i), func(t *testing.T) { wantField(t, call(), field) })
		}
	}
}

func TestDamageIsDataLossAndNotAnotherEvent(t *testing.T) {
	store := viewstest.NewStore(t)
	g := newGateway(t, store.DSN, options{})
	gen := viewstest.NewGenerator(3, time.Now(), time.Hour)
	events := gen.Events(10)
	store.Append(t, 0, events...)
	// Two rows that point at an entry of another event, and at one that is not there.
	for i, index := range map[int]int64{0: 5, 1: 700} {
		id := event.IDOf(events[i])
		store.Exec(t, `ALTER TABLE audittrail.events DISABLE TRIGGER no_change`)
		store.Exec(t, `UPDATE audittrail.events SET log_index = $1 WHERE id = $2`, index, [16]byte(id))
		_, err := g.GetEvent(t.Context(), &audittrailv1.GetEventRequest{Id: id.String()})
		wantCode(t, err, codes.DataLoss)
	}
	_, err := g.ListEvents(t.Context(), &audittrailv1.ListEventsRequest{})
	if s := wantCode(t, err, codes.DataLoss); strings.Contains(s.Message(), "log 0") {
		t.Errorf("the cause is told: %v", s)
	}
}

func TestRedactedEntriesAreGone(t *testing.T) {
	store := viewstest.NewStore(t)
	g := newGateway(t, store.DSN, options{})
	gen := viewstest.NewGenerator(4, time.Now(), time.Hour)
	events := gen.Events(2)
	store.Append(t, 0, events...)
	store.AppendEntries(t, 0, segment.Entry{Kind: segment.KindRedacted, Payload: make([]byte, 32)})
	gone := event.IDOf(events[0])
	store.Exec(t, `ALTER TABLE audittrail.events DISABLE TRIGGER no_change`)
	store.Exec(t, `UPDATE audittrail.events SET log_index = 2 WHERE id = $1`, [16]byte(gone))
	_, err := g.GetEvent(t.Context(), &audittrailv1.GetEventRequest{Id: gone.String()})
	wantCode(t, err, codes.NotFound)
	list, err := g.ListEvents(t.Context(), &audittrailv1.ListEventsRequest{})
	if err != nil || len(list.GetEvents()) != 1 || list.GetEvents()[0].GetId() != event.IDOf(events[1]).String() {
		t.Errorf("%v, %v", list, err)
	}
}

func newRedis(t *testing.T, addr string) *redis.Client {
	client := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1})
	t.Cleanup(func() { client.Close() })
	return client
}

func TestRedisServesWhatItWasGivenAndNothingElse(t *testing.T) {
	server := embeddedtest.NewRedis(t)
	client := newRedis(t, server.Addr())
	store := viewstest.NewStore(t)
	cfg := views.Config{Key: []byte("0123456789abcdef0123456789abcdef"), RedisTime: time.Second}
	g := newGateway(t, store.DSN, options{cfg: cfg, redis: client})
	gen := viewstest.NewGenerator(5, time.Now(), time.Hour)
	events := gen.Events(3)
	store.Append(t, 2, events...)
	one, two := stored(events[0], 2, 0), stored(events[1], 2, 1)
	key := func(e *audittrailv1.Event) string { return "audittrail:record:" + e.GetId() }
	results := func(hit, miss, refused float64) {
		t.Helper()
		for name, want := range map[string]float64{"hit": hit, "miss": miss, "refused": refused, "error": 0} {
			if got := g.counter(t, "audittrail_gateway_record_cache_total", name); got != want {
				t.Errorf("%s: %v, want %v", name, got, want)
			}
		}
	}
	g.get(t, one)
	g.get(t, two)
	results(0, 2, 0)
	another := newGateway(t, store.DSN, options{cfg: cfg, redis: client})
	another.get(t, one)
	if got := another.counter(t, "audittrail_gateway_record_cache_total", "hit"); got != 1 {
		t.Error("another gateway with the same key does not share it")
	}
	g.get(t, one)
	results(1, 2, 0)

	// Poisoned in every way: another event's entry, a changed byte, cut off, text, of another installation.
	good, err := client.Get(t.Context(), key(one)).Result()
	if err != nil {
		t.Fatal(err)
	}
	changed := []byte(good)
	changed[20] ^= 1
	stranger := newGateway(t, store.DSN, options{cfg: views.Config{RedisTime: time.Second}, redis: client})
	poison := []string{string(changed), good[:len(good)-1], "", "hello"}
	if ttl := client.TTL(t.Context(), key(one)).Val(); ttl <= 0 || ttl > time.Hour {
		t.Errorf("kept for %v", ttl)
	}
	foreign := func() string {
		client.Del(t.Context(), key(one))
		stranger.get(t, one)
		return client.Get(t.Context(), key(one)).Val()
	}
	poison = append(poison, foreign(), client.Get(t.Context(), key(two)).Val())
	for i, value := range poison {
		if err := client.Set(t.Context(), key(one), value, 0).Err(); err != nil {
			t.Fatal(err)
		}
		g.get(t, one)
		results(1, 2, float64(i+1))
	}
	if now := client.Get(t.Context(), key(one)).Val(); now != good {
		t.Error("the poisoned entry was not replaced")
	}
}

func TestRedisDownOrHungFailsNoCall(t *testing.T) {
	store := viewstest.NewStore(t)
	gen := viewstest.NewGenerator(6, time.Now(), time.Hour)
	events := gen.Events(50)
	store.Append(t, 0, events...)
	hung, err := net.Listen("tcp", "127.0.0.1:0") // accepts, by its backlog, and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer hung.Close()
	server := embeddedtest.NewRedis(t)
	for name, addr := range map[string]string{"down": server.Addr(), "hung": hung.Addr().String()} {
		t.Run(name, func(t *testing.T) {
			g := newGateway(t, store.DSN, options{redis: newRedis(t, addr)})
			if name == "down" {
				g.get(t, stored(events[0], 0, 0))
				server.Stop()
			}
			started := time.Now()
			for i, e := range events {
				g.get(t, stored(e, 0, int64(i)))
			}
			// Without a pause after a failure a hung Redis would cost two waits of 20 ms in each of the 50 calls.
			if took := time.Since(started); took > 1500*time.Millisecond {
				t.Errorf("50 calls took %v", took)
			}
			if got := g.counter(t, "audittrail_gateway_record_cache_total", "error"); got < 40 {
				t.Errorf("%v errors counted", got)
			}
		})
	}
	server.Start(t)
	g := newGateway(t, store.DSN, options{redis: newRedis(t, server.Addr())})
	eventually(t, "used again", func() bool {
		g.get(t, stored(events[0], 0, 0))
		return g.counter(t, "audittrail_gateway_record_cache_total", "hit") > 0
	})
}

func TestPostgresAwayIsUnavailableWithRetryInfo(t *testing.T) {
	server := embeddedtest.PostgresServer(t, embeddedtest.ServerOptions{})
	store := viewstest.OpenStore(t, server.DSN())
	gen := viewstest.NewGenerator(7, time.Now(), time.Hour)
	e := gen.Event()
	store.Append(t, 0, e)
	g := newGateway(t, server.DSN(), options{cfg: views.Config{TailPoll: 20 * time.Millisecond}})
	g.get(t, stored(e, 0, 0))
	if err := g.server.Ready(t.Context()); err != nil {
		t.Errorf("not ready: %v", err)
	}
	tail, err := g.TailEvents(t.Context(), &audittrailv1.TailEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	first, err := tail.Recv()
	if err != nil {
		t.Fatal(err)
	}
	server.Kill9(t)
	var listErr error
	eventually(t, "sessions end, which outlive the postmaster by a moment", func() bool {
		_, listErr = g.ListEvents(t.Context(), &audittrailv1.ListEventsRequest{})
		return listErr != nil
	})
	_, getErr := g.GetEvent(t.Context(), &audittrailv1.GetEventRequest{Id: absent})
	_, tailErr := tail.Recv()
	_, gapsErr := g.ListGaps(t.Context(), &audittrailv1.ListGapsRequest{})
	for name, err := range map[string]error{"list": listErr, "get": getErr, "tail": tailErr, "gaps": gapsErr} {
		s := status.Convert(err)
		retry := false
		for _, d := range s.Details() {
			_, ok := d.(*errdetails.RetryInfo)
			retry = retry || ok
		}
		if s.Code() != codes.Unavailable || !retry || strings.Contains(s.Message(), "127.0.0.1") {
			t.Errorf("%s: %v %v", name, err, s.Details())
		}
	}
	if g.server.Ready(t.Context()) == nil {
		t.Error("ready without PostgreSQL")
	}
	g.get(t, stored(e, 0, 0)) // from memory
	server.Start(t)
	eventually(t, "listed again", func() bool {
		got, err := g.ListEvents(t.Context(), &audittrailv1.ListEventsRequest{})
		return err == nil && len(got.GetEvents()) == 1
	})
	late := gen.Event()
	store.Pool.Reset() // its connections are of the server that was killed
	store.Append(t, 0, late)
	tail, err = g.TailEvents(t.Context(), &audittrailv1.TailEventsRequest{ResumeToken: first.GetResumeToken()})
	if err != nil {
		t.Fatal(err)
	}
	if got := receive(t, tail, 1); !proto.Equal(got[0], stored(late, 0, 1)) {
		t.Errorf("got %v", got)
	}
}
