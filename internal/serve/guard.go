package serve

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
)

// guard refuses what a web page could send through a visitor's browser.
//
// A page of another site can POST a form or a "simple" fetch to 127.0.0.1, and one that rebinds its own DNS name to 127.0.0.1 is even of the
// same origin for the browser. The first carries a foreign Origin (or Sec-Fetch-Site), the second a foreign Host. Origins that the
// configuration names may read (cors.go).
func (s *Server) guard(next http.Handler) http.Handler {
	hosts := s.allowedHosts()
	anyIP := listensBeyondLoopback(s.HTTPAddr())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !hostAllowed(r.Host, hosts, anyIP) {
			httpError(w, http.StatusForbidden, codes.PermissionDenied, "Host is not a name of this server; add it to http.allowed_hosts if it is")
			return
		}
		answered, allowed := s.crossOrigin(w, r)
		switch {
		case answered:
		case !allowed && !sameOrigin(r):
			httpError(w, http.StatusForbidden, codes.PermissionDenied, "requests from web pages of other origins are refused")
		default:
			w.Header().Set("X-Content-Type-Options", "nosniff")
			next.ServeHTTP(w, r)
		}
	})
}

// allowedHosts are host names without port, in lower case.
func (s *Server) allowedHosts() []string {
	hosts := []string{"localhost"}
	for _, addr := range []string{s.cfg.HTTPListen, s.HTTPAddr()} {
		if host, _, err := net.SplitHostPort(addr); err == nil && host != "" {
			hosts = append(hosts, strings.ToLower(host))
		}
	}
	for _, h := range s.cfg.AllowedHosts {
		hosts = append(hosts, strings.ToLower(h))
	}
	return hosts
}

// hostAllowed wants a known name. A loopback address is always one; any other address only when the server listens beyond loopback: DNS
// cannot be rebound to a literal address.
func hostAllowed(hostPort string, hosts []string, anyIP bool) bool {
	host := hostPort
	if h, _, err := net.SplitHostPort(hostPort); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	if slices.Contains(hosts, host) {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && (ip.IsLoopback() || anyIP)
}

func listensBeyondLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && !ip.IsLoopback()
}

// sameOrigin is true without an Origin (no browser, or a plain navigation) and for the server's own.
func sameOrigin(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" || site == "same-site" {
		return false
	}
	for _, origin := range r.Header.Values("Origin") {
		u, err := url.Parse(origin)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || !strings.EqualFold(u.Host, r.Host) {
			return false
		}
	}
	return true
}
