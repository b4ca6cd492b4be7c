package tlsfiles

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"sync/atomic"
	"time"
)

// Files are the files of one use. Its methods may be called at any time from several goroutines.
type Files struct {
	use     string
	paths   Paths
	current atomic.Pointer[material]

	// Owned by the watcher's goroutine.
	sum    [sha256.Size]byte // of what current was made of
	broken string            // why the files of the last look could not be used; empty: they could
	said   string            // what of that the log said
	warned time.Time         // when an expiry was last warned of
}

// Load reads files once; nobody follows them. Use it for what does not run for long. Its errors name the key, USE.cert_file and so on.
func Load(use string, paths Paths) (*Files, error) {
	c, err := paths.read(use)
	if err != nil {
		return nil, err
	}
	m, err := paths.parse(use, c, time.Now())
	if err != nil {
		return nil, err
	}
	f := &Files{use: use, paths: paths, sum: c.sum}
	f.current.Store(m)
	return f, nil
}

// Expiry is when a certificate expires.
type Expiry struct {
	// File is the path.
	File string
	// CA says that it is the first of a file of CAs.
	CA bool
	// NotAfter is its end; NotBefore its beginning, zero for CAs.
	NotBefore, NotAfter time.Time
}

// Soon says whether too little of a certificate's life is left: a fifth of it, at most 30 days.
func (e Expiry) Soon(now time.Time) bool {
	margin := 30 * 24 * time.Hour
	if !e.NotBefore.IsZero() {
		margin = min(margin, e.NotAfter.Sub(e.NotBefore)/5)
	}
	return now.After(e.NotAfter.Add(-margin))
}

// Expiries lists when what is in use expires.
func (f *Files) Expiries() []Expiry {
	var list []Expiry
	m := f.current.Load()
	if m.cert != nil {
		list = append(list, Expiry{File: f.paths.Cert, NotBefore: m.cert.Leaf.NotBefore, NotAfter: m.cert.Leaf.NotAfter})
	}
	if m.cas != nil {
		list = append(list, Expiry{File: f.paths.CA, CA: true, NotAfter: m.caExpiry})
	}
	return list
}

// ClientAuth says what is asked of those who connect.
type ClientAuth string

const (
	// NoClientCert asks for no certificate.
	NoClientCert ClientAuth = "none"
	// OptionalClientCert verifies a certificate that is presented, and lets those connect that have none.
	OptionalClientCert ClientAuth = "optional"
	// RequireClientCert refuses connections without a certificate of one of the CAs.
	RequireClientCert ClientAuth = "required"
)

// Server returns a configuration for listeners, TLS 1.3 only, for HTTP/2 and HTTP/1.1. Each handshake uses the files of the moment.
// Optional and required client certificates need a CA file: without one the system's CAs would be let in.
func (f *Files) Server(auth ClientAuth) (*tls.Config, error) {
	m := f.current.Load()
	if m.cert == nil {
		return nil, fmt.Errorf("%s.cert_file: a listener needs a certificate", f.use)
	}
	mode := tls.NoClientCert
	switch auth {
	case OptionalClientCert:
		mode = tls.VerifyClientCertIfGiven
	case RequireClientCert:
		mode = tls.RequireAndVerifyClientCert
	case NoClientCert:
	default:
		return nil, fmt.Errorf("%s.client_auth: %q is none of none, optional, required", f.use, auth)
	}
	if mode != tls.NoClientCert && m.cas == nil {
		return nil, fmt.Errorf("%s.ca_file: needed to verify the certificates of clients", f.use)
	}
	now := func() *tls.Config {
		m := f.current.Load()
		return &tls.Config{
			MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{*m.cert}, ClientAuth: mode, ClientCAs: m.cas,
			NextProtos: []string{"h2", "http/1.1"}, SessionTicketsDisabled: true,
		}
	}
	c := now()
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return now(), nil }
	return c, nil
}

// Client returns a configuration for one connection to a server of that name, which its certificate must have. It holds the files
// of the moment: make one for each connection.
func (f *Files) Client(serverName string) *tls.Config {
	m := f.current.Load()
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: serverName, RootCAs: m.cas}
	if m.cert != nil {
		c.Certificates = []tls.Certificate{*m.cert}
	}
	return c
}

// CAs are those of the moment; nil: the system's.
func (f *Files) CAs() *x509.CertPool { return f.current.Load().cas }
