package devcerts

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"time"
)

// CA signs certificates.
type CA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Pair is a certificate and its private key, PEM.
type Pair struct{ Cert, Key []byte }

// NewCA makes an authority of that name, valid from a minute ago for so long.
func NewCA(name string, life time.Duration) (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	template, err := newTemplate(name, time.Now().Add(-time.Minute), time.Now().Add(life))
	if err != nil {
		return nil, err
	}
	template.IsCA, template.BasicConstraintsValid, template.MaxPathLenZero = true, true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make CA certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make CA certificate: %w", err)
	}
	return &CA{cert: cert, key: key}, nil
}

// PEM is the authority's certificate and key.
func (ca *CA) PEM() (Pair, error) { return pair(ca.cert.Raw, ca.key) }

// Request says whose certificate is wanted: it is good for servers and clients.
type Request struct {
	// Name is the common name.
	Name string
	// Hosts are DNS names and IP addresses.
	Hosts []string
	// URIs are names such as spiffe://acme.example/payments.
	URIs []string
	// NotBefore is the beginning. Default a minute ago.
	NotBefore time.Time
	// NotAfter is the end. Default a day from now.
	NotAfter time.Time
}

// Issue signs a certificate with a new key.
func (ca *CA) Issue(r Request) (Pair, error) {
	if r.NotBefore.IsZero() {
		r.NotBefore = time.Now().Add(-time.Minute)
	}
	if r.NotAfter.IsZero() {
		r.NotAfter = time.Now().Add(24 * time.Hour)
	}
	template, err := newTemplate(r.Name, r.NotBefore, r.NotAfter)
	if err != nil {
		return Pair{}, err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	for _, host := range r.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
			continue
		}
		template.DNSNames = append(template.DNSNames, host)
	}
	for _, text := range r.URIs {
		u, err := url.Parse(text)
		if err != nil {
			return Pair{}, fmt.Errorf("make certificate of %s: %w", r.Name, err)
		}
		template.URIs = append(template.URIs, u)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, fmt.Errorf("make key of %s: %w", r.Name, err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		return Pair{}, fmt.Errorf("make certificate of %s: %w", r.Name, err)
	}
	return pair(der, key)
}

func newTemplate(name string, from, until time.Time) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("make serial number: %w", err)
	}
	return &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: name, Organization: []string{"AuditTrail development"}}, NotBefore: from, NotAfter: until}, nil
}

// pair writes the key as PKCS #8, which Go, PostgreSQL, Redis and Java all read.
func pair(der []byte, key *ecdsa.PrivateKey) (Pair, error) {
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Pair{}, fmt.Errorf("encode key: %w", err)
	}
	var p Pair
	p.Cert = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	p.Key = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})
	return p, nil
}

// KeyStore is certificate and key in one PEM, as Kafka's brokers read them.
func (p Pair) KeyStore() []byte { return bytes.Join([][]byte{p.Key, p.Cert}, nil) }
