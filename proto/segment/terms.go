package segment

import (
	"net/netip"

	"github.com/cespare/xxhash/v2"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// A term is XXH64 (seed 0) of kind byte ‖ value. The kinds are part of the format. Values are normalised as follows: text is taken
// byte for byte (no case folding, no Unicode normalisation), empty text makes no term; enums are one byte, unspecified counting as
// what it reads as; an IP prefix is its length in bits (1 byte) and its masked address (4 or 16 bytes, IPv4 in IPv6 is IPv4); an
// attribute is the length of its key (1 byte), key, value.
const (
	termSource       byte = 1 // each prefix of the path, and the path
	termActorType    byte = 2
	termActorID      byte = 3
	termAction       byte = 4
	termKind         byte = 5
	termOutcome      byte = 6
	termResourceType byte = 7
	termResourceID   byte = 8
	termTrace        byte = 9
	termSession      byte = 10
	termRequest      byte = 11
	termIP           byte = 12 // the address, /24 and /16, or /64 and /48
	termAttribute    byte = 13
)

// AppendTerms appends the terms of a record, duplicates included. scratch, which may be nil, is used for concatenation and returned
// so that it can be used again.
func AppendTerms(dst []uint64, scratch []byte, e *audittrailv1.Event) (terms []uint64, grown []byte) {
	t := collector{terms: dst, buf: scratch}
	t.source(e.GetSource())
	t.text(termActorType, e.GetActor().GetType())
	t.text(termActorID, e.GetActor().GetId())
	t.text(termSession, e.GetActor().GetSession())
	t.text(termAction, e.GetAction())
	t.terms = append(t.terms, TermKind(e.GetKind()), TermOutcome(e.GetOutcome()))
	for _, r := range e.GetResources() {
		t.text(termResourceType, r.GetType())
		t.text(termResourceID, r.GetId())
	}
	t.text(termTrace, e.GetContext().GetTraceId())
	t.text(termRequest, e.GetContext().GetRequestId())
	if ip := e.GetContext().GetIp(); ip != "" {
		t.ip(ip)
	}
	for key, value := range e.GetAttributes() {
		t.attribute(key, value)
	}
	return t.terms, t.buf
}

// parseAddr is netip.ParseAddr in the normal form of terms.
func parseAddr(text string) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(text)
	return addr.Unmap().WithZone(""), err == nil
}

type collector struct {
	terms []uint64
	buf   []byte
}

func (t *collector) text(kind byte, value string) {
	if value != "" {
		t.buf = append(append(t.buf[:0], kind), value...)
		t.terms = append(t.terms, xxhash.Sum64(t.buf))
	}
}

func (t *collector) source(path string) {
	for i := range len(path) {
		if path[i] == '/' {
			t.text(termSource, path[:i])
		}
	}
	t.text(termSource, path)
}

func (t *collector) attribute(key, value string) {
	t.buf = append(append(t.buf[:0], termAttribute, byte(len(key))), key...)
	t.buf = append(t.buf, value...)
	t.terms = append(t.terms, xxhash.Sum64(t.buf))
}

// ip adds the address and its networks. An event whose address does not parse (none gets past validation) has none of these terms.
func (t *collector) ip(text string) {
	addr, ok := parseAddr(text)
	if !ok {
		return
	}
	lengths := [3]int{128, 64, 48}
	if addr.Is4() {
		lengths = [3]int{32, 24, 16}
	}
	for _, n := range lengths {
		if p, err := addr.Prefix(n); err == nil {
			t.prefix(p)
		}
	}
}

func (t *collector) prefix(p netip.Prefix) {
	t.buf = append(t.buf[:0], termIP, byte(p.Bits()))
	if a := p.Addr(); a.Is4() {
		b := a.As4()
		t.buf = append(t.buf, b[:]...)
	} else {
		b := a.As16()
		t.buf = append(t.buf, b[:]...)
	}
	t.terms = append(t.terms, xxhash.Sum64(t.buf))
}

func term(kind byte, value string) uint64 {
	return xxhash.Sum64(append([]byte{kind}, value...))
}

// TermSource is the term of a source and of everything below it.
func TermSource(path string) uint64 { return term(termSource, path) }

// TermActorType is the term of actor.type.
func TermActorType(value string) uint64 { return term(termActorType, value) }

// TermActorID is the term of actor.id.
func TermActorID(value string) uint64 { return term(termActorID, value) }

// TermSession is the term of actor.session.
func TermSession(value string) uint64 { return term(termSession, value) }

// TermAction is the term of a whole action; there are none of its prefixes.
func TermAction(value string) uint64 { return term(termAction, value) }

// TermKind is the term of kind.
func TermKind(k audittrailv1.ActionKind) uint64 {
	if k == audittrailv1.ActionKind_ACTION_KIND_UNSPECIFIED {
		k = audittrailv1.ActionKind_ACTION_KIND_OTHER
	}
	return xxhash.Sum64([]byte{termKind, byte(k)})
}

// TermOutcome is the term of outcome.
func TermOutcome(o audittrailv1.Outcome) uint64 {
	if o == audittrailv1.Outcome_OUTCOME_UNSPECIFIED {
		o = audittrailv1.Outcome_OUTCOME_UNKNOWN
	}
	return xxhash.Sum64([]byte{termOutcome, byte(o)})
}

// TermResourceType is the term of the type of a resource.
func TermResourceType(value string) uint64 { return term(termResourceType, value) }

// TermResourceID is the term of the id of a resource.
func TermResourceID(value string) uint64 { return term(termResourceID, value) }

// TermTrace is the term of context.trace_id.
func TermTrace(value string) uint64 { return term(termTrace, value) }

// TermRequest is the term of context.request_id.
func TermRequest(value string) uint64 { return term(termRequest, value) }

// TermIP is the term of an address or network. Only /32, /24, /16 (IPv4) and /128, /64, /48 (IPv6) have one; for others ok is false. A
// network in between is found by the next shorter of these.
func TermIP(p netip.Prefix) (t uint64, ok bool) {
	addr, n := p.Addr(), p.Bits()
	if addr.Is4In6() && n >= 96 {
		addr, n = addr.Unmap(), n-96
	}
	switch {
	case addr.Is4() && (n == 32 || n == 24 || n == 16), addr.Is6() && (n == 128 || n == 64 || n == 48):
	default:
		return 0, false
	}
	masked, err := addr.WithZone("").Prefix(n)
	if err != nil {
		return 0, false
	}
	var c collector
	c.prefix(masked)
	return c.terms[0], true
}

// TermAttribute is the term of attributes[key] = value.
func TermAttribute(key, value string) uint64 {
	var c collector
	c.attribute(key, value)
	return c.terms[0]
}
