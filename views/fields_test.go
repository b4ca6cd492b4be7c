package views

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/segment"
	"github.com/maxviazov/audittrail/views/viewstest"
)

// TestFieldsAreThoseOfTheContract: every field of Event is in the table, under its name and with its place, and nothing else is.
func TestFieldsAreThoseOfTheContract(t *testing.T) {
	seen := make(map[string]bool)
	var visit func(m protoreflect.MessageDescriptor, prefix string, path []protowire.Number, list int)
	visit = func(m protoreflect.MessageDescriptor, prefix string, path []protowire.Number, list int) {
		for i := range m.Fields().Len() {
			fd := m.Fields().Get(i)
			name := prefix + string(fd.Name())
			at := append(append([]protowire.Number(nil), path...), fd.Number())
			switch {
			case fd.IsMap():
				for n, name := range []string{name, name + ".KEY"} {
					seen[name] = true
					if f := byName(name); f == nil || fmt.Sprint(f.path) != fmt.Sprint(append(at, protowire.Number(n+1))) {
						t.Errorf("%s: %+v", name, f)
					}
				}
			case fd.Message() != nil && fd.Message().ParentFile() == m.ParentFile():
				below := list
				if fd.IsList() {
					below = len(at)
				}
				visit(fd.Message(), name+".", at, below)
			default:
				seen[name] = true
				f := byName(name)
				if f == nil {
					t.Errorf("%s is not in the table", name)
				} else if len(f.path) > 0 && (fmt.Sprint(f.path) != fmt.Sprint(at) || f.list != list) {
					t.Errorf("%s: path %v, list %d; want %v, %d", name, f.path, f.list, at, list)
				}
			}
		}
	}
	visit((&audittrailv1.Event{}).ProtoReflect().Descriptor(), "", nil, 0)
	for i := range fields {
		if !seen[fields[i].name] {
			t.Errorf("the contract has no %s", fields[i].name)
		}
	}
}

// TestTermsOfFieldsAreThoseOfSegments: the term that the table gives a value is one that the writer puts into the segment, for every
// field, and every term of a record is asked for by some field.
func TestTermsOfFieldsAreThoseOfSegments(t *testing.T) {
	gen := viewstest.NewGenerator(31, time.Now(), time.Hour)
	for range 200 {
		e := gen.Event()
		left := make(map[uint64]bool)
		hashes, _ := segment.AppendTerms(nil, nil, e)
		for _, h := range hashes {
			left[h] = true
		}
		had := len(left)
		for i := range fields {
			f := &fields[i]
			if f.kind == kindKeys || f.kind == kindValue || f.term == nil && f.kind != kindAddress {
				continue
			}
			for _, v := range valuesAt(e.ProtoReflect(), f.name) {
				text := v.String()
				if f.kind == kindEnum {
					text = f.nameOf(int32(v.Enum()))
				}
				tested, problem := f.test(argument{raw: text, text: text}, "=", time.Now())
				if problem != "" {
					t.Fatalf("%s = %q: %s", f.name, text, problem)
				}
				for _, alternatives := range tested.terms() {
					if !left[alternatives[0].hash] && had == len(left) {
						t.Errorf("%s = %q implies a term that the segment does not hold", f.name, text)
					}
				}
			}
		}
		for key, value := range e.GetAttributes() {
			tested := test{field: fieldAttribute, key: key, text: value}
			for _, alternatives := range tested.terms() {
				if !left[alternatives[0].hash] {
					t.Errorf("attributes.%s = %q implies a term that the segment does not hold", key, value)
				}
			}
		}
	}
}

// TestFiltersAreDocumented holds docs/filters.md: its table is that of the code, and its examples are filters.
func TestFiltersAreDocumented(t *testing.T) {
	const path, begin, end = "../docs/filters.md", "<!-- fields: written by go test ./views -run Documented -update -->\n", "<!-- end of fields -->\n"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(text), begin)
	table, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatal("no table of fields in " + path)
	}
	want := documentFields()
	if *update {
		if err := os.WriteFile(path, []byte(head+begin+want+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if table != want {
		t.Errorf("%s is not fresh: go test ./views -run Documented -update", path)
	}
	examples := 0
	for _, line := range strings.Split(head+tail, "\n") {
		if example, ok := strings.CutPrefix(line, "    "); ok {
			examples++
			if _, err := ParseFilter(example); err != nil {
				t.Errorf("%s: %v", example, err)
			}
		}
	}
	if examples < 10 {
		t.Errorf("%d examples", examples)
	}
}

func documentFields() string {
	var b strings.Builder
	b.WriteString("| field | values | operators | free text | found by | what it is |\n|---|---|---|---|---|---|\n")
	for _, f := range FilterFields() {
		spoken, found := "", f.FoundBy
		if f.FreeText {
			spoken = "yes"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", f.Name, f.Values, "`"+strings.Join(f.Operators, "` `")+"`", spoken, found, f.Doc)
	}
	return b.String()
}

func TestFieldReader(t *testing.T) {
	e := &audittrailv1.Event{Source: "a", Outcome: 2, Attributes: map[string]string{"k": "v"},
		Resources:  []*audittrailv1.Resource{{Id: "1"}, {Id: "1"}, {Id: "2"}},
		Enrichment: &audittrailv1.Enrichment{ActorNew: true, ActorFailures: 3}}
	record, err := e.MarshalVT()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"source": "[a]", "actor.id": "[]", "outcome": "[failure]", "kind": "[other]", "attributes.k": "[v]", "attributes.x": "[]", "attributes": "[k]",
		"resources.id": "[1 1 2]", "enrichment.actor_new": "[true]", "enrichment.actor_failures": "[3]", "position.log": "[7]", "changes.path": "[]",
	} {
		r, ok := newFieldReader(name)
		if !ok {
			t.Errorf("%s cannot be counted", name)
			continue
		}
		var got []string
		if err := r.read(place{7, 1}, record, func(v []byte) { got = append(got, string(v)) }); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(got) != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	for _, name := range []string{"id", "occurred_at", "details", "attributes.KEY", "nothing", "attributes."} {
		if _, ok := newFieldReader(name); ok {
			t.Errorf("%s can be counted", name)
		}
	}
}
