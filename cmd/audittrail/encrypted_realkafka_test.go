//go:build realkafka

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/maxviazov/audittrail/internal/devcerts"
	"github.com/maxviazov/audittrail/internal/embedded/embeddedtest"
	"github.com/maxviazov/audittrail/internal/kafkatest"
	"github.com/maxviazov/audittrail/internal/tlsfiles"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/stream"
)

const password = "s3cr3t-of-the-test"

// encrypted is an installation in which every connection is TLS with certificates of both sides. Certificates of servers are for 127.0.0.1 only.
type encrypted struct {
	t         *testing.T
	dir       string
	old, next *devcerts.CA // both are trusted
	postgres  *embeddedtest.Server
	redis     string
	brokers   []string
	emitter   string // gRPC
	web       string // HTTP of the emitter
	gateway   string // gRPC
}

func (e *encrypted) file(name string) string { return filepath.Join(e.dir, name) }

func (e *encrypted) put(name string, content []byte) {
	e.t.Helper()
	if err := os.WriteFile(e.file(name+".new"), content, 0o600); err != nil {
		e.t.Fatal(err)
	}
	if err := os.Rename(e.file(name+".new"), e.file(name)); err != nil {
		e.t.Fatal(err)
	}
}

// issue writes NAME.crt, NAME.key and NAME.pem, both in one.
func (e *encrypted) issue(name string, ca *devcerts.CA, r devcerts.Request) devcerts.Pair {
	e.t.Helper()
	r.Name = name
	pair, err := ca.Issue(r)
	if err != nil {
		e.t.Fatal(err)
	}
	e.put(name+".crt", pair.Cert)
	e.put(name+".key", pair.Key)
	e.put(name+".pem", pair.KeyStore())
	return pair
}

func (e *encrypted) newCA(name string) *devcerts.CA {
	e.t.Helper()
	ca, err := devcerts.NewCA(name, time.Hour)
	if err != nil {
		e.t.Fatal(err)
	}
	pair, err := ca.PEM()
	if err != nil {
		e.t.Fatal(err)
	}
	e.put(name+".ca", pair.Cert)
	return ca
}

// paths are the files of a client that shows the certificate cert and trusts the CAs in ca.
func (e *encrypted) paths(cert, ca string) tlsfiles.Paths {
	return tlsfiles.Paths{Cert: e.file(cert + ".crt"), Key: e.file(cert + ".key"), CA: e.file(ca)}
}

var here = devcerts.Request{Hosts: []string{"127.0.0.1"}}

func newEncrypted(t *testing.T) *encrypted {
	e := &encrypted{t: t, dir: t.TempDir(), emitter: freeAddr(t), web: freeAddr(t), gateway: freeAddr(t)}
	e.old, e.next = e.newCA("old"), e.newCA("next")
	var both []byte
	for _, name := range []string{"old.ca", "next.ca"} {
		b, err := os.ReadFile(e.file(name))
		if err != nil {
			t.Fatal(err)
		}
		both = append(both, b...)
	}
	e.put("both.ca", both)
	e.put("password", []byte(password+"\n"))
	e.issue("app", e.old, here)
	e.issue("kafka", e.old, here)
	e.issue("redis", e.old, here)
	e.brokers = kafkatest.Start(t, kafkatest.Options{Secure: &kafkatest.Secure{
		KeyStore: e.file("kafka.pem"), CA: e.file("both.ca"), User: "audittrail", Password: password, Client: e.kafka("app", "both.ca", "", password),
	}}).Brokers()
	e.postgres = embeddedtest.PostgresServer(t, embeddedtest.ServerOptions{})
	pg := e.issue("postgres", e.old, here)
	e.postgres.Encrypt(t, pg.Cert, pg.Key, both)
	e.redis = embeddedtest.RedisTLS(t, e.file("redis.crt"), e.file("redis.key"), e.file("both.ca"),
		[]string{"user default off", "user audittrail on >" + password + " ~audittrail:* +@all -@dangerous +info"},
		func(addr string) (net.Conn, error) {
			return (&tlsfiles.Dialer{Files: e.load("app", "both.ca")}).Dial("tcp", addr)
		}).Addr()
	for name, value := range map[string]string{
		"KAFKA_BROKERS": strings.Join(e.brokers, ","), "KAFKA_PARTITIONS": "2", "KAFKA_REPLICATION": "1", "KAFKA_MIN_INSYNC_REPLICAS": "1",
		"KAFKA_TLS_ENABLED": "true", "KAFKA_SASL_MECHANISM": "scram-sha-512", "KAFKA_SASL_USERNAME": "audittrail", "KAFKA_SASL_PASSWORD_FILE": e.file("password"),
		"POSTGRES_DSN": e.postgres.EncryptedDSN(), "LOG_FORMAT": "json", "ENRICHER_SNAPSHOT_DIR": t.TempDir(),
		"REDIS_ADDR": e.redis, "REDIS_TLS_ENABLED": "true", "REDIS_USERNAME": "audittrail", "REDIS_PASSWORD_FILE": e.file("password"),
		"EMITTER_GRPC_LISTEN": e.emitter, "EMITTER_HTTP_LISTEN": e.web, "GATEWAY_GRPC_LISTEN": e.gateway, "GATEWAY_HTTP_LISTEN": "127.0.0.1:0",
		"TLS_CLIENT_AUTH": "required", "TLS_RELOAD": "1s",
		"CLIENT_CA": e.file("both.ca"), "CLIENT_CERT": e.file("app.crt"), "CLIENT_KEY": e.file("app.key"),
	} {
		t.Setenv("AUDITTRAIL_"+name, value)
	}
	for _, use := range []string{"TLS", "KAFKA_TLS", "POSTGRES_TLS", "REDIS_TLS"} {
		t.Setenv("AUDITTRAIL_"+use+"_CA_FILE", e.file("both.ca"))
		t.Setenv("AUDITTRAIL_"+use+"_CERT_FILE", e.file("app.crt"))
		t.Setenv("AUDITTRAIL_"+use+"_KEY_FILE", e.file("app.key"))
	}
	return e
}

func (e *encrypted) load(cert, ca string) *tlsfiles.Files {
	e.t.Helper()
	f, err := tlsfiles.Load("test", e.paths(cert, ca))
	if err != nil {
		e.t.Fatal(err)
	}
	return f
}

func (e *encrypted) kafka(cert, ca, name, password string) stream.Settings {
	s := stream.Settings{Brokers: e.brokers, TLS: &tlsfiles.Dialer{Files: e.load(cert, ca), ServerName: name}}
	if password != "" {
		s.SASL = &stream.SASL{Mechanism: stream.SCRAMSHA256, Username: "audittrail", Password: func() (string, error) { return password, nil }}
	}
	return s
}

// TestRealKafkaEveryConnectionIsEncrypted is the whole system over TLS. Each way in refuses plaintext, certificates of others and names that are not
// the certificate's, and certificates are changed while calls go on.
func TestRealKafkaEveryConnectionIsEncrypted(t *testing.T) {
	e := newEncrypted(t)
	command(t, "", "topics", "apply").mustBe(t, exitOK)
	command(t, "", "migrate").mustBe(t, exitOK)
	for _, name := range []string{"gateway", "enricher", "sink", "emitter"} {
		role(t, name)
	}
	command(t, "", "demo", "--rate", "1000", "--events", "100", "--addr", e.emitter).mustBe(t, exitOK)
	if r := command(t, "", "status", "--wait", "--addr", e.gateway).mustBe(t, exitOK); !strings.Contains(r.out, "stored 100,") {
		t.Errorf("status: %s", r.out)
	}
	if r := command(t, "", "doctor"); !strings.Contains(r.out, "ok    kafka") || !strings.Contains(r.out, "ok    redis") || !strings.Contains(r.out, "ok    postgresql") ||
		!strings.Contains(r.out, "BAD   certificates") || !strings.Contains(r.out, "expires on") {
		t.Errorf("doctor, with a CA of an hour: %s", r.out)
	}
	t.Run("refused", e.refused)
	e.rotate()
}

// ways are the connections that a client could make; each returns whether an exchange worked.
func (e *encrypted) ways() map[string]func(cert, ca, name string) error {
	return map[string]func(cert, ca, name string) error{
		"kafka": func(cert, ca, name string) error { return e.askKafka(e.kafka(cert, ca, name, password)) },
		"postgres": func(cert, ca, name string) error {
			u, err := url.Parse(e.postgres.EncryptedDSN())
			if err != nil {
				return err
			}
			if name != "" {
				u.Host = net.JoinHostPort(name, u.Port())
			}
			u.RawQuery += fmt.Sprintf("&sslrootcert=%s&sslcert=%s&sslkey=%s", e.file(ca), e.file(cert+".crt"), e.file(cert+".key"))
			return askPostgres(u.String())
		},
		"redis": func(cert, ca, name string) error {
			return askRedis(&redis.Options{Addr: e.redis, Username: "audittrail", Password: password, Dialer: (&tlsfiles.Dialer{Files: e.load(cert, ca), ServerName: name}).DialContext})
		},
		"grpc": func(cert, ca, name string) error {
			return askGRPC(e.emitter, credentials.NewTLS(e.load(cert, ca).Client(name)))
		},
		"http": func(cert, ca, name string) error {
			if name == "" {
				name = "127.0.0.1"
			}
			return askHTTP("https://"+e.web, e.load(cert, ca).Client(name))
		},
	}
}

func (e *encrypted) refused(t *testing.T) {
	other := e.newCA("other")
	e.issue("stranger", other, here)
	e.issue("late", e.old, devcerts.Request{NotAfter: time.Now().Add(3 * time.Second)})
	late := map[string]*tlsfiles.Files{"late": e.load("late", "both.ca")}
	for name, ask := range e.ways() {
		if err := ask("app", "both.ca", ""); err != nil {
			t.Errorf("%s as it should be: %v", name, err)
		}
		for why, err := range map[string]error{
			"a client of another CA":   ask("stranger", "both.ca", ""),
			"a server of another CA":   ask("app", "other.ca", ""),
			"a server by another name": ask("app", "both.ca", "localhost"),
		} {
			if err == nil {
				t.Errorf("%s: %s was accepted", name, why)
			}
		}
	}
	for name, err := range map[string]error{
		"kafka plaintext":        e.askKafka(stream.Settings{Brokers: e.brokers}),
		"kafka without password": e.askKafka(e.kafka("app", "both.ca", "", "")),
		"kafka, wrong password":  e.askKafka(e.kafka("app", "both.ca", "", "wrong")),
		"postgres plaintext":     askPostgres(e.postgres.DSN()),
		"redis plaintext":        askRedis(&redis.Options{Addr: e.redis, Username: "audittrail", Password: password}),
		"redis, default user":    askRedis(&redis.Options{Addr: e.redis, Dialer: (&tlsfiles.Dialer{Files: e.load("app", "both.ca")}).DialContext}),
		"grpc plaintext":         askGRPC(e.emitter, insecure.NewCredentials()),
		"http plaintext":         askHTTP("http://"+e.web, nil),
	} {
		if err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	// Expired on the way: loaded in time, shown too late. A certificate's life is in whole seconds of real time.
	time.Sleep(time.Until(late["late"].Expiries()[0].NotAfter) + 1200*time.Millisecond)
	for name, err := range map[string]error{
		"kafka": e.askKafka(stream.Settings{Brokers: e.brokers, SASL: e.kafka("app", "both.ca", "", password).SASL, TLS: &tlsfiles.Dialer{Files: late["late"]}}),
		"redis": askRedis(&redis.Options{Addr: e.redis, Username: "audittrail", Password: password, Dialer: (&tlsfiles.Dialer{Files: late["late"]}).DialContext}),
		"grpc":  askGRPC(e.emitter, credentials.NewTLS(late["late"].Client(""))),
		"http":  askHTTP("https://"+e.web, late["late"].Client("127.0.0.1")),
	} {
		if err == nil {
			t.Errorf("%s accepted a certificate that has expired", name)
		}
	}
}

func (e *encrypted) askKafka(s stream.Settings) error {
	c := stream.ClientConfig(s)
	c.Metadata.Retry.Max = 0
	c.Net.ReadTimeout = 3 * time.Second
	client, err := sarama.NewClient(s.Brokers, c)
	if err == nil {
		err = client.Close()
	}
	return err
}

func askPostgres(dsn string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err == nil {
		err = conn.Close(ctx)
	}
	return err
}

func askRedis(o *redis.Options) error {
	o.MaxRetries, o.DialerRetries = -1, 1
	client := redis.NewClient(o)
	defer client.Close()
	if err := client.Get(context.Background(), "audittrail:x").Err(); !errors.Is(err, redis.Nil) { // the answer that there is no such key
		return err
	}
	return nil
}

func askGRPC(addr string, creds credentials.TransportCredentials) error {
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(creds))
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = audittrailv1.NewEmitterServiceClient(conn).EmitEvent(context.Background(), &audittrailv1.EmitEventRequest{Event: &audittrailv1.Event{Source: "acme/load", Action: "x"}})
	return err
}

func askHTTP(base string, cfg *tls.Config) error {
	transport := &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport, Timeout: 20 * time.Second}).Post(base+"/v1/events", "application/json", strings.NewReader(`{"source":"acme/load","action":"x"}`))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", resp.Status)
	}
	return nil
}

// rotate changes the certificate of all roles, theirs as servers and as clients, and PostgreSQL's, while events are emitted and read.
func (e *encrypted) rotate() {
	t := e.t
	kept, err := grpc.NewClient(e.emitter, grpc.WithTransportCredentials(credentials.NewTLS(e.load("app", "both.ca").Client(""))))
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	e.issue("producer", e.old, here)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	calls := map[string]int{}
	for name, call := range map[string]func() error{
		"grpc, new connection": func() error { return askGRPC(e.emitter, credentials.NewTLS(e.load("producer", "both.ca").Client(""))) },
		"http, new connection": func() error { return askHTTP("https://"+e.web, e.load("producer", "both.ca").Client("127.0.0.1")) },
		"grpc, kept connection": func() error {
			_, err := audittrailv1.NewEmitterServiceClient(kept).EmitEvent(context.Background(), &audittrailv1.EmitEventRequest{Event: &audittrailv1.Event{Source: "acme/load", Action: "x"}})
			return err
		},
		"read": func() error {
			conn, err := grpc.NewClient(e.gateway, grpc.WithTransportCredentials(credentials.NewTLS(e.load("producer", "both.ca").Client(""))))
			if err != nil {
				return err
			}
			defer conn.Close()
			_, err = audittrailv1.NewQueryServiceClient(conn).ListEvents(context.Background(), &audittrailv1.ListEventsRequest{PageSize: 5})
			return err
		},
	} {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Millisecond): // a load, not a benchmark
				}
				err := call()
				mu.Lock()
				calls[name]++
				n := calls[name]
				mu.Unlock()
				if err != nil {
					t.Errorf("%s, call %d: %v", name, n, err)
				}
			}
		})
	}
	more := func() {
		mu.Lock()
		before := map[string]int{}
		for name, n := range calls {
			before[name] = n
		}
		mu.Unlock()
		e.until("calls go on", func() bool {
			mu.Lock()
			defer mu.Unlock()
			for name, n := range calls {
				if n < before[name]+20 {
					return false
				}
			}
			return len(calls) == 4
		})
	}
	more()
	e.issue("app", e.next, here)
	pg := e.issue("postgres", e.next, here)
	both, err := os.ReadFile(e.file("both.ca"))
	if err != nil {
		t.Fatal(err)
	}
	e.postgres.Encrypt(t, pg.Cert, pg.Key, both)
	for _, addr := range []string{e.emitter, e.web, e.gateway} {
		e.until("the new certificate is served", func() bool { return e.issuer(addr) == "next" })
	}
	more()
	close(stop)
	wg.Wait()
	t.Logf("calls: %v", calls)
	command(t, "", "status", "--wait", "--addr", e.gateway).mustBe(t, exitOK)
}

// issuer is the CA of the certificate that a server shows.
func (e *encrypted) issuer(addr string) string {
	conn, err := tls.Dial("tcp", addr, e.load("producer", "both.ca").Client(""))
	if err != nil {
		e.t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].Issuer.CommonName
}

func (e *encrypted) until(what string, condition func() bool) {
	e.t.Helper()
	for deadline := time.Now().Add(time.Minute); !condition(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			e.t.Fatalf("not within a minute: %s", what)
		}
	}
}
