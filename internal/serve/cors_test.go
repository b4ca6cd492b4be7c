package serve

import (
	"net/http"
	"testing"
)

func TestOnlyConfiguredOriginsMayReadAndNothingElse(t *testing.T) {
	const friend = "https://audit.example.com"
	r := start(t, Config{CORSOrigins: []string{friend, "http://localhost:3000"}}, always)
	fetch := func(origin string) map[string]string {
		return map[string]string{"Origin": origin, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}
	}
	preflight := func(origin, method string) map[string]string {
		h := fetch(origin)
		h["Access-Control-Request-Method"] = method
		return h
	}
	for name, tt := range map[string]struct {
		method, path string
		header       map[string]string
		want         int
		origin       string // in the answer
	}{
		"a friend reads":                {http.MethodGet, "/v1/events/x", fetch(friend), 501, friend},
		"another friend reads":          {http.MethodGet, "/openapi.json", fetch("http://localhost:3000"), 200, "http://localhost:3000"},
		"a friend asks first":           {http.MethodOptions, "/v1/events", preflight(friend, http.MethodGet), 204, friend},
		"a friend asks to write":        {http.MethodOptions, "/v1/events", preflight(friend, http.MethodPost), 403, ""},
		"a friend writes":               {http.MethodPost, "/v1/events", fetch(friend), 403, ""},
		"a friend reads metrics":        {http.MethodGet, "/metrics", fetch(friend), 403, ""},
		"a friend's other port":         {http.MethodGet, "/v1/events/x", fetch(friend + ":8443"), 403, ""},
		"a friend without TLS":          {http.MethodGet, "/v1/events/x", fetch("http://audit.example.com"), 403, ""},
		"a longer name":                 {http.MethodGet, "/v1/events/x", fetch(friend + ".evil.example"), 403, ""},
		"a stranger reads":              {http.MethodGet, "/v1/events/x", fetch("https://evil.example.com"), 403, ""},
		"a stranger asks first":         {http.MethodOptions, "/v1/events", preflight("https://evil.example.com", http.MethodGet), 403, ""},
		"an opaque origin":              {http.MethodGet, "/v1/events/x", fetch("null"), 403, ""},
		"an image of a friend":          {http.MethodGet, "/v1/events/x", map[string]string{"Sec-Fetch-Site": "cross-site"}, 403, ""},
		"a friend by a rebound name":    {http.MethodGet, "/v1/events/x", map[string]string{"Origin": friend, "Host": "rebound.example.com"}, 403, ""},
		"the server's own page":         {http.MethodGet, "/v1/events/x", map[string]string{"Host": "localhost:7483", "Origin": "http://localhost:7483"}, 501, ""},
		"no browser":                    {http.MethodGet, "/v1/events/x", nil, 501, ""},
		"a friend's path in the origin": {http.MethodGet, "/v1/events/x", fetch(friend + "/"), 403, ""},
	} {
		t.Run(name, func(t *testing.T) {
			resp, body := r.do(t, tt.method, tt.path, "", tt.header)
			if resp.StatusCode != tt.want {
				t.Errorf("status %d, want %d: %s", resp.StatusCode, tt.want, body)
			}
			if got := resp.Header.Get("Access-Control-Allow-Origin"); got != tt.origin {
				t.Errorf("allowed origin %q, want %q", got, tt.origin)
			}
			if resp.Header.Get("Access-Control-Allow-Credentials") != "" {
				t.Error("credentials are allowed")
			}
			if resp.StatusCode != http.StatusForbidden && resp.Header.Get("Vary") == "" {
				t.Error("a cache could give one origin's answer to another")
			}
		})
	}
}

func TestWithoutOriginsPreflightsAreRefused(t *testing.T) {
	r := start(t, Config{}, always)
	resp, _ := r.do(t, http.MethodOptions, "/v1/events", "", map[string]string{"Origin": "https://audit.example.com", "Access-Control-Request-Method": "GET"})
	if resp.StatusCode != http.StatusForbidden || resp.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("status %d, %v", resp.StatusCode, resp.Header)
	}
}
