package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/maxviazov/audittrail/internal/tlsfiles"
)

// examineCertificates is doctor's look at the files of TLS: which expires first, and whether that is soon.
func (p *process) examineCertificates(unusable error) (string, error) {
	if unusable != nil {
		return "", unusable
	}
	var first tlsfiles.Expiry
	var bad []error
	n := 0
	for use, list := range p.certs.Expiries() {
		for _, e := range list {
			n++
			if first.File == "" || e.NotAfter.Before(first.NotAfter) {
				first = e
			}
			if e.Soon(time.Now()) {
				bad = append(bad, fmt.Errorf("%s: %s expires on %s", use, e.File, e.NotAfter.UTC().Format(time.RFC3339)))
			}
		}
	}
	if n == 0 {
		return "no file of TLS is configured", errSkipped
	}
	return fmt.Sprintf("%s, the first to expire is %s on %s", number(n, "file"), first.File, first.NotAfter.UTC().Format(time.RFC3339)), errors.Join(bad...)
}
