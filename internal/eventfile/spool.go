package eventfile

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// Spool writes events as length and protobuf encoding, to be read again by ReadSpool.
type Spool struct {
	out io.Writer
	buf []byte
}

// NewSpool writes to w.
func NewSpool(w io.Writer) *Spool { return &Spool{out: w} }

// Add writes an event.
func (s *Spool) Add(e *audittrailv1.Event) error {
	size := e.SizeVT()
	s.buf = binary.AppendUvarint(s.buf[:0], uint64(size))
	head := len(s.buf)
	s.buf = append(s.buf, make([]byte, size)...)
	if _, err := e.MarshalToSizedBufferVT(s.buf[head:]); err != nil {
		return fmt.Errorf("encode event %s: %w", e.GetId(), err)
	}
	_, err := s.out.Write(s.buf)
	return err
}

// Flush does nothing: what was added was handed over.
func (s *Spool) Flush() error { return nil }

// maxSpooled is the greatest event that a spool may hold: 60 KiB and its stamps, generously.
const maxSpooled = 1 << 20

// ReadSpool calls add for each event of a spool.
func ReadSpool(r io.Reader, add func(*audittrailv1.Event) error) error {
	in := bufio.NewReaderSize(r, 1<<20)
	buf := make([]byte, 0, 64<<10)
	for n := int64(0); ; n++ {
		size, err := binary.ReadUvarint(in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil && size > maxSpooled {
			err = fmt.Errorf("length of %d bytes", size)
		}
		if err == nil {
			if uint64(cap(buf)) < size {
				buf = make([]byte, size)
			}
			buf = buf[:size]
			_, err = io.ReadFull(in, buf)
		}
		e := new(audittrailv1.Event)
		if err == nil {
			err = e.UnmarshalVT(buf)
		}
		if err != nil {
			return fmt.Errorf("event %d of the spool: %w", n, err)
		}
		if err := add(e); err != nil {
			return err
		}
	}
}
