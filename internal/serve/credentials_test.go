package serve

import (
	"testing"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/maxviazov/audittrail/internal/devcerts"
)

// TestCertificatesInMetadataAreBelievedInTheProcessOnly: also when the network is plaintext.
func TestCertificatesInMetadataAreBelievedInTheProcessOnly(t *testing.T) {
	ca, err := devcerts.NewCA("ca", 1<<40)
	if err != nil {
		t.Fatal(err)
	}
	files := issue(t, t.TempDir(), ca)
	der := derOf(t, files.Cert)
	_, plain, err := insecure.NewCredentials().ServerHandshake(nil)
	if err != nil {
		t.Fatal(err)
	}
	for why, tt := range map[string]struct {
		info credentials.AuthInfo
		want bool
	}{"inside": {insideInfo{plain}, true}, "plaintext": {plain, false}, "TLS": {credentials.TLSInfo{}, false}} {
		ctx := metadata.NewIncomingContext(peer.NewContext(t.Context(), &peer.Peer{AuthInfo: tt.info}), metadata.Pairs(certificateKey, string(der)))
		c, err := Credentials(ctx)
		if err != nil || (c.Certificate != nil) != tt.want {
			t.Errorf("%s: certificate %v, %v", why, c.Certificate != nil, err)
		}
	}
}
