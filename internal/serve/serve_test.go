package serve

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/maxviazov/audittrail/internal/identity"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// service answers by the action of the event it gets.
type service struct {
	audittrailv1.UnimplementedEmitterServiceServer
	audittrailv1.UnimplementedQueryServiceServer
	tailing chan struct{}
}

func (s *service) EmitEvent(ctx context.Context, r *audittrailv1.EmitEventRequest) (*audittrailv1.EmitEventResponse, error) {
	switch r.Event.GetAction() {
	case "overload":
		st, err := status.New(codes.ResourceExhausted, "busy").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(1500 * time.Millisecond)})
		return nil, errors.Join(err, st.Err())
	case "too.large":
		return nil, status.Error(codes.ResourceExhausted, "too large")
	case "whoami":
		return &audittrailv1.EmitEventResponse{Id: identity.From(ctx)}, nil
	case "panic":
		panic("secret of the inside")
	}
	return &audittrailv1.EmitEventResponse{Id: r.Event.GetSource()}, nil
}

func (s *service) TailEvents(_ *audittrailv1.TailEventsRequest, stream grpc.ServerStreamingServer[audittrailv1.TailEventsResponse]) error {
	if err := stream.Send(&audittrailv1.TailEventsResponse{ResumeToken: "here"}); err != nil {
		return err
	}
	close(s.tailing)
	<-stream.Context().Done()
	return stream.Context().Err()
}

type running struct {
	*Server
	base    string
	tailing chan struct{}
	stop    func() error
}

func start(t *testing.T, cfg Config, ready func(context.Context) error) *running {
	t.Helper()
	return startWith(t, cfg, Deps{Registry: prometheus.NewRegistry(), Ready: ready, Log: zerolog.New(zerolog.NewTestWriter(t))})
}

func startWith(t *testing.T, cfg Config, deps Deps) *running {
	t.Helper()
	cfg.GRPCListen, cfg.HTTPListen = "127.0.0.1:0", "127.0.0.1:0"
	srv, err := New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	impl := &service{tailing: make(chan struct{})}
	audittrailv1.RegisterEmitterServiceServer(srv.Registrar(), impl)
	audittrailv1.RegisterQueryServiceServer(srv.Registrar(), impl)
	if err := errors.Join(srv.Handle(audittrailv1.RegisterEmitterServiceHandler), srv.Handle(audittrailv1.RegisterQueryServiceHandler)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	stopped := false
	r := &running{Server: srv, base: "http://" + srv.HTTPAddr(), tailing: impl.tailing}
	r.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-done
	}
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func always(context.Context) error { return nil }

func (r *running) do(t *testing.T, method, path, body string, header map[string]string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, r.base+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if method != http.MethodGet {
		req.Header.Set("Content-Type", "application/json")
	}
	for name, value := range header {
		if name == "Host" {
			req.Host = value
			continue
		}
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

func TestWebPagesCannotReachTheServer(t *testing.T) {
	r := start(t, Config{AllowedHosts: []string{"audit.example.com"}}, always)
	const good = `{"source":"acme","action":"user.login"}`
	for name, tt := range map[string]struct {
		header map[string]string
		want   int
	}{
		"plain":                      {nil, 200},
		"configured host":            {map[string]string{"Host": "Audit.Example.com:80"}, 200},
		"localhost":                  {map[string]string{"Host": "localhost:7481"}, 200},
		"other loopback":             {map[string]string{"Host": "[::1]"}, 200},
		"rebound name":               {map[string]string{"Host": "evil.example.com"}, 403},
		"other address":              {map[string]string{"Host": "192.0.2.1"}, 403},
		"name that begins like ours": {map[string]string{"Host": "localhost.evil.example.com"}, 403},
		"no host":                    {map[string]string{"Host": ":1"}, 403},
		"own origin":                 {map[string]string{"Host": "localhost:7481", "Origin": "http://localhost:7481"}, 200},
		"foreign origin":             {map[string]string{"Origin": "https://evil.example.com"}, 403},
		"origin of another port":     {map[string]string{"Host": "localhost:7481", "Origin": "http://localhost:3000"}, 403},
		"opaque origin":              {map[string]string{"Origin": "null"}, 403},
		"cross-site fetch":           {map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		"form":                       {map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, 415},
		"simple request":             {map[string]string{"Content-Type": "text/plain"}, 415},
		"json with charset":          {map[string]string{"Content-Type": "application/json; charset=utf-8"}, 200},
		"compressed":                 {map[string]string{"Content-Encoding": "gzip"}, 415},
	} {
		t.Run(name, func(t *testing.T) {
			if resp, body := r.do(t, http.MethodPost, "/v1/events", good, tt.header); resp.StatusCode != tt.want {
				t.Errorf("status %d, want %d: %s", resp.StatusCode, tt.want, body)
			}
		})
	}
}

func TestAMisspeltParameterIsNoEmptyFilter(t *testing.T) {
	r := start(t, Config{}, always)
	for path, want := range map[string]int{
		"/v1/events?filter=x&pageSize=3": 501, // the service here does not list: it was asked
		"/v1/events?page_size=3":         501,
		"/v1/events?fliter=x":            400,
		"/v1/events?filter=x&limit=3":    400,
		"/v1/events?filter.x=y":          400,
	} {
		resp, body := r.do(t, http.MethodGet, path, "", nil)
		if resp.StatusCode != want {
			t.Errorf("%s: status %d, want %d: %s", path, resp.StatusCode, want, body)
		}
	}
	if _, body := r.do(t, http.MethodGet, "/v1/events?fliter=x", "", nil); !strings.Contains(body, "fliter") {
		t.Errorf("the parameter is not named: %s", body)
	}
}

func TestErrorsSayWhetherToRetry(t *testing.T) {
	r := start(t, Config{}, always)
	for name, tt := range map[string]struct {
		body  string
		want  int
		retry string
	}{
		"overload":      {`{"action":"overload"}`, 429, "2"},
		"size refusal":  {`{"action":"too.large"}`, 413, ""},
		"panic":         {`{"action":"panic"}`, 500, ""},
		"unknown field": {`{"acton":"user.login"}`, 400, ""},
		"4 MiB":         {`{"details":"` + strings.Repeat("x", MaxRequestBytes-len(`{"details":""}`)) + `"}`, 200, ""},
		"over 4 MiB":    {`{"details":"` + strings.Repeat("x", MaxRequestBytes) + `"}`, 413, ""},
	} {
		t.Run(name, func(t *testing.T) {
			resp, body := r.do(t, http.MethodPost, "/v1/events", tt.body, nil)
			if resp.StatusCode != tt.want || resp.Header.Get("Retry-After") != tt.retry {
				t.Errorf("status %d, Retry-After %q, want %d, %q: %.200s", resp.StatusCode, resp.Header.Get("Retry-After"), tt.want, tt.retry, body)
			}
			if strings.Contains(body, "secret") {
				t.Errorf("the answer shows the inside: %s", body)
			}
			if tt.want != 200 && !json.Valid([]byte(body)) {
				t.Errorf("error is no JSON: %s", body)
			}
		})
	}
}

func TestOversizeOverGRPCDoesNotLookRetryable(t *testing.T) {
	r := start(t, Config{}, always)
	client := audittrailv1.NewEmitterServiceClient(dial(t, r.GRPCAddr()))
	_, err := client.EmitEvent(t.Context(), &audittrailv1.EmitEventRequest{Event: &audittrailv1.Event{Details: strings.Repeat("x", MaxRequestBytes)}})
	st := status.Convert(err)
	if st.Code() != codes.ResourceExhausted || len(st.Details()) != 0 {
		t.Errorf("got %v with %v, want %v without details", st, st.Details(), codes.ResourceExhausted)
	}
}

func TestInterceptorsSeeBothWays(t *testing.T) {
	r := start(t, Config{}, always)
	r.do(t, http.MethodPost, "/v1/events", `{"source":"acme"}`, nil)
	client := audittrailv1.NewEmitterServiceClient(dial(t, r.GRPCAddr()))
	if _, err := client.EmitEvent(t.Context(), &audittrailv1.EmitEventRequest{}); err != nil {
		t.Fatal(err)
	}
	_, metrics := r.do(t, http.MethodGet, "/metrics", "", nil)
	if want := `audittrail_grpc_calls_total{code="OK",method="EmitterService/EmitEvent"} 2`; !strings.Contains(metrics, want) {
		t.Errorf("want %s in\n%s", want, metrics)
	}
	_, openAPI := r.do(t, http.MethodGet, "/openapi.json", "", nil)
	if !json.Valid([]byte(openAPI)) || !strings.Contains(openAPI, "/v1/events:batch") {
		t.Errorf("openapi.json is %.100s", openAPI)
	}
	if resp, _ := r.do(t, http.MethodGet, "/debug/pprof/", "", nil); resp.StatusCode != http.StatusNotFound {
		t.Errorf("pprof without the flag: %d", resp.StatusCode)
	}
	if resp, _ := start(t, Config{Pprof: true}, always).do(t, http.MethodGet, "/debug/pprof/", "", nil); resp.StatusCode != http.StatusOK {
		t.Errorf("pprof with the flag: %d", resp.StatusCode)
	}
}

func TestReadinessFollowsTheParts(t *testing.T) {
	gate := make(chan error, 1)
	gate <- errors.New("view has not caught up")
	state := errors.New("view has not caught up")
	r := start(t, Config{}, func(context.Context) error {
		select {
		case state = <-gate:
		default:
		}
		return state
	})
	health := healthpb.NewHealthClient(dial(t, r.GRPCAddr()))
	await(t, func() bool {
		resp, body := r.do(t, http.MethodGet, "/readyz", "", nil)
		return resp.StatusCode == http.StatusServiceUnavailable && body == "view has not caught up\n"
	})
	if resp, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil || resp.Status != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("health = %v, %v", resp, err)
	}
	if resp, _ := r.do(t, http.MethodGet, "/healthz", "", nil); resp.StatusCode != 200 {
		t.Errorf("healthz = %d, it lives", resp.StatusCode)
	}
	gate <- nil
	await(t, func() bool {
		resp, _ := r.do(t, http.MethodGet, "/readyz", "", nil)
		return resp.StatusCode == 200
	})
	if resp, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil || resp.Status != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health = %v, %v", resp, err)
	}
	r.Unready()
	if resp, body := r.do(t, http.MethodGet, "/readyz", "", nil); resp.StatusCode != http.StatusServiceUnavailable || body != "shutting down\n" {
		t.Errorf("readyz = %d %s", resp.StatusCode, body)
	}
}

func TestStopEndsTailsOfBothSides(t *testing.T) {
	r := start(t, Config{StopTimeout: time.Minute}, always)
	resp, err := http.Get(r.base + "/v1/events:tail")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	if line, err := lines.ReadString('\n'); err != nil || !strings.Contains(line, `"here"`) {
		t.Fatalf("first line %q, %v", line, err)
	}
	<-r.tailing
	began := time.Now()
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("stop took %s: it waited for the tail", took)
	}
	if rest, _ := io.ReadAll(lines); !strings.Contains(string(rest), "stopping") {
		t.Errorf("the tail ended with %q", rest)
	}
}

func TestTakenAddressIsNamed(t *testing.T) {
	r := start(t, Config{}, always)
	_, err := New(Config{GRPCListen: "127.0.0.1:0", HTTPListen: r.HTTPAddr(), HTTPFlag: "--http-listen"}, Deps{Registry: prometheus.NewRegistry(), Ready: always})
	if !errors.Is(err, ErrListen) || !strings.Contains(err.Error(), r.HTTPAddr()) || !strings.Contains(err.Error(), "--http-listen") {
		t.Errorf("New = %v", err)
	}
}

func dial(t *testing.T, addr string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func await(t *testing.T, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatal("the condition was not met within 20s")
		}
		time.Sleep(10 * time.Millisecond)
	}
}
