package access

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// issuer is an OIDC issuer on loopback.
type issuer struct {
	*httptest.Server
	mu      sync.Mutex
	keys    jose.JSONWebKeySet
	fetches atomic.Int64
	down    atomic.Bool
}

func newIssuer(t *testing.T) *issuer {
	i := new(issuer)
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if i.down.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		if r.URL.Path == "/.well-known/openid-configuration" {
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, i.URL, i.URL+"/keys")
			return
		}
		i.fetches.Add(1)
		i.mu.Lock()
		defer i.mu.Unlock()
		_ = json.NewEncoder(w).Encode(i.keys)
	}))
	t.Cleanup(i.Close)
	return i
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (i *issuer) publish(keys map[string]*ecdsa.PrivateKey) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys.Keys = nil
	for id, k := range keys {
		i.keys.Keys = append(i.keys.Keys, jose.JSONWebKey{Key: k.Public(), KeyID: id, Algorithm: "ES256", Use: "sig"})
	}
}

func sign(t *testing.T, alg jose.SignatureAlgorithm, key any, id string, claims map[string]any) string {
	t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, (&jose.SignerOptions{}).WithType("JWT").WithHeader("kid", id))
	if err != nil {
		t.Fatal(err)
	}
	text, err := jwt.Signed(s).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestTokensOfTheIssuerAreJudged(t *testing.T) {
	i, key := newIssuer(t), newKey(t)
	i.publish(map[string]*ecdsa.PrivateKey{"k1": key})
	o, err := NewOIDC(OIDCConfig{Issuer: i.URL, Audience: "audittrail", GroupsClaim: "groups"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.client.CloseIdleConnections)
	now := time.Now()
	with := func(change map[string]any) map[string]any {
		c := map[string]any{"iss": i.URL, "aud": "audittrail", "sub": "ada", "exp": now.Add(time.Minute).Unix(), "iat": now.Unix(), "groups": []string{"security", "oncall"}}
		for k, v := range change {
			if v == nil {
				delete(c, k)
				continue
			}
			c[k] = v
		}
		return c
	}
	good := sign(t, jose.ES256, key, "k1", with(nil))
	p, err := o.Principal(t.Context(), good)
	if err != nil || p.Name != "user:ada" || !slices.Equal(p.Groups, []string{"security", "oncall"}) || p.Expires.Before(now) {
		t.Fatalf("Principal = %+v, %v", p, err)
	}
	public, err := json.Marshal(jose.JSONWebKey{Key: key.Public()})
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(good, ".")
	encode := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	for why, token := range map[string]string{
		"alg none":               encode(`{"alg":"none","kid":"k1"}`) + "." + parts[1] + ".",
		"alg none, signature":    encode(`{"alg":"none","kid":"k1"}`) + "." + parts[1] + "." + parts[2],
		"alg nOnE":               encode(`{"alg":"nOnE","kid":"k1"}`) + "." + parts[1] + ".",
		"hmac with public key":   sign(t, jose.HS256, public, "k1", with(nil)),
		"another's key":          sign(t, jose.ES256, newKey(t), "k1", with(nil)),
		"unknown key":            sign(t, jose.ES256, newKey(t), "k9", with(nil)),
		"changed claims":         parts[0] + "." + encode(`{"iss":"`+i.URL+`","aud":"audittrail","sub":"root","exp":99999999999}`) + "." + parts[2],
		"wrong audience":         sign(t, jose.ES256, key, "k1", with(map[string]any{"aud": []string{"billing"}})),
		"no audience":            sign(t, jose.ES256, key, "k1", with(map[string]any{"aud": nil})),
		"wrong issuer":           sign(t, jose.ES256, key, "k1", with(map[string]any{"iss": i.URL + "/"})),
		"expired":                sign(t, jose.ES256, key, "k1", with(map[string]any{"exp": now.Add(-time.Minute).Unix()})),
		"without expiry":         sign(t, jose.ES256, key, "k1", with(map[string]any{"exp": nil})),
		"not yet valid":          sign(t, jose.ES256, key, "k1", with(map[string]any{"nbf": now.Add(2 * time.Minute).Unix()})),
		"issued in the future":   sign(t, jose.ES256, key, "k1", with(map[string]any{"iat": now.Add(2 * time.Minute).Unix()})),
		"no subject":             sign(t, jose.ES256, key, "k1", with(map[string]any{"sub": nil})),
		"subject too long":       sign(t, jose.ES256, key, "k1", with(map[string]any{"sub": strings.Repeat("x", 300)})),
		"subject with a newline": sign(t, jose.ES256, key, "k1", with(map[string]any{"sub": "ada\nroot"})),
		"groups of numbers":      sign(t, jose.ES256, key, "k1", with(map[string]any{"groups": []int{1}})),
		"key in the header":      encode(`{"alg":"ES256","kid":"k1","jwk":`+string(public)+`}`) + "." + parts[1] + "." + parts[2],
		"huge":                   good + strings.Repeat("A", maxToken),
		"empty":                  "", "dots": "..",
	} {
		if p, err := o.Principal(t.Context(), token); err == nil {
			t.Errorf("%s: taken for %+v", why, p)
		} else if token != "" && len(token) > 20 && strings.Contains(err.Error(), token) {
			t.Errorf("%s: the error shows the token", why)
		}
	}
}

func TestKeysRotateAndAnIssuerThatIsDownLocksNobodyOut(t *testing.T) {
	i, first, second := newIssuer(t), newKey(t), newKey(t)
	i.publish(map[string]*ecdsa.PrivateKey{"k1": first})
	o, err := NewOIDC(OIDCConfig{Issuer: i.URL, Audience: "a", GroupsClaim: "groups"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.client.CloseIdleConnections)
	clock := time.Now()
	o.now = func() time.Time { return clock }
	ask := func(key *ecdsa.PrivateKey, id string) error {
		_, err := o.Principal(context.Background(), sign(t, jose.ES256, key, id, map[string]any{"iss": i.URL, "aud": "a", "sub": "s", "exp": clock.Add(time.Minute).Unix()}))
		return err
	}
	if err := ask(first, "k1"); err != nil {
		t.Fatal(err)
	}
	i.publish(map[string]*ecdsa.PrivateKey{"k2": second})
	for range 20 { // unknown keys do not make us fetch each time
		_ = ask(second, "k2")
	}
	if n := i.fetches.Load(); n != 1 {
		t.Errorf("%d fetches, want 1", n)
	}
	clock = clock.Add(keysRest + time.Second)
	if err := ask(second, "k2"); err != nil {
		t.Errorf("the new key is not known: %v", err)
	}
	if err := ask(first, "k1"); err == nil {
		t.Error("the old key is still taken")
	}
	i.down.Store(true)
	clock = clock.Add(keysEvery + time.Minute)
	if err := ask(second, "k2"); err != nil {
		t.Errorf("while the issuer is down: %v", err)
	}
	clock = clock.Add(time.Hour)
	if err := ask(second, "k2"); err == nil {
		t.Error("keys of more than an hour ago are taken")
	}
	i.down.Store(false)
	clock = clock.Add(keysRest + time.Second)
	if err := ask(second, "k2"); err != nil {
		t.Errorf("when the issuer is back: %v", err)
	}
}

func TestIssuersMustBeHTTPS(t *testing.T) {
	for _, bad := range []string{"", "http://issuer.example", "ftp://x", "issuer", "http://127.0.0.1.example"} {
		if _, err := NewOIDC(OIDCConfig{Issuer: bad}); err == nil {
			t.Errorf("issuer %q was taken", bad)
		}
	}
}
