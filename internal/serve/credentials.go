package serve

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/http"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/maxviazov/audittrail/internal/access"
)

// certificateKey is the metadata in which the HTTP side hands on the certificate of its client, in DER. It is believed on connections of this
// process only; on others it is a header like any other.
const certificateKey = "audittrail-certificate-bin"

// handOn is what the HTTP side adds to a call. grpc-gateway hands on Authorization itself.
func handOn(_ context.Context, r *http.Request) metadata.MD {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return nil
	}
	return metadata.Pairs(certificateKey, string(r.TLS.PeerCertificates[0].Raw))
}

// Credentials finds what a call brought, for access.NewGate.
func Credentials(ctx context.Context) (access.Credentials, error) {
	var c access.Credentials
	md, _ := metadata.FromIncomingContext(ctx)
	c.Authorization = md.Get("authorization")
	p, ok := peer.FromContext(ctx)
	if !ok {
		return c, nil
	}
	switch info := p.AuthInfo.(type) {
	case credentials.TLSInfo:
		if len(info.State.VerifiedChains) > 0 {
			c.Certificate = info.State.PeerCertificates[0]
		}
	case insideInfo:
		der := md.Get(certificateKey)
		if len(der) == 0 {
			break
		}
		if len(der) > 1 {
			return c, fmt.Errorf("%d certificates", len(der))
		}
		var err error
		if c.Certificate, err = x509.ParseCertificate([]byte(der[0])); err != nil {
			return c, fmt.Errorf("certificate of the http client: %w", err)
		}
	}
	return c, nil
}
