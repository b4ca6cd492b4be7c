package event

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/timestamppb"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// CanonicalVersion is the first byte of the canonical form. Another form gets another version, and
// fingerprints of different versions are never compared.
const CanonicalVersion = 1

// Canonical appends the canonical form of what the producer said to dst and returns it: the version
// byte, then the event as protobuf with fields in ascending order, map entries in the order of their
// keys' bytes, default values left out, fields that AuditTrail sets left out, and unknown fields as
// they came, last in their message. protobuf itself promises no such form: it encodes maps in random
// order, and an honest retry must not look like other content.
//
// The fields of an event are listed here once more; TestCanonicalCoversEveryField fails when the
// schema gets one that is not.
func Canonical(dst []byte, e *audittrailv1.Event) []byte {
	b := append(dst, CanonicalVersion)
	b = str(b, 2, e.Source)
	b = str(b, 3, e.IdempotencyKey)
	b = timestamp(b, 4, e.OccurredAt)
	if a := e.Actor; a != nil {
		b = message(b, 5, func(b []byte) []byte { return actor(b, a) })
	}
	b = str(b, 6, e.Action)
	b = enum(b, 7, int32(e.Kind))
	b = enum(b, 8, int32(e.Outcome))
	for _, r := range e.Resources {
		b = message(b, 9, func(b []byte) []byte {
			b = str(b, 1, r.GetType())
			b = str(b, 2, r.GetId())
			b = str(b, 3, r.GetName())
			return append(b, r.ProtoReflect().GetUnknown()...)
		})
	}
	for _, c := range e.Changes {
		b = message(b, 10, func(b []byte) []byte {
			b = str(b, 1, c.GetPath())
			b = optional(b, 2, c.Old)
			b = optional(b, 3, c.New)
			return append(b, c.ProtoReflect().GetUnknown()...)
		})
	}
	if c := e.Context; c != nil {
		b = message(b, 11, func(b []byte) []byte { return origin(b, c) })
	}
	b = attributes(b, 12, e.Attributes)
	b = str(b, 13, e.Details)
	b = str(b, 14, e.ReasonCode)
	b = str(b, 15, e.Reason)
	return append(b, e.ProtoReflect().GetUnknown()...)
}

// Fingerprint is SHA-256 of the canonical form, and its first 8 bytes, big endian, as a number.
func Fingerprint(e *audittrailv1.Event) (short uint64, full [sha256.Size]byte) {
	buf := scratch.Get().(*[]byte)
	*buf = Canonical((*buf)[:0], e)
	full = sha256.Sum256(*buf)
	scratch.Put(buf)
	return binary.BigEndian.Uint64(full[:8]), full
}

var scratch = sync.Pool{New: func() any { b := make([]byte, 0, 2048); return &b }}

func actor(b []byte, a *audittrailv1.Actor) []byte {
	b = str(b, 1, a.Type)
	b = str(b, 2, a.Id)
	b = str(b, 3, a.Name)
	b = str(b, 4, a.Session)
	b = str(b, 5, a.AuthMethod)
	for _, o := range a.OnBehalfOf {
		b = message(b, 6, func(b []byte) []byte {
			b = str(b, 1, o.GetType())
			b = str(b, 2, o.GetId())
			b = str(b, 3, o.GetName())
			return append(b, o.ProtoReflect().GetUnknown()...)
		})
	}
	return append(b, a.ProtoReflect().GetUnknown()...)
}

func origin(b []byte, c *audittrailv1.Context) []byte {
	b = str(b, 1, c.Ip)
	b = str(b, 2, c.UserAgent)
	b = str(b, 3, c.RequestId)
	b = str(b, 4, c.TraceId)
	b = str(b, 5, c.SpanId)
	b = str(b, 6, c.Host)
	b = str(b, 7, c.Region)
	b = str(b, 8, c.ServiceVersion)
	return append(b, c.ProtoReflect().GetUnknown()...)
}

func timestamp(b []byte, num protowire.Number, t *timestamppb.Timestamp) []byte {
	if t == nil {
		return b
	}
	return message(b, num, func(b []byte) []byte {
		b = varint(b, 1, uint64(t.Seconds))
		b = varint(b, 2, uint64(int64(t.Nanos)))
		return append(b, t.ProtoReflect().GetUnknown()...)
	})
}

func attributes(b []byte, num protowire.Number, m map[string]string) []byte {
	if len(m) == 0 {
		return b
	}
	var array [MaxAttributes]string
	keys := array[:0]
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		v := m[k]
		n := protowire.SizeTag(1) + protowire.SizeBytes(len(k)) + protowire.SizeTag(2) + protowire.SizeBytes(len(v))
		b = protowire.AppendTag(b, num, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(n))
		b = optional(b, 1, &k) // a map entry has both fields, as protobuf writes them
		b = optional(b, 2, &v)
	}
	return b
}

func str(b []byte, num protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, num, protowire.BytesType), s)
}

func optional(b []byte, num protowire.Number, s *string) []byte {
	if s == nil {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, num, protowire.BytesType), *s)
}

func enum(b []byte, num protowire.Number, v int32) []byte { return varint(b, num, uint64(int64(v))) }

func varint(b []byte, num protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
}

// message writes a submessage whose length is known only afterwards: the content is written first and
// moved when its length takes more than one byte.
func message(b []byte, num protowire.Number, content func([]byte) []byte) []byte {
	b = protowire.AppendTag(b, num, protowire.BytesType)
	at := len(b)
	b = content(append(b, 0))
	n := len(b) - at - 1
	if extra := protowire.SizeVarint(uint64(n)) - 1; extra > 0 {
		b = append(b, make([]byte, extra)...)
		copy(b[at+1+extra:], b[at+1:at+1+n])
	}
	protowire.AppendVarint(b[:at], uint64(n))
	return b
}
