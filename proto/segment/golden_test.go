package segment

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden file again")

const goldenFile = "../testdata/segment.json"

type goldenEntry struct {
	Kind    Kind   `json:"kind"`
	Payload string `json:"payload"` // hex
	Leaf    string `json:"leaf"`    // hex
}

type golden struct {
	Comment string        `json:"comment"`
	Entries []goldenEntry `json:"entries"`
	Raw     string        `json:"raw"` // data with codec 0, hex
	S2      string        `json:"s2"`  // data with codec 1, hex; other encoders may give other bytes
	Terms   []string      `json:"terms"`
	Absent  []string      `json:"absent"`
	Filter  string        `json:"filter"` // of terms, and none of absent is in it
}

func goldenEntries() []Entry {
	var zeros [32]byte
	long := bytes.Repeat([]byte("a long payload that repeats itself, "), 40)
	entries := []Entry{
		{KindRecord, []byte("\x12\x11acme/payments/api2\x0buser.login")},
		{KindRecord, long},
		{KindRecord, nil},
		{KindGap, Gap{FromOffset: 1, FromIndex: 2, EndOffset: 1 << 40, EndIndex: 3, Reason: GapExpiredInput}.Append(nil)},
		{KindDeadLetter, DeadLetter{Offset: 7, Index: 499, Reason: "INVALID_EVENT", SHA256: [32]byte{1, 2, 3}}.Append(nil)},
		{KindRedacted, zeros[:]},
		{KindRecord, append(bytes.Repeat([]byte{'z'}, 70), long...)},
		{KindRecord, make([]byte, 2000)},
	}
	for i := range 40 {
		entries = append(entries, Entry{KindRecord, fmt.Appendf(nil, "{\"record\": %d, \"source\": \"acme/payments/api\"}", i)})
	}
	return entries
}

func frame(entries []Entry) (framed []byte) {
	for _, e := range entries {
		framed = AppendEntry(framed, e.Kind, e.Payload)
	}
	return framed
}

func makeGolden() golden {
	g := golden{Comment: "See docs/segment-format.md. Terms are hexadecimal XXH64 values of: source acme, acme/payments, " +
		"acme/payments/api; actor.id alice; action user.login; outcome 1; ip 203.0.113.0/24; attribute team=red"}
	entries := goldenEntries()
	framed := frame(entries)
	for _, e := range entries {
		leaf := LeafHash(e)
		payload := hex.EncodeToString(e.Payload)
		g.Entries = append(g.Entries, goldenEntry{e.Kind, payload, hex.EncodeToString(leaf[:])})
	}
	g.Raw = hex.EncodeToString(append([]byte{codecRaw}, framed...))
	g.S2 = hex.EncodeToString(Encode(nil, framed))
	terms, absent := goldenTerms()
	for _, t := range terms {
		g.Terms = append(g.Terms, fmt.Sprintf("%016x", t))
	}
	for _, t := range absent {
		g.Absent = append(g.Absent, fmt.Sprintf("%016x", t))
	}
	g.Filter = hex.EncodeToString(BuildFilter(terms, minRecords))
	return g
}

func TestGolden(t *testing.T) {
	want := makeGolden()
	if *update {
		text, err := json.MarshalIndent(want, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(goldenFile, append(text, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var have golden
	text, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &have); err != nil {
		t.Fatal(err)
	}
	stored := unhex(t, have.S2)
	want.S2 = have.S2 // an encoder for another processor may differ; what is stored must be readable
	if a, b := fmt.Sprint(want), fmt.Sprint(have); a != b {
		t.Errorf("the format is not what the golden file says:\n%.2000s\n%.2000s", a, b)
	}
	for name, data := range map[string][]byte{"raw": unhex(t, have.Raw), "s2": stored} {
		entries, err := Decode(data)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(entries) != len(have.Entries) {
			t.Fatalf("%s: %d entries, want %d", name, len(entries), len(have.Entries))
		}
		for i, e := range entries {
			if w := have.Entries[i]; e.Kind != w.Kind || hex.EncodeToString(e.Payload) != w.Payload {
				t.Errorf("%s: entry %d differs", name, i)
			}
			if nth, err := Nth(data, i); err != nil || nth.Kind != e.Kind || !bytes.Equal(nth.Payload, e.Payload) {
				t.Errorf("%s: Nth(%d) differs: %v", name, i, err)
			}
		}
	}
}

// TestPythonReader runs the reader of the documentation on the golden data.
func TestPythonReader(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("python3 is not installed")
		}
		t.Skip("python3 is not installed")
	}
	doc, err := os.ReadFile("../../docs/segment-format.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(doc), "```python\n")
	program, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("no reader in the documentation")
	}
	if n := codeLines(program); n > 30 {
		t.Errorf("the reader has %d lines", n)
	}
	file := filepath.Join(t.TempDir(), "reader.py")
	if err := os.WriteFile(file, []byte(program), 0o644); err != nil {
		t.Fatal(err)
	}
	g := makeGolden()
	var want strings.Builder
	for _, e := range g.Entries {
		fmt.Fprintln(&want, uint8(e.Kind), len(e.Payload)/2, e.Leaf)
	}
	for name, data := range map[string]string{"raw": g.Raw, "s2": g.S2} {
		cmd := exec.CommandContext(t.Context(), python, file)
		cmd.Stdin = bytes.NewReader(unhex(t, data))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
		if string(out) != want.String() {
			t.Errorf("%s: the reader printed\n%s\nwant\n%s", name, out, want.String())
		}
	}
}

func codeLines(program string) (n int) {
	for line := range strings.Lines(program) {
		if strings.TrimSpace(line) != "" {
			n++
		}
	}
	return n
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
