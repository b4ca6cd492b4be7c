package serve

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
)

// edge gives the connections that come from the network TLS, and lets those from this process be: their other end is the HTTP side.
type edge struct {
	credentials.TransportCredentials // of the network
	inside                           credentials.TransportCredentials
}

func newEdge(encrypt *tls.Config) edge {
	e := edge{TransportCredentials: insecure.NewCredentials(), inside: insecure.NewCredentials()}
	if encrypt != nil {
		e.TransportCredentials = credentials.NewTLS(encrypt)
	}
	return e
}

// inside marks connections of this process. Nobody else can make one: the type is what counts, not an address.
type insideConn struct{ net.Conn }

type insideListener struct{ *bufconn.Listener }

// Accept implements net.Listener.
func (l insideListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return insideConn{c}, nil
}

// insideInfo says of a call that it came through the HTTP side.
type insideInfo struct{ credentials.AuthInfo }

// ServerHandshake implements credentials.TransportCredentials.
func (e edge) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if _, ours := conn.(insideConn); ours {
		c, info, err := e.inside.ServerHandshake(conn)
		return c, insideInfo{info}, err
	}
	return e.TransportCredentials.ServerHandshake(conn)
}

// Clone implements credentials.TransportCredentials.
func (e edge) Clone() credentials.TransportCredentials {
	return edge{e.TransportCredentials.Clone(), e.inside.Clone()}
}

// serveHTTP serves with or without TLS.
func (s *Server) serveHTTP() error {
	if s.cfg.TLS == nil {
		return s.http.Serve(s.httpListener)
	}
	return s.http.ServeTLS(s.httpListener, "", "") // certificates come from TLSConfig
}

// withTLS gives the HTTP side its own copy, since http.Server changes it.
func withTLS(h *http.Server, encrypt *tls.Config) *http.Server {
	if encrypt != nil {
		h.TLSConfig = encrypt.Clone()
	}
	return h
}

// dialInside connects the HTTP side.
func (s *Server) dialInside(ctx context.Context, _ string) (net.Conn, error) {
	return s.inProcess.DialContext(ctx)
}
