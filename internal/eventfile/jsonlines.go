package eventfile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"google.golang.org/protobuf/encoding/protojson"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// JSONLines writes one proto3 JSON object a line, with the same bytes for the same event.
type JSONLines struct {
	out io.Writer
	buf bytes.Buffer
}

// NewJSONLines writes to w.
func NewJSONLines(w io.Writer) *JSONLines { return &JSONLines{out: w} }

// Add writes an event.
func (j *JSONLines) Add(e *audittrailv1.Event) error {
	raw, err := protojson.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode event %s: %w", e.GetId(), err)
	}
	j.buf.Reset()
	if err := json.Compact(&j.buf, raw); err != nil { // protojson puts in random spaces on purpose
		return fmt.Errorf("encode event %s: %w", e.GetId(), err)
	}
	j.buf.WriteByte('\n')
	_, err = j.buf.WriteTo(j.out)
	return err
}

// Flush does nothing: what was added was handed over.
func (j *JSONLines) Flush() error { return nil }
