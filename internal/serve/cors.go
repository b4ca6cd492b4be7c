package serve

import (
	"net/http"
	"slices"
	"strings"
)

// crossOrigin lets web pages of the configured origins read: GET below /v1/ and the OpenAPI document, nothing else. It answers their preflights and
// says whether the request may pass although it is of another origin. Cookies are never allowed: there are none, and a page that
// authenticates does so with a header.
func (s *Server) crossOrigin(w http.ResponseWriter, r *http.Request) (answered, allowed bool) {
	if len(s.cfg.CORSOrigins) == 0 {
		return false, false
	}
	header := w.Header()
	header.Add("Vary", "Origin")
	origins := r.Header.Values("Origin")
	if len(origins) != 1 || !slices.Contains(s.cfg.CORSOrigins, origins[0]) || !forPages(r.URL.Path) {
		return false, false
	}
	preflight := r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != ""
	switch {
	case preflight && r.Header.Get("Access-Control-Request-Method") == http.MethodGet:
		header.Set("Access-Control-Allow-Origin", origins[0])
		header.Set("Access-Control-Allow-Methods", http.MethodGet)
		header.Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
		header.Set("Access-Control-Max-Age", "600")
		w.WriteHeader(http.StatusNoContent)
		return true, false
	case r.Method == http.MethodGet:
		header.Set("Access-Control-Allow-Origin", origins[0])
		header.Set("Access-Control-Expose-Headers", "Retry-After")
		return false, true
	default:
		return false, false
	}
}

// forPages says what other origins may read: neither metrics nor profiles.
func forPages(path string) bool { return strings.HasPrefix(path, "/v1/") || path == "/openapi.json" }
