package tlsfiles

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"
)

// Dialer makes encrypted connections with the files of the moment.
type Dialer struct {
	// Files give CAs and the client's certificate.
	Files *Files
	// ServerName is the name that the server's certificate must have. Empty: the host that is dialled.
	ServerName string
	// Timeout bounds connecting and handshake together. Default 3 s.
	Timeout time.Duration
}

// Dial is DialContext without a context.
func (d *Dialer) Dial(network, addr string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, addr)
}

// DialContext connects and verifies the server before it returns: nothing is ever said to a server that is not the one that was meant.
func (d *Dialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	timeout := d.Timeout
	if timeout == 0 {
		timeout = 3 * time.Second
	}
	name := d.ServerName
	if name == "" {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, fmt.Errorf("dial %s: %w", addr, err)
		}
		name = host
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return (&tls.Dialer{Config: d.Files.Client(name)}).DialContext(ctx, network, addr)
}
