package access

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/maxviazov/audittrail/internal/devcerts"
)

func certificate(t *testing.T, r devcerts.Request) *x509.Certificate {
	t.Helper()
	ca, err := devcerts.NewCA("ca", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Issue(r)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(pair.Cert)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestCertificatesStandForWhomTheRulesSay(t *testing.T) {
	rules, err := ParseCertificateRules([]string{"spiffe://acme.example/team/*", "spiffe://acme.example/payments", "dns:*.prod.acme.example", "dns:one.acme.example", "cn:deployer", "!spiffe://acme.example/team/stolen", "!dns:bad.prod.acme.example"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		cert devcerts.Request
		want string // empty: refused
	}{
		{devcerts.Request{URIs: []string{"spiffe://acme.example/payments"}}, "spiffe://acme.example/payments"},
		{devcerts.Request{URIs: []string{"spiffe://acme.example/payments/x"}}, ""},
		{devcerts.Request{URIs: []string{"spiffe://acme.example/paymentsx"}}, ""},
		{devcerts.Request{URIs: []string{"spiffe://acme.example.evil/payments"}}, ""},
		{devcerts.Request{URIs: []string{"spiffe://ACME.example/payments"}}, ""},
		{devcerts.Request{URIs: []string{"https://acme.example/payments"}}, ""},
		{devcerts.Request{URIs: []string{"spiffe://acme.example/team/a/b"}}, "spiffe://acme.example/team/a/b"},
		{devcerts.Request{URIs: []string{"spiffe://acme.example/team/"}}, ""},
		{devcerts.Request{URIs: []string{"spiffe://acme.example/team/../payments"}}, ""},
		{devcerts.Request{URIs: []string{"spiffe://acme.example/team/%2e%2e/payments"}}, ""},
		{devcerts.Request{URIs: []string{"spiffe://acme.example/team/stolen"}}, ""},
		{devcerts.Request{URIs: []string{"spiffe://acme.example/payments", "spiffe://acme.example/team/x"}}, ""},
		{devcerts.Request{URIs: []string{"spiffe://acme.example/team/stolen", "x://y"}, Hosts: []string{"one.acme.example"}}, ""},
		{devcerts.Request{Hosts: []string{"a.prod.acme.example"}}, "dns:a.prod.acme.example"},
		{devcerts.Request{Hosts: []string{"A.Prod.Acme.Example"}}, "dns:a.prod.acme.example"},
		{devcerts.Request{Hosts: []string{"a.b.prod.acme.example"}}, ""},
		{devcerts.Request{Hosts: []string{"prod.acme.example"}}, ""},
		{devcerts.Request{Hosts: []string{"*.prod.acme.example"}}, ""},
		{devcerts.Request{Hosts: []string{"a.prod.acme.example", "bad.prod.acme.example"}}, ""},
		{devcerts.Request{Hosts: []string{"one.acme.example.evil"}}, ""},
		{devcerts.Request{Name: "deployer"}, "cn:deployer"},
		{devcerts.Request{Name: "Deployer"}, ""},
		{devcerts.Request{Name: "one.acme.example"}, ""},
		{devcerts.Request{Name: "deployer", NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)}, ""},
	} {
		p, err := rules.Principal(certificate(t, tt.cert), time.Now())
		if (err == nil) != (tt.want != "") || err == nil && p.Name != tt.want {
			t.Errorf("%+v: %q, %v, want %q", tt.cert, p.Name, err, tt.want)
		}
	}
	for _, bad := range []string{"", "acme", "dns:", "dns:*", "dns:*.", "dns:a.*.b", "cn:", "cn:*", "spiffe://", "spiffe://acme", "spiffe://acme/", "spiffe://acme/a*", "spiffe://acme/*/b", "spiffe://*/a", "https://acme/a", "!", "!!cn:x"} {
		if _, err := ParseCertificateRules([]string{bad}); err == nil {
			t.Errorf("rule %q was taken", bad)
		}
	}
}

func TestAPITokens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	valid, secret, err := NewToken("ci/deploy", time.Now().Add(time.Hour), []string{"ops", "ci"})
	if err != nil {
		t.Fatal(err)
	}
	old, oldSecret, err := NewToken("old", time.Now().Add(-time.Second), nil)
	if err != nil {
		t.Fatal(err)
	}
	text := "# tokens\n\n" + valid.String() + "\n" + old.String() + "\n"
	if strings.Contains(text, secret) || strings.Contains(text, secret[len(secret)-20:]) {
		t.Fatal("the file holds the token")
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	tokens, err := OpenTokens(path, zerolog.New(&log))
	if err != nil {
		t.Fatal(err)
	}
	p, err := tokens.Principal(secret, time.Now())
	if err != nil || p.Name != "token:ci/deploy" || !slices.Equal(p.Groups, []string{"ops", "ci"}) || !p.Expires.Equal(valid.NotAfter) {
		t.Errorf("Principal = %+v, %v", p, err)
	}
	other := tokenPrefix + valid.ID + "_" + secret[len(secret)-43:len(secret)-1] + "!"
	for why, bad := range map[string]string{"expired": oldSecret, "another secret": other, "unknown id": tokenPrefix + "000000000000_x", "empty": "", "prefix": tokenPrefix,
		"the hash": strings.Fields(valid.String())[3], "no secret": tokenPrefix + valid.ID, "longer": secret + "x", "spaces": " " + secret} {
		if p, err := tokens.Principal(bad, time.Now()); err == nil {
			t.Errorf("%s: taken for %+v", why, p)
		}
	}

	if err := os.WriteFile(path, []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		tokens.Look(time.Now())
	}
	if n := strings.Count(log.String(), "cannot be used"); n != 1 || !strings.Contains(log.String(), "line 1") {
		t.Errorf("said %d times: %s", n, log.String())
	}
	if _, err := tokens.Principal(secret, time.Now()); err != nil {
		t.Errorf("a broken file took the old tokens away: %v", err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tokens.Look(time.Now())
	if _, err := tokens.Principal(secret, time.Now()); err == nil {
		t.Error("a revoked token is still taken")
	}
	for _, name := range []string{"", "a b", "a\n", "ä", strings.Repeat("x", 129), "a,b"} {
		if _, _, err := NewToken(name, time.Now(), nil); err == nil {
			t.Errorf("name %q was taken", name)
		}
	}
	if _, err := ParseTokens([]byte(valid.String() + "\n" + valid.String())); err == nil || !strings.Contains(err.Error(), "line 2: id") {
		t.Errorf("the same id twice: %v", err)
	}
}

// FuzzParseTokens: what is read is written and read again as the same, and nothing panics.
func FuzzParseTokens(f *testing.F) {
	t1, _, err := NewToken("a/b", time.Unix(2e9, 0), []string{"g", "h"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(t1.String()))
	f.Add([]byte("# x\n\n" + t1.String() + "\r\n"))
	f.Add([]byte("0 1 2 3 4 5"))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := ParseTokens(text)
		if err != nil {
			return
		}
		for _, want := range list {
			again, err := ParseTokens([]byte(want.String()))
			if err != nil || len(again) != 1 || again[0].ID != want.ID || again[0].Name != want.Name || again[0].Hash != want.Hash || !again[0].NotAfter.Equal(want.NotAfter) || !slices.Equal(again[0].Groups, want.Groups) {
				t.Fatalf("%q reads as %+v, %v", want, again, err)
			}
		}
	})
}

// FuzzCertificateRules: a rule that is taken never fits a certificate without names.
func FuzzCertificateRules(f *testing.F) {
	for _, s := range []string{"spiffe://a/b", "spiffe://a/*", "dns:*.x", "cn:y", "!cn:y", "dns:"} {
		f.Add(s, "spiffe://a/c")
	}
	f.Fuzz(func(t *testing.T, rule, uri string) {
		r, err := ParseCertificateRules([]string{rule})
		if err != nil {
			return
		}
		if p, err := r.Principal(&x509.Certificate{NotAfter: time.Now().Add(time.Hour)}, time.Now()); err == nil {
			t.Fatalf("%q takes a certificate without names for %q", rule, p.Name)
		}
		if len(r.allow) == 1 && r.allow[0].kind == "uri" && uriFits(r.allow[0].pattern, uri) && !strings.HasPrefix(uri, strings.TrimSuffix(r.allow[0].pattern, "*")) {
			t.Fatalf("%q fits %q", rule, uri)
		}
	})
}

// FuzzOIDCToken: nothing that is not signed by the issuer's key is taken, and nothing panics.
func FuzzOIDCToken(f *testing.F) {
	f.Add("a.b.c")
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Add("eyJhbGciOiJFUzI1NiIsImtpZCI6ImsxIn0.eyJpc3MiOiJ4In0.AAAA")
	o, err := NewOIDC(OIDCConfig{Issuer: "http://127.0.0.1:1", Audience: "a", GroupsClaim: "groups"})
	if err != nil {
		f.Fatal(err)
	}
	o.tried = time.Now().Add(24 * time.Hour) // no network
	f.Fuzz(func(t *testing.T, token string) {
		if p, err := o.Principal(t.Context(), token); err == nil {
			t.Fatalf("%q taken for %+v", token, p)
		}
	})
}
