package devcerts

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestASetIsWrittenOnceAndVerifies(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "certs")
	files, err := Write(Options{Dir: dir, Hosts: []string{"audit.example"}})
	if err != nil || len(files) != 2*(len(Roles)+1) {
		t.Fatalf("Write = %d files, %v", len(files), err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	for _, role := range Roles {
		pair, err := tls.LoadX509KeyPair(filepath.Join(dir, role+".crt"), filepath.Join(dir, role+".key"))
		if err != nil {
			t.Fatal(err)
		}
		for _, host := range []string{"localhost", "127.0.0.1", "::1", role, "audit.example"} {
			if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: host, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
				t.Errorf("%s for %s: %v", role, host, err)
			}
		}
		if len(pair.Leaf.URIs) != 1 || pair.Leaf.URIs[0].String() != "spiffe://audittrail.dev/"+role {
			t.Errorf("%s has URIs %v", role, pair.Leaf.URIs)
		}
		if left := time.Until(pair.Leaf.NotAfter); left < 29*24*time.Hour || left > 31*24*time.Hour {
			t.Errorf("%s is valid for %s", role, left)
		}
		info, err := os.Stat(filepath.Join(dir, role+".key"))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("key of %s: %v, %v", role, info.Mode(), err)
		}
	}
	// A single file that is there is reason enough, and nothing else is made.
	for _, f := range files[1:] {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Write(Options{Dir: dir}); !errors.Is(err, ErrExists) {
		t.Errorf("Write over a CA = %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("%d files afterwards, %v", len(left), err)
	}
	if after, err := os.ReadFile(filepath.Join(dir, "ca.crt")); err != nil || string(after) != string(text) {
		t.Errorf("the CA was overwritten, %v", err)
	}
}
