package serve

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/maxviazov/audittrail/internal/access"
	"github.com/maxviazov/audittrail/internal/devcerts"
	"github.com/maxviazov/audittrail/internal/tlsfiles"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// TestCallersProveWhoTheyAre: the same proof gives the same principal over gRPC and HTTP, and no proof or a false one gives none.
func TestCallersProveWhoTheyAre(t *testing.T) {
	ca, err := devcerts.NewCA("ca", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	paths := issue(t, dir, ca)
	files, err := tlsfiles.Load("tls", paths)
	if err != nil {
		t.Fatal(err)
	}
	encrypt, err := files.Server(tlsfiles.OptionalClientCert)
	if err != nil {
		t.Fatal(err)
	}
	token, secret, err := access.NewToken("ci", time.Now().Add(time.Hour), nil)
	if err != nil {
		t.Fatal(err)
	}
	short, shortSecret, err := access.NewToken("short", time.Now().Add(3*time.Second), nil)
	if err != nil {
		t.Fatal(err)
	}
	tokensFile := filepath.Join(dir, "tokens")
	if err := os.WriteFile(tokensFile, []byte(token.String()+"\n"+short.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var cfg access.Config
	if cfg.Tokens, err = access.OpenTokens(tokensFile, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	if cfg.Certificates, err = access.ParseCertificateRules([]string{"spiffe://acme.example/*"}); err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	r := startWith(t, Config{TLS: encrypt}, Deps{Registry: registry, Ready: always, Log: zerolog.New(zerolog.NewTestWriter(t)),
		Gate: access.NewGate(cfg, Credentials, zerolog.Nop(), registry)})

	client := func(name string, uris ...string) *tls.Config {
		pair, err := ca.Issue(devcerts.Request{Name: name, URIs: uris})
		if err != nil {
			t.Fatal(err)
		}
		c, err := tls.X509KeyPair(pair.Cert, pair.Key)
		if err != nil {
			t.Fatal(err)
		}
		return &tls.Config{RootCAs: files.CAs(), ServerName: "127.0.0.1", Certificates: []tls.Certificate{c}}
	}
	none := &tls.Config{RootCAs: files.CAs(), ServerName: "127.0.0.1"}
	payments := client("payments", "spiffe://acme.example/payments")
	block, _ := pem.Decode(pairCert(payments))
	forged := map[string]string{certificateKey: string(block.Bytes)}
	forgedHTTP := map[string]string{}
	for _, name := range []string{certificateKey, "Grpc-Metadata-" + certificateKey, "X-Forwarded-Client-Cert"} {
		forgedHTTP[name] = base64.StdEncoding.EncodeToString(block.Bytes)
	}

	for _, tt := range []struct {
		why      string
		tls      *tls.Config
		md, http map[string]string // besides what both have
		auth     string
		want     string // principal; empty: UNAUTHENTICATED
	}{
		{why: "nobody", tls: none},
		{why: "a known certificate", tls: payments, want: "spiffe://acme.example/payments"},
		{why: "a certificate that no rule knows", tls: client("acme.example", "spiffe://acme.example.evil/payments")},
		{why: "a token", tls: none, auth: "Bearer " + secret, want: "token:ci"},
		{why: "a token, small letters", tls: none, auth: "bearer " + secret, want: "token:ci"},
		{why: "a token wins", tls: payments, auth: "Bearer " + secret, want: "token:ci"},
		{why: "a bad token with a good certificate", tls: payments, auth: "Bearer " + secret + "x"},
		{why: "another scheme", tls: payments, auth: "Basic " + secret},
		{why: "a JWT that nobody takes", tls: none, auth: "Bearer a.b.c"},
		{why: "a forged certificate in a header", tls: none, md: forged, http: forgedHTTP},
	} {
		if got, err := whoGRPC(t, r.GRPCAddr(), tt.tls, tt.auth, tt.md); got != tt.want || (tt.want == "") != (status.Code(err) == codes.Unauthenticated) {
			t.Errorf("grpc, %s: %q, %v, want %q", tt.why, got, err, tt.want)
		}
		if got, code := whoHTTP(t, r.HTTPAddr(), tt.tls, tt.auth, tt.http); got != tt.want || (tt.want == "") != (code == http.StatusUnauthorized) {
			t.Errorf("http, %s: %q, %d, want %q", tt.why, got, code, tt.want)
		}
	}

	conn, err := grpc.NewClient(r.GRPCAddr(), grpc.WithTransportCredentials(credentials.NewTLS(none)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
		t.Errorf("health: %v", err)
	}
	query := audittrailv1.NewQueryServiceClient(conn)
	tail := func(ctx context.Context) error {
		stream, err := query.TailEvents(ctx, &audittrailv1.TailEventsRequest{})
		for err == nil {
			_, err = stream.Recv()
		}
		return err
	}
	if err := tail(t.Context()); status.Code(err) != codes.Unauthenticated {
		t.Errorf("a stream of nobody: %v", err)
	}
	// A stream ends with the token that it was opened with.
	if err := tail(metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+shortSecret)); status.Code(err) != codes.Unauthenticated || time.Now().Before(short.NotAfter) {
		t.Errorf("a stream whose token expires: %v", err)
	}
	two := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+secret, "authorization", "Bearer "+secret)
	if err := tail(two); status.Code(err) != codes.Unauthenticated {
		t.Errorf("two tokens: %v", err)
	}
}

func pairCert(c *tls.Config) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificates[0].Certificate[0]})
}

func whoGRPC(t *testing.T, addr string, cfg *tls.Config, auth string, md map[string]string) (string, error) {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(credentials.NewTLS(cfg)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx := metadata.NewOutgoingContext(t.Context(), metadata.New(md))
	if auth != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", auth)
	}
	resp, err := audittrailv1.NewEmitterServiceClient(conn).EmitEvent(ctx, &audittrailv1.EmitEventRequest{Event: &audittrailv1.Event{Action: "whoami"}})
	return resp.GetId(), err
}

func whoHTTP(t *testing.T, addr string, cfg *tls.Config, auth string, header map[string]string) (string, int) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+addr+"/v1/events", strings.NewReader(`{"action":"whoami"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if auth != "" {
		req.Header.Set("Authorization", auth)
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	resp, err := httpsClient(t, cfg.Clone()).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var body struct{ ID string }
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		t.Fatal(err)
	}
	return body.ID, resp.StatusCode
}
