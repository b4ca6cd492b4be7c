package cloudtrail_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/maxviazov/audittrail/emitters/cloudtrail"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// DirVar names a directory with the public sample of Invictus Incident Response: 37 log files, 2,122 records.
const DirVar = "AUDITTRAIL_CLOUDTRAIL_DIR"

// sample returns the log files of the sample, and skips where there are none.
func sample(tb testing.TB) []string {
	tb.Helper()
	dir, set := os.LookupEnv(DirVar)
	if !set {
		dir = filepath.Join("..", "..", "..", "shared", "data", "cloudtrail")
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		tb.Fatal(err)
	}
	if len(files) == 0 {
		if set {
			tb.Fatalf("%s=%s: no log files there", DirVar, dir)
		}
		tb.Skipf("the sample is not in %s; set %s", dir, DirVar)
	}
	return files
}

// read returns all records of a log file.
func read(tb testing.TB, r io.Reader) [][]byte {
	tb.Helper()
	records, err := readAll(r)
	if err != nil {
		tb.Fatal(err)
	}
	return records
}

func readAll(r io.Reader) (records [][]byte, err error) {
	reader, err := cloudtrail.NewReader(r)
	if err != nil {
		return nil, err
	}
	for {
		record, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return records, nil
		}
		if err != nil {
			return records, err
		}
		records = append(records, record)
	}
}

func zip(tb testing.TB, data []byte) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func mapped(tb testing.TB, record string) (*audittrailv1.Event, []cloudtrail.Note) {
	tb.Helper()
	e, notes, err := cloudtrail.Map([]byte(record))
	if err != nil {
		tb.Fatalf("%v: %s", err, record)
	}
	return e, notes
}

// valid checks an event as the emitter does at the time it occurred.
func valid(tb testing.TB, e *audittrailv1.Event) {
	tb.Helper()
	bounds := event.Bounds{Now: e.OccurredAt.AsTime(), Complete: true}
	if found := event.Validate(e, e.SizeVT(), bounds); len(found) > 0 {
		tb.Errorf("%v in %v", found, e)
	}
}
