package cloudtrail_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/maxviazov/audittrail/emitters/cloudtrail"
)

func TestRecordsAreReadByteForByte(t *testing.T) {
	records := []string{`{ "b" : 1.0,  "a":"\u00e9\/" }`, `{"n":12345678901234567890, "n":1e400}`, "{\n\t\"x\": [ ]\n}", `42`}
	file := `{"version": {"a": [1]}, "Records": [ ` + strings.Join(records, " ,\n") + ` ], "after": [2]}` + "\n"
	for name, r := range map[string]io.Reader{
		"plain":        strings.NewReader(file),
		"byte by byte": iotest.OneByteReader(strings.NewReader(file)),
		"gzip":         bytes.NewReader(zip(t, []byte(file))),
		"two members":  bytes.NewReader(append(zip(t, []byte(file[:40])), zip(t, []byte(file[40:]))...)),
	} {
		var got []string
		for _, r := range read(t, r) {
			got = append(got, string(r))
		}
		if !slices.Equal(got, records) {
			t.Errorf("%s: %q", name, got)
		}
	}
	if got := read(t, strings.NewReader(`{"Records":[]}`)); len(got) != 0 {
		t.Errorf("empty list: %q", got)
	}
}

func TestFilesThatAreNoLogFiles(t *testing.T) {
	for _, file := range []string{`{}`, `{"digestStartTime":"x","logFiles":[]}`, `[]`, `"text"`, `{"Records":{}}`, `42`} {
		if _, err := readAll(strings.NewReader(file)); !errors.Is(err, cloudtrail.ErrNoRecords) {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// TestDamagedFile: what came before the damage is returned, the damage is an error and never the end of the file.
func TestDamagedFile(t *testing.T) {
	file := []byte(`{"Records":[{"a":1},{"a":2}],"after":1}`)
	zipped := zip(t, file)
	flipped := slices.Clone(zipped)
	flipped[len(flipped)-6] ^= 1 // in the checksum
	cases := map[string][]byte{"garbage": []byte("hello"), "half a gzip header": zipped[:5], "checksum": flipped,
		"something behind": append(slices.Clone(file), "{}"...), "bad record": []byte(`{"Records":[{"a":1},{"a":}]}`)}
	for n := range file {
		cases["cut after "+string(file[:n])] = file[:n]
	}
	for n := 10; n < len(zipped); n++ {
		cases["gzip cut after "+string(rune('0'+n))] = zipped[:n]
	}
	for name, data := range cases {
		records, err := readAll(bytes.NewReader(data))
		if err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%s: %d records, error %v", name, len(records), err)
		}
	}
	records, err := readAll(bytes.NewReader(cases["bad record"]))
	if len(records) != 1 || !strings.Contains(err.Error(), "after record 1") {
		t.Errorf("bad record: %d records, %v", len(records), err)
	}
}

func TestHugeRecordIsAnErrorNotMemory(t *testing.T) {
	endless := io.MultiReader(strings.NewReader(`{"Records":[{"a":1},{"a":"`), zeros{})
	reader, err := cloudtrail.NewReader(endless)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reader.Next(); err != nil {
		t.Fatal(err)
	}
	if _, err := reader.Next(); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("got %v", err)
	}
	if reader.Records() != 1 {
		t.Errorf("%d records", reader.Records())
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '0'
	}
	return len(p), nil
}
