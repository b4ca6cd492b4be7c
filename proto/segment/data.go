package segment

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/klauspost/compress/s2"
)

const (
	codecRaw = 0
	codecS2  = 1

	maxFramed = BundleSize * (frameHeader + MaxPayload)
)

var (
	// ErrMalformed: the data is not what was written. Wrapped with what is wrong.
	ErrMalformed = errors.New("malformed segment data")
	// ErrCodec: a newer program wrote the data.
	ErrCodec = errors.New("unknown segment codec")
)

// Encode appends framed entries (see [AppendEntry]) as the data of a row of segments or tail: compressed, unless that would not be
// smaller.
func Encode(dst, framed []byte) []byte {
	start := len(dst)
	need := 1 + s2.MaxEncodedLen(len(framed))
	if cap(dst)-start < need {
		dst = append(make([]byte, 0, start+need), dst...)
	}
	dst = append(dst, codecS2)
	block := s2.Encode(dst[start+1:cap(dst)], framed)
	if len(block) < len(framed) {
		return dst[:start+1+len(block)]
	}
	dst[start] = codecRaw
	return append(dst[:start+1], framed...)
}

// Decode returns the entries of the data of a row of segments or tail, at most BundleSize. Their payloads share one buffer, which is
// data itself where it is not compressed.
func Decode(data []byte) ([]Entry, error) {
	framed, err := Framed(nil, data)
	if err != nil {
		return nil, err
	}
	entries := make([]Entry, 0, BundleSize)
	for len(framed) > 0 {
		var e Entry
		if e, framed, err = next(framed); err != nil {
			return nil, err
		}
		if len(entries) == BundleSize {
			return nil, fmt.Errorf("%w: more than %d entries", ErrMalformed, BundleSize)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// Nth returns one entry of the data without making a list of all.
func Nth(data []byte, n int) (Entry, error) {
	framed, err := Framed(nil, data)
	if err != nil {
		return Entry{}, err
	}
	for i := 0; len(framed) > 0; i++ {
		var e Entry
		if e, framed, err = next(framed); err != nil || i == n {
			return e, err
		}
	}
	return Entry{}, fmt.Errorf("%w: no entry %d", ErrMalformed, n)
}

// Framed undoes the compression. It uses the capacity of buf when that suffices; data that is not compressed is returned as it is.
func Framed(buf, data []byte) ([]byte, error) {
	if len(data) == 0 {
		return nil, fmt.Errorf("%w: empty", ErrMalformed)
	}
	switch data[0] {
	case codecRaw:
		return data[1:], nil
	case codecS2:
		n, err := s2.DecodedLen(data[1:])
		if err != nil {
			return nil, fmt.Errorf("%w: length: %w", ErrMalformed, err)
		}
		if n > maxFramed {
			return nil, fmt.Errorf("%w: length %d", ErrMalformed, n)
		}
		framed, err := s2.Decode(buf[:cap(buf)], data[1:])
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		return framed, nil
	}
	return nil, fmt.Errorf("%w: %d", ErrCodec, data[0])
}

// next cuts the first entry off.
func next(framed []byte) (Entry, []byte, error) {
	if len(framed) < frameHeader {
		return Entry{}, nil, fmt.Errorf("%w: %d bytes left", ErrMalformed, len(framed))
	}
	end := 2 + int(binary.BigEndian.Uint16(framed))
	if end < frameHeader || end > len(framed) {
		return Entry{}, nil, fmt.Errorf("%w: entry of %d bytes in %d", ErrMalformed, end-2, len(framed)-2)
	}
	return Entry{Kind: Kind(framed[2]), Payload: framed[frameHeader:end:end]}, framed[end:], nil
}
