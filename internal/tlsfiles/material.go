package tlsfiles

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"time"
)

// Paths are the files of one use. Empty ones are not used; Cert and Key belong together.
type Paths struct {
	// Cert is a PEM file: the certificate, followed by intermediates if there are any.
	Cert string
	// Key is a PEM file with the private key.
	Key string
	// CA is a PEM file with the CAs that peers must have a certificate of. Empty: those of the system, for clients.
	CA string
}

// material is what the files held when they were last good. It never changes.
type material struct {
	cert *tls.Certificate // nil: none
	cas  *x509.CertPool   // nil: none
	// caExpiry is when the first of the CAs expires that had not when they were read.
	caExpiry time.Time
}

// contents are the bytes of the files, and their sum tells one state of them from another.
type contents struct {
	cert, key, ca []byte
	sum           [sha256.Size]byte
}

// read reads the files; its errors name the key of the configuration and the file.
func (p Paths) read(use string) (contents, error) {
	var c contents
	h := sha256.New()
	for _, f := range []struct {
		key, path string
		into      *[]byte
	}{{"cert_file", p.Cert, &c.cert}, {"key_file", p.Key, &c.key}, {"ca_file", p.CA, &c.ca}} {
		if f.path == "" {
			continue
		}
		b, err := os.ReadFile(f.path)
		if err != nil {
			return c, fmt.Errorf("%s.%s: %w", use, f.key, err)
		}
		*f.into = b
		fmt.Fprintf(h, "%d:", len(b))
		h.Write(b)
	}
	h.Sum(c.sum[:0])
	return c, nil
}

// parse makes what a handshake needs of the contents. Messages hold no part of the key.
func (p Paths) parse(use string, c contents, now time.Time) (*material, error) {
	m := &material{}
	if p.Cert != "" {
		pair, err := tls.X509KeyPair(c.cert, c.key)
		if err != nil {
			return nil, fmt.Errorf("%s.cert_file %s and %s.key_file %s: %w", use, p.Cert, use, p.Key, err)
		}
		leaf, err := x509.ParseCertificate(pair.Certificate[0])
		if err != nil {
			return nil, fmt.Errorf("%s.cert_file %s: %w", use, p.Cert, err)
		}
		switch {
		case now.After(leaf.NotAfter):
			return nil, fmt.Errorf("%s.cert_file %s: the certificate expired on %s", use, p.Cert, leaf.NotAfter.UTC().Format(time.RFC3339))
		case now.Before(leaf.NotBefore):
			return nil, fmt.Errorf("%s.cert_file %s: the certificate is not valid before %s", use, p.Cert, leaf.NotBefore.UTC().Format(time.RFC3339))
		}
		pair.Leaf = leaf
		m.cert = &pair
	}
	if p.CA != "" {
		var err error
		if m.cas, m.caExpiry, err = parseCAs(c.ca, now); err != nil {
			return nil, fmt.Errorf("%s.ca_file %s: %w", use, p.CA, err)
		}
	}
	return m, nil
}

// parseCAs is stricter than CertPool.AppendCertsFromPEM, which passes over what it does not understand: a damaged bundle would lose a CA.
func parseCAs(text []byte, now time.Time) (*x509.CertPool, time.Time, error) {
	pool, usable := x509.NewCertPool(), 0
	var first time.Time
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			if len(bytes.TrimSpace(rest)) > 0 && bytes.Contains(rest, []byte("-----BEGIN")) {
				return nil, first, errors.New("a PEM block is damaged")
			}
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, first, fmt.Errorf("holds a %s, and must hold certificates only", block.Type)
		}
		ca, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, first, err
		}
		pool.AddCert(ca)
		if now.After(ca.NotAfter) {
			continue // left over from a rotation; no chain over it verifies
		}
		usable++
		if first.IsZero() || ca.NotAfter.Before(first) {
			first = ca.NotAfter
		}
	}
	if usable == 0 {
		return nil, first, errors.New("holds no certificate that has not expired")
	}
	return pool, first, nil
}
