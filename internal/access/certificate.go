package access

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// CertificateRules say whom a verified certificate stands for. Each is a name that certificates may have:
//
//	spiffe://acme.example/payments   a URI SAN; a last segment * stands for one or more segments
//	dns:api.acme.example             a DNS SAN; a first label * stands for one label
//	cn:deployer                      the common name of the subject
//
// A rule with ! before it refuses every certificate that has such a name, whatever else it has: revocation. The first other rule that fits
// gives the name. A certificate with more than one URI SAN fits no spiffe rule (SPIFFE X.509-SVID, section 2).
type CertificateRules struct{ allow, refuse []certRule }

type certRule struct{ kind, pattern string }

// ParseCertificateRules reads rules; its errors name the rule.
func ParseCertificateRules(list []string) (*CertificateRules, error) {
	r := new(CertificateRules)
	for _, text := range list {
		body, refuse := strings.CutPrefix(text, "!")
		rule, err := parseCertRule(body)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", text, err)
		}
		if refuse {
			r.refuse = append(r.refuse, rule)
		} else {
			r.allow = append(r.allow, rule)
		}
	}
	return r, nil
}

func parseCertRule(text string) (certRule, error) {
	if rest, ok := strings.CutPrefix(text, "dns:"); ok {
		if name := strings.TrimPrefix(rest, "*."); name == "" || strings.ContainsAny(name, "*/ :") {
			return certRule{}, errors.New("must be dns:NAME or dns:*.NAME")
		}
		return certRule{"dns", strings.ToLower(rest)}, nil
	}
	if rest, ok := strings.CutPrefix(text, "cn:"); ok {
		if rest == "" || strings.Contains(rest, "*") {
			return certRule{}, errors.New("must be cn:NAME, without a pattern")
		}
		return certRule{"cn", rest}, nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "spiffe" || u.Host == "" || len(u.Path) < 2 || u.RawQuery != "" || u.Fragment != "" {
		return certRule{}, errors.New("must be spiffe://DOMAIN/PATH, dns:NAME or cn:NAME")
	}
	if star := strings.IndexByte(text, '*'); star >= 0 && (star != len(text)-1 || text[star-1] != '/') {
		return certRule{}, errors.New("* can only be the last segment")
	}
	return certRule{"uri", text}, nil
}

// Principal says whom the certificate stands for.
func (r *CertificateRules) Principal(cert *x509.Certificate, now time.Time) (Principal, error) {
	// It was verified when the connection was made, which may be long ago.
	if now.After(cert.NotAfter) {
		return Principal{}, errors.New("certificate has expired")
	}
	for _, rule := range r.refuse {
		if rule.fits(cert, true) != "" {
			return Principal{}, fmt.Errorf("certificate is refused by the rule !%s", rule.pattern)
		}
	}
	for _, rule := range r.allow {
		if name := rule.fits(cert, false); name != "" {
			p := Principal{Name: name, Expires: cert.NotAfter}
			return p, p.check()
		}
	}
	return Principal{}, errors.New("no rule knows the certificate")
}

// fits returns the name that the rule fits, or nothing. any looks at every URI, however many there are.
func (r certRule) fits(cert *x509.Certificate, any bool) string {
	switch r.kind {
	case "uri":
		if len(cert.URIs) != 1 && !any {
			return ""
		}
		for _, u := range cert.URIs {
			if uriFits(r.pattern, u.String()) {
				return u.String()
			}
		}
	case "dns":
		for _, name := range cert.DNSNames {
			name = strings.ToLower(name)
			if strings.HasPrefix(name, "*") || strings.HasPrefix(name, ".") {
				continue // a certificate for many hosts is nobody
			}
			if name == r.pattern || strings.HasPrefix(r.pattern, "*.") && afterLabel(name) == r.pattern[1:] {
				return "dns:" + name
			}
		}
	case "cn":
		if cert.Subject.CommonName == r.pattern {
			return "cn:" + r.pattern
		}
	}
	return ""
}

// afterLabel is a DNS name without its first label, from the dot on.
func afterLabel(name string) string {
	if dot := strings.IndexByte(name, '.'); dot >= 0 {
		return name[dot:]
	}
	return ""
}

// uriFits compares byte for byte: an encoded or empty segment, or one of dots, is not what it may look like.
func uriFits(pattern, uri string) bool {
	prefix, wild := strings.CutSuffix(pattern, "*")
	if !wild {
		return uri == pattern
	}
	rest, ok := strings.CutPrefix(uri, prefix)
	if !ok || rest == "" || strings.ContainsAny(rest, "%?#") {
		return false
	}
	for segment := range strings.SplitSeq(rest, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return false
		}
	}
	return true
}
