package views

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
)

// Match evaluates a filter naively over a decoded event, by reflection: what the evaluator of the encoding is compared with.
func (f *Filter) Match(e *audittrailv1.Event) bool {
	return f == nil || f.root.naive(e)
}

// Matches evaluates a filter in both ways, which must agree.
func (f *Filter) Matches(t testing.TB, e *audittrailv1.Event) bool {
	t.Helper()
	record, err := e.MarshalVT()
	if err != nil {
		t.Fatal(err)
	}
	want := f.Match(e)
	got, err := f.compile().match(place{int16(e.GetPosition().GetLog()), e.GetPosition().GetIndex()}, record)
	if err != nil || got != want {
		t.Errorf("%s: the evaluator says %v, %v; naive evaluation %v", f, got, err, want)
	}
	return want
}

// AskTermRuns makes walks ask term runs, however few bundles there are.
func (s *Server) AskTermRuns() { s.manyBundles = 0 }

func (n *node) naive(e *audittrailv1.Event) bool {
	switch n.kind {
	case nodeAnd, nodeOr:
		for _, kid := range n.kids {
			if kid.naive(e) == (n.kind == nodeOr) {
				return n.kind == nodeOr
			}
		}
		return n.kind == nodeAnd
	case nodeNot:
		return !n.kids[0].naive(e)
	}
	t := &n.test
	switch t.field.name {
	case "id":
		return event.IDOf(e).String() == event.ID([]byte(t.text)).String()
	case "position.log":
		return t.naiveOrder(int64(e.GetPosition().GetLog()), t.number)
	case "position.index":
		return t.naiveOrder(e.GetPosition().GetIndex(), t.number)
	case "attributes":
		for key := range e.GetAttributes() {
			if t.naiveText(key) {
				return true
			}
		}
		return false
	case "attributes.KEY":
		if t.key != "" {
			return t.naiveText(e.GetAttributes()[t.key])
		}
		for _, value := range e.GetAttributes() {
			if t.naiveText(value) {
				return true
			}
		}
		return false
	}
	for _, v := range valuesAt(e.ProtoReflect(), t.field.name) {
		if t.naiveValue(v) {
			return true
		}
	}
	return false
}

// valuesAt finds values by the name of a field: one, or one of each element of a list on the way.
func valuesAt(m protoreflect.Message, name string) []protoreflect.Value {
	first, rest, more := strings.Cut(name, ".")
	fd := m.Descriptor().Fields().ByName(protoreflect.Name(first))
	switch {
	case !more:
		return []protoreflect.Value{m.Get(fd)}
	case !fd.IsList():
		return valuesAt(m.Get(fd).Message(), rest)
	}
	var out []protoreflect.Value
	list := m.Get(fd).List()
	for i := range list.Len() {
		out = append(out, valuesAt(list.Get(i).Message(), rest)...)
	}
	return out
}

func (t *test) naiveValue(v protoreflect.Value) bool {
	switch x := v.Interface().(type) {
	case string:
		return t.naiveText(x)
	case bool:
		return x == (t.number == 1)
	case uint32:
		return t.naiveOrder(int64(x), t.number)
	case protoreflect.EnumNumber:
		if x == 0 {
			x = map[string]protoreflect.EnumNumber{"kind": 7, "outcome": 4}[t.field.name]
		}
		return t.compare == comparePresent || int64(x) == t.number
	case protoreflect.Message:
		switch m := x.Interface().(type) {
		case *timestamppb.Timestamp:
			if t.compare == comparePresent {
				return m != nil && x.IsValid()
			}
			return t.naiveOrder(int64(m.AsTime().Compare(t.time)), 0)
		case *durationpb.Duration:
			if t.compare == comparePresent {
				return x.IsValid()
			}
			return t.naiveOrder(int64(m.AsDuration()), int64(time.Duration(t.number)))
		}
	}
	panic(t.field.name)
}

func (t *test) naiveOrder(a, b int64) bool {
	return map[compare]bool{compareEqual: a == b, compareLess: a < b, compareLessEqual: a <= b, compareGreater: a > b, compareGreaterEqual: a >= b}[t.compare]
}

func (t *test) naiveText(s string) bool {
	if t.compare == compareWords {
		low := func(s string) string {
			return strings.Map(func(r rune) rune {
				if lower := unicode.ToLower(r); r < 128 || lower >= 128 {
					return lower
				}
				return r
			}, s)
		}
		return bytes.Contains([]byte(low(s)), []byte(t.text))
	}
	switch has := s != ""; t.compare {
	case comparePresent:
		return has
	case comparePrefix:
		return has && len(s) >= len(t.text) && s[:len(t.text)] == t.text
	case compareSuffix:
		return has && len(s) >= len(t.text) && s[len(s)-len(t.text):] == t.text
	case comparePart:
		return has && strings.Contains(s, t.text)
	}
	if t.field.name == "context.ip" && t.network.IsValid() {
		ip, err := netip.ParseAddr(s)
		return err == nil && t.network.Overlaps(netip.PrefixFrom(ip.Unmap(), ip.Unmap().BitLen()))
	}
	return s == t.text
}
