package views_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kfake"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/maxviazov/audittrail/internal/embedded/embeddedtest"
	"github.com/maxviazov/audittrail/processors/enricher/table"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/stream"
	"github.com/maxviazov/audittrail/views"
	"github.com/maxviazov/audittrail/views/viewstest"
)

// runSources runs views of a cluster until the returned function is called or the test ends.
func runSources(t *testing.T, settings stream.Settings) (*views.SourceViews, *prometheus.Registry, func()) {
	t.Helper()
	registry := prometheus.NewRegistry()
	sources := views.NewSourceViews(settings, zerolog.Nop(), registry)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := sources.Run(ctx); err != nil {
			t.Errorf("run views: %v", err)
		}
	})
	stop := sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(stop)
	return sources, registry, stop
}

func applyTopics(t *testing.T, settings stream.Settings) {
	t.Helper()
	if err := stream.Apply(t.Context(), settings, stream.SingleBrokerLayout(), zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
}

func newPublisher(t *testing.T, settings stream.Settings) *views.KafkaPublisher {
	p := views.NewKafkaPublisher(settings)
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func TestSourcesFromKafka(t *testing.T) {
	settings := stream.Settings{Brokers: embeddedtest.Kafka(t)}
	applyTopics(t, settings)
	publisher := newPublisher(t, settings)
	state := func(source string, offset, events int64) {
		t.Helper()
		value := stream.EncodeState(&table.State{TopicId: make([]byte, 16), LastOffset: offset, Events: events, FirstSeenMs: 1000, LastSeenMs: 2000,
			Accepted: make([]byte, 44)})
		if err := publisher.Publish(t.Context(), stream.Table, []byte(source), value); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 40 { // before the view starts: it must catch up
		state(fmt.Sprintf("acme/s%02d", i), 5, int64(i))
	}
	state("acme/s07", 3, 1000) // an older value, written last by an enricher that had lost its partition
	sources, registry, _ := runSources(t, settings)
	store := viewstest.NewStore(t)
	g := newGateway(t, store.DSN, options{sources: sources, publisher: publisher})
	eventually(t, "ready", func() bool { return g.server.Ready(t.Context()) == nil })

	get := func(source string) *audittrailv1.Source {
		t.Helper()
		got, err := g.GetSource(t.Context(), &audittrailv1.GetSourceRequest{Source: source})
		if err != nil {
			t.Fatal(err)
		}
		return got.GetSource()
	}
	if got := get("acme/s07"); got.GetActivity().GetEventCount() != 7 || got.GetRegistration() != nil {
		t.Errorf("got %v", got)
	}
	_, err := g.GetSource(t.Context(), &audittrailv1.GetSourceRequest{Source: "acme"})
	wantCode(t, err, codes.NotFound)

	registration := &audittrailv1.SourceRegistration{Owner: "team-a", Environment: "prod", Classification: "confidential", RetentionDays: 400}
	for _, source := range []string{"acme/s07", "acme", "acme-test", "zoo"} {
		set, err := g.SetSource(t.Context(), &audittrailv1.SetSourceRequest{Source: source, Registration: registration})
		if err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(set.GetSource().GetRegistration(), registration) || !proto.Equal(get(source), set.GetSource()) {
			t.Errorf("set %v, then got %v", set.GetSource(), get(source))
		}
	}
	empty := &audittrailv1.SourceRegistration{}
	if set, err := g.SetSource(t.Context(), &audittrailv1.SetSourceRequest{Source: "zoo", Registration: empty}); err != nil ||
		!proto.Equal(set.GetSource(), &audittrailv1.Source{Source: "zoo", Registration: empty}) {
		t.Errorf("an empty registration: %v, %v", set, err)
	}
	state("acme/s07", 6, 8)
	eventually(t, "the view follows", func() bool { return get("acme/s07").GetActivity().GetEventCount() == 8 })
	if got := get("acme/s07"); !proto.Equal(got.GetRegistration(), registration) {
		t.Errorf("got %v", got)
	}

	list := func(prefix string, size int32) []string {
		t.Helper()
		var paths []string
		req := &audittrailv1.ListSourcesRequest{Prefix: prefix, PageSize: size}
		for {
			resp, err := g.ListSources(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range resp.GetSources() {
				paths = append(paths, s.GetSource())
			}
			if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
				return paths
			}
			if len(resp.GetSources()) != int(size) {
				t.Errorf("a page of %d before the last", len(resp.GetSources()))
			}
		}
	}
	var below []string
	for i := range 40 {
		below = append(below, fmt.Sprintf("acme/s%02d", i))
	}
	for _, c := range []struct {
		prefix string
		want   []string
	}{
		{"", slices.Concat([]string{"acme", "acme-test"}, below, []string{"zoo"})},
		{"acme", slices.Concat([]string{"acme"}, below)},
		{"acme/", slices.Concat([]string{"acme"}, below)},
		{"acme/s0", nil},
		{"acme/s01", []string{"acme/s01"}},
	} {
		for _, size := range []int32{1, 7, 1000} {
			if got := list(c.prefix, size); !slices.Equal(got, c.want) {
				t.Errorf("prefix %q, pages of %d: got %v, want %v", c.prefix, size, got, c.want)
			}
		}
	}
	if metrics, err := registry.Gather(); err != nil || len(metrics) != 2 {
		t.Errorf("%d metrics, %v", len(metrics), err)
	}
}

// TestSourcesWaitForABrokerAndForItsReturn holds readiness: not before the views have caught up, also when no broker was there at the
// start, and not while a connection that broke has not caught up again. What is known is served all the same.
func TestSourcesWaitForABrokerAndForItsReturn(t *testing.T) {
	dir := t.TempDir()
	port := freePort(t)
	settings := stream.Settings{Brokers: []string{fmt.Sprintf("127.0.0.1:%d", port)}}
	sources, _, _ := runSources(t, settings)
	if sources.Ready() == nil {
		t.Fatal("ready without a broker")
	}
	if _, err := sources.Get("acme"); err == nil {
		t.Fatal("an answer without a broker")
	}
	start := func() *kfake.Cluster {
		cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(port), kfake.DataDir(dir))
		if err != nil {
			t.Fatal(err)
		}
		return cluster
	}
	cluster := start()
	defer func() { cluster.Close() }()
	applyTopics(t, settings)
	publish := func(owner string) {
		publisher := views.NewKafkaPublisher(settings)
		defer publisher.Close()
		value, _ := (&audittrailv1.SourceRegistration{Owner: owner}).MarshalVT()
		if err := publisher.Publish(t.Context(), stream.Sources, []byte("acme"), value); err != nil {
			t.Fatal(err)
		}
	}
	publish("first")
	eventually(t, "ready", func() bool { return sources.Ready() == nil })
	owner := func() string {
		s, err := sources.Get("acme")
		if err != nil {
			t.Fatal(err)
		}
		return s.GetRegistration().GetOwner()
	}
	if got := owner(); got != "first" {
		t.Errorf("ready with %q", got)
	}
	cluster.Close()
	eventually(t, "unready without a broker", func() bool { return sources.Ready() != nil })
	if got := owner(); got != "first" {
		t.Errorf("%q while the broker is away", got)
	}
	cluster = start()
	publish("second")
	eventually(t, "ready again", func() bool { return sources.Ready() == nil })
	if got := owner(); got != "second" {
		t.Errorf("ready again with %q", got)
	}
}

func freePort(t *testing.T) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func TestSourcesThatAreNotReadyAreUnavailable(t *testing.T) {
	store := viewstest.NewStore(t)
	g := newGateway(t, store.DSN, options{sources: &memorySources{err: views.ErrNotReady}})
	_, err := g.GetSource(t.Context(), &audittrailv1.GetSourceRequest{Source: "acme"})
	wantCode(t, err, codes.Unavailable)
	_, err = g.ListSources(t.Context(), &audittrailv1.ListSourcesRequest{})
	wantCode(t, err, codes.Unavailable)
}

func TestSetSourceAnswersWhenTheViewIsBehind(t *testing.T) {
	store := viewstest.NewStore(t)
	publisher := &memoryPublisher{}
	g := newGateway(t, store.DSN, options{publisher: publisher, cfg: views.Config{SourceWait: 100 * time.Millisecond}})
	registration := &audittrailv1.SourceRegistration{Owner: "o"}
	got, err := g.SetSource(t.Context(), &audittrailv1.SetSourceRequest{Source: "acme", Registration: registration})
	if err != nil || !proto.Equal(got.GetSource(), &audittrailv1.Source{Source: "acme", Registration: registration}) {
		t.Errorf("%v, %v", got, err)
	}
	value, _ := registration.MarshalVT()
	if want := []published{{stream.Sources, "acme", string(value)}}; !slices.Equal(publisher.messages, want) {
		t.Errorf("published %v", publisher.messages)
	}
	publisher.err = context.DeadlineExceeded
	_, err = g.SetSource(t.Context(), &audittrailv1.SetSourceRequest{Source: "acme", Registration: registration})
	wantCode(t, err, codes.Unavailable)
}
