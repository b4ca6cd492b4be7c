package serve

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/maxviazov/audittrail/internal/devcerts"
	"github.com/maxviazov/audittrail/internal/tlsfiles"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// issue writes a certificate of ca for this machine.
func issue(t *testing.T, dir string, ca *devcerts.CA) tlsfiles.Paths {
	t.Helper()
	pair, err := ca.Issue(devcerts.Request{Name: "server", Hosts: []string{"127.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	trusted, err := ca.PEM()
	if err != nil {
		t.Fatal(err)
	}
	p := tlsfiles.Paths{Cert: filepath.Join(dir, "cert"), Key: filepath.Join(dir, "key"), CA: filepath.Join(dir, "ca")}
	for path, b := range map[string][]byte{p.Cert: pair.Cert, p.Key: pair.Key, p.CA: trusted.Cert} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func emitOver(t *testing.T, addr string, creds credentials.TransportCredentials) error {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = audittrailv1.NewEmitterServiceClient(conn).EmitEvent(t.Context(), &audittrailv1.EmitEventRequest{})
	return err
}

func httpsClient(t *testing.T, cfg *tls.Config) *http.Client {
	transport := &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

const emitBody = `{"source":"a","action":"x"}`

func TestBothSidesSpeakTLSOnlyAndWantCertificates(t *testing.T) {
	ca, err := devcerts.NewCA("ca", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	files, err := tlsfiles.Load("tls", issue(t, t.TempDir(), ca))
	if err != nil {
		t.Fatal(err)
	}
	encrypt, err := files.Server(tlsfiles.RequireClientCert)
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, Config{TLS: encrypt}, always)
	noCert := &tls.Config{RootCAs: files.CAs(), ServerName: "127.0.0.1"}

	if err := emitOver(t, r.GRPCAddr(), credentials.NewTLS(files.Client(""))); err != nil {
		t.Errorf("grpc with a certificate: %v", err)
	}
	if err := emitOver(t, r.GRPCAddr(), credentials.NewTLS(noCert)); err == nil {
		t.Error("grpc without a certificate was served")
	}
	if err := emitOver(t, r.GRPCAddr(), insecure.NewCredentials()); err == nil {
		t.Error("plaintext grpc was served")
	}

	url := "https://" + r.HTTPAddr() + "/v1/events"
	resp, err := httpsClient(t, files.Client("127.0.0.1")).Post(url, "application/json", strings.NewReader(emitBody))
	if err != nil {
		t.Fatalf("https with a certificate: %v", err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 || resp.TLS.Version != tls.VersionTLS13 {
		t.Errorf("https: %s, %s, TLS %x", resp.Status, resp.Proto, resp.TLS.Version)
	}
	if resp, err := httpsClient(t, noCert).Get("https://" + r.HTTPAddr() + "/metrics"); err == nil {
		resp.Body.Close()
		t.Error("https without a certificate was served")
	}
	if resp, err := http.Post("http://"+r.HTTPAddr()+"/v1/events", "application/json", strings.NewReader(emitBody)); err == nil {
		resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("plaintext http: %s", resp.Status)
		}
	}
}

// TestRotationUnderLoadLosesNoCall: certificate and CA of server and clients change, both CAs trusted for a time, while every call makes a
// connection of its own and others stay on one from before.
func TestRotationUnderLoadLosesNoCall(t *testing.T) {
	old, err := devcerts.NewCA("old", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	next, err := devcerts.NewCA("next", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	paths := issue(t, dir, old)
	w := tlsfiles.NewWatcher(5*time.Millisecond, zerolog.Nop(), prometheus.NewRegistry())
	files, err := w.Open("tls", paths)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	watched, stop := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		_ = w.Run(ctx)
	}()
	defer func() {
		cancel()
		<-watched
	}()
	encrypt, err := files.Server(tlsfiles.RequireClientCert)
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, Config{TLS: encrypt}, always)

	var calls, failed atomic.Int64
	done := make(chan struct{})
	kept, err := grpc.NewClient(r.GRPCAddr(), grpc.WithTransportCredentials(credentials.NewTLS(files.Client(""))))
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			for _, call := range []func() error{
				func() error { return emitOver(t, r.GRPCAddr(), credentials.NewTLS(files.Client(""))) },
				func() error {
					_, err := audittrailv1.NewEmitterServiceClient(kept).EmitEvent(ctx, &audittrailv1.EmitEventRequest{})
					return err
				},
				func() error {
					transport := &http.Transport{TLSClientConfig: files.Client("127.0.0.1"), DisableKeepAlives: true}
					resp, err := (&http.Client{Transport: transport}).Post("https://"+r.HTTPAddr()+"/v1/events", "application/json", strings.NewReader(emitBody))
					if err == nil {
						resp.Body.Close()
						if resp.StatusCode != http.StatusOK {
							err = errors.New(resp.Status)
						}
					}
					return err
				},
			} {
				calls.Add(1)
				if err := call(); err != nil {
					failed.Add(1)
					t.Errorf("call %d: %v", calls.Load(), err)
				}
			}
		}
	}()
	served := func() string {
		c, err := tls.Dial("tcp", r.GRPCAddr(), files.Client(""))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].Issuer.CommonName
	}
	settle := func(want string) {
		t.Helper()
		n := calls.Load()
		await(t, func() bool { return served() == want && calls.Load() > n+30 })
	}
	settle("old")
	// First both CAs are trusted, then certificates are of the new one, then the old CA goes.
	oldPEM, nextPEM := mustPEM(t, old), mustPEM(t, next)
	replace(t, paths.CA, append(oldPEM, nextPEM...))
	settle("old")
	for range 5 {
		pair, err := next.Issue(devcerts.Request{Name: "server", Hosts: []string{"127.0.0.1"}})
		if err != nil {
			t.Fatal(err)
		}
		replace(t, paths.Cert, pair.Cert) // between the two files they are no pair
		replace(t, paths.Key, pair.Key)
		settle("next")
	}
	replace(t, paths.CA, nextPEM)
	settle("next")
	close(stop)
	<-done
	t.Logf("%d calls, %d failed", calls.Load(), failed.Load())
}

func mustPEM(t *testing.T, ca *devcerts.CA) []byte {
	t.Helper()
	p, err := ca.PEM()
	if err != nil {
		t.Fatal(err)
	}
	return p.Cert
}

func replace(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func derOf(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	return block.Bytes
}
