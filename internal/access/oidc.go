package access

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/maxviazov/audittrail/internal/tlsfiles"
)

const (
	// leeway is how far clocks may differ.
	leeway = 30 * time.Second
	// keysEvery is how old the issuer's keys may be before they are fetched again; a key that is taken back is believed for so long.
	keysEvery = 10 * time.Minute
	// keysRest is the least time between two fetches: unknown key ids cost the issuer nothing more.
	keysRest = 10 * time.Second
	// maxKeys and maxToken bound what is read.
	maxKeys  = 1 << 20
	maxToken = 16 << 10
)

// algorithms are those of public keys. With HMAC whoever can verify could sign, and none is no signature.
var algorithms = []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA}

// OIDCConfig says whose tokens are believed.
type OIDCConfig struct {
	// Issuer is the token's iss, byte for byte.
	Issuer string
	// Audience must be one of the token's aud.
	Audience string
	// KeysURL is where the issuer's keys are (JWKS). Empty: found in Issuer/.well-known/openid-configuration.
	KeysURL string
	// GroupsClaim is the claim that lists the groups.
	GroupsClaim string
	// CAs verify the issuer's server; nil: those of the system.
	CAs *tlsfiles.Files
}

// OIDC verifies tokens of one issuer.
type OIDC struct {
	cfg    OIDCConfig
	client *http.Client
	now    func() time.Time

	mu      sync.Mutex // guards the rest; held while keys are fetched, so that one call fetches for all
	keys    *jose.JSONWebKeySet
	fetched time.Time // of keys
	tried   time.Time
}

// NewOIDC returns a verifier; keys are fetched when the first token comes.
func NewOIDC(cfg OIDCConfig) (*OIDC, error) {
	for name, text := range map[string]string{"issuer": cfg.Issuer, "keys_url": cfg.KeysURL} {
		if text == "" && name == "keys_url" {
			continue
		}
		u, err := url.Parse(text)
		if err != nil || u.Host == "" || u.Scheme != "https" && !(u.Scheme == "http" && isLoopback(u.Hostname())) {
			return nil, fmt.Errorf("%s: %q is no https URL", name, text)
		}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone() // it is one, by the documentation
	if cfg.CAs != nil {
		transport.DialTLSContext = (&tlsfiles.Dialer{Files: cfg.CAs}).DialContext
	}
	return &OIDC{cfg: cfg, now: time.Now, client: &http.Client{
		Transport: transport, Timeout: 5 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("redirects are not followed") },
	}}, nil
}

func isLoopback(host string) bool { return host == "localhost" || host == "127.0.0.1" || host == "::1" }

// Principal says whom a token stands for.
func (o *OIDC) Principal(ctx context.Context, token string) (Principal, error) {
	if len(token) > maxToken {
		return Principal{}, fmt.Errorf("token of %d bytes, at most %d are read", len(token), maxToken)
	}
	parsed, err := jwt.ParseSigned(token, algorithms)
	if err != nil {
		return Principal{}, fmt.Errorf("parse token: %w", err)
	}
	if len(parsed.Headers) != 1 {
		return Principal{}, errors.New("token has no single signature")
	}
	key, err := o.key(ctx, parsed.Headers[0].KeyID, parsed.Headers[0].Algorithm)
	if err != nil {
		return Principal{}, err
	}
	var claims jwt.Claims
	var others map[string]any
	if err := parsed.Claims(key.Key, &claims, &others); err != nil {
		return Principal{}, fmt.Errorf("verify token: %w", err)
	}
	if err := claims.ValidateWithLeeway(jwt.Expected{Issuer: o.cfg.Issuer, AnyAudience: jwt.Audience{o.cfg.Audience}, Time: o.now()}, leeway); err != nil {
		return Principal{}, fmt.Errorf("token: %w", err)
	}
	if claims.Expiry == nil { // the library takes a token without one for one that never expires
		return Principal{}, errors.New("token without an expiry")
	}
	if claims.Subject == "" {
		return Principal{}, errors.New("token without a subject")
	}
	groups, err := groupsOf(others[o.cfg.GroupsClaim])
	if err != nil {
		return Principal{}, fmt.Errorf("claim %s: %w", o.cfg.GroupsClaim, err)
	}
	p := Principal{Name: "user:" + claims.Subject, Groups: groups, Expires: claims.Expiry.Time().Add(leeway)}
	return p, p.check()
}

func groupsOf(claim any) ([]string, error) {
	switch v := claim.(type) {
	case nil:
		return nil, nil
	case string:
		return []string{v}, nil
	case []any:
		groups := make([]string, len(v))
		for i, e := range v {
			s, ok := e.(string)
			if !ok {
				return nil, errors.New("must be a list of strings")
			}
			groups[i] = s
		}
		return groups, nil
	default:
		return nil, errors.New("must be a list of strings")
	}
}

// key finds the issuer's key of that id, fetching the keys when they are old or do not have it. Keys that cannot be fetched again are used until
// they are an hour old: an issuer that is down locks nobody out at once.
func (o *OIDC) key(ctx context.Context, id, algorithm string) (*jose.JSONWebKey, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.now()
	found := o.find(id, algorithm)
	if (found == nil || now.Sub(o.fetched) > keysEvery) && now.Sub(o.tried) > keysRest {
		o.tried = now
		keys, err := o.fetch(ctx)
		if err != nil && (o.keys == nil || found == nil) {
			return nil, fmt.Errorf("fetch keys of %s: %w", o.cfg.Issuer, err)
		}
		if err == nil {
			o.keys, o.fetched = keys, now
			found = o.find(id, algorithm)
		}
	}
	if now.Sub(o.fetched) > time.Hour {
		return nil, fmt.Errorf("keys of %s are too old", o.cfg.Issuer)
	}
	if found == nil {
		return nil, errors.New("unknown key of the token")
	}
	return found, nil
}

// find wants one key that is for signatures of that algorithm.
func (o *OIDC) find(id, algorithm string) *jose.JSONWebKey {
	if o.keys == nil {
		return nil
	}
	var found *jose.JSONWebKey
	for i := range o.keys.Keys {
		k := &o.keys.Keys[i]
		if k.KeyID != id || k.Use != "" && k.Use != "sig" || k.Algorithm != "" && k.Algorithm != algorithm || !k.IsPublic() || !k.Valid() {
			continue
		}
		if found != nil {
			return nil // which of the two is not ours to guess
		}
		found = k
	}
	return found
}

func (o *OIDC) fetch(ctx context.Context) (*jose.JSONWebKeySet, error) {
	// One caller's impatience must not fail those that wait for the keys too.
	ctx = context.WithoutCancel(ctx)
	from := o.cfg.KeysURL
	if from == "" {
		var found struct {
			Issuer string `json:"issuer"`
			Keys   string `json:"jwks_uri"`
		}
		if err := o.get(ctx, strings.TrimSuffix(o.cfg.Issuer, "/")+"/.well-known/openid-configuration", &found); err != nil {
			return nil, err
		}
		if found.Issuer != o.cfg.Issuer {
			return nil, fmt.Errorf("it calls itself %q", found.Issuer)
		}
		if u, err := url.Parse(found.Keys); err != nil || u.Scheme != "https" && !(u.Scheme == "http" && isLoopback(u.Hostname())) {
			return nil, fmt.Errorf("its jwks_uri %q is no https URL", found.Keys)
		}
		from = found.Keys
	}
	keys := new(jose.JSONWebKeySet)
	return keys, o.get(ctx, from, keys)
}

func (o *OIDC) get(ctx context.Context, from string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return err
	}
	resp, err := o.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: status %s", from, resp.Status)
	}
	return json.NewDecoder(io.LimitReader(resp.Body, maxKeys)).Decode(into)
}
