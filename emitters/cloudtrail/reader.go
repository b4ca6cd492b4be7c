package cloudtrail

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// ErrNoRecords is the error of a file that is a JSON object without a list "Records": a digest file, for example.
var ErrNoRecords = errors.New(`not a CloudTrail log file: no list "Records"`)

// MaxRecordBytes bounds what the reader holds in memory for one record. CloudTrail's own limit is 256 KiB.
const MaxRecordBytes = 16 << 20

// Reader reads the records of one log file, {"Records":[…]}, one at a time.
type Reader struct {
	in      *bounded
	json    *json.Decoder
	inside  bool // the list is open
	records int  // returned so far
	err     error
}

// NewReader returns a reader of a log file, compressed by gzip or not; it looks at the first bytes, not at a name.
func NewReader(r io.Reader) (*Reader, error) {
	b := bufio.NewReader(r)
	magic, err := b.Peek(2)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read log file: %w", err)
	}
	in := &bounded{r: b}
	if string(magic) == "\x1f\x8b" {
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, fmt.Errorf("read log file: %w", err)
		}
		in.r = z
	}
	return &Reader{in: in, json: json.NewDecoder(in)}, nil
}

// Next returns the next record, byte for byte as in the file; it is the caller's. io.EOF says that the file was read to its end, in
// order. After any error the file cannot be read further.
func (r *Reader) Next() ([]byte, error) {
	if r.err == nil {
		var record []byte
		if record, r.err = r.next(); r.err == nil {
			r.records++
			return record, nil
		}
		if errors.Is(r.err, io.EOF) && !r.inside {
			r.err = io.EOF
		} else if !errors.Is(r.err, ErrNoRecords) {
			r.err = fmt.Errorf("read log file after record %d: %w", r.records, r.err)
		}
	}
	return nil, r.err
}

// Records is the number of records that Next has returned.
func (r *Reader) Records() int { return r.records }

func (r *Reader) next() ([]byte, error) {
	r.in.left = MaxRecordBytes
	if !r.inside {
		if err := r.open(); err != nil {
			return nil, unexpected(err)
		}
		r.inside = true
	}
	if r.json.More() {
		var record json.RawMessage
		if err := r.json.Decode(&record); err != nil {
			return nil, unexpected(err)
		}
		return record, nil
	}
	if err := r.close(); err != nil {
		return nil, unexpected(err)
	}
	r.inside = false
	return nil, io.EOF
}

// open reads up to the first record.
func (r *Reader) open() error {
	if err := r.delimiter('{'); err != nil {
		return err
	}
	for r.json.More() {
		key, err := r.json.Token()
		if err != nil {
			return err
		}
		if key == "Records" {
			return r.delimiter('[')
		}
		var other json.RawMessage
		if err := r.json.Decode(&other); err != nil {
			return err
		}
	}
	if _, err := r.json.Token(); err != nil {
		return err
	}
	return ErrNoRecords
}

// close reads from the last record to the end of the file. What follows says whether the file is whole: gzip has its checksum there.
func (r *Reader) close() error {
	if err := r.delimiter(']'); err != nil {
		return err
	}
	for r.json.More() {
		var other json.RawMessage
		if _, err := r.json.Token(); err != nil {
			return err
		}
		if err := r.json.Decode(&other); err != nil {
			return err
		}
	}
	if err := r.delimiter('}'); err != nil {
		return err
	}
	switch _, err := r.json.Token(); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	}
	return errors.New("something follows the list of records")
}

func (r *Reader) delimiter(want json.Delim) error {
	token, err := r.json.Token()
	if err != nil {
		return err
	}
	if token != want {
		return ErrNoRecords
	}
	return nil
}

// unexpected makes the end of the file an error where it is one.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the file is cut off: %w", io.ErrUnexpectedEOF)
	}
	return err
}

// bounded fails when one record asks for more than is left.
type bounded struct {
	r    io.Reader
	left int
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("a record takes more than %d bytes", MaxRecordBytes)
	}
	n, err := b.r.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}
