package stream

import (
	"bytes"
	"errors"
	"fmt"
)

var (
	// ErrVersion says that a value carries our magic with a version this program does not know. It was written by a newer program:
	// stop and wait to be upgraded, never treat it as poison.
	ErrVersion = errors.New("unknown envelope version")
	// ErrMalformed says that a value is not what its topic holds. It will never be: it is poison.
	ErrMalformed = errors.New("malformed value")
)

// kind is the last letter of the magic.
type kind byte

const (
	kindBatch      kind = 'E'
	kindRecords    kind = 'R'
	kindState      kind = 'S'
	kindDeadLetter kind = 'D'

	envelopeVersion = 1
	headerLen       = 5
)

// magicPrefix begins every envelope. Field number 0 is illegal in protobuf, so no encoded message starts with 0x00.
var magicPrefix = []byte("\x00AT")

// appendHeader appends magic and version.
func appendHeader(dst []byte, k kind) []byte {
	return append(append(dst, magicPrefix...), byte(k), envelopeVersion)
}

// open returns the payload behind the header of kind k.
func open(k kind, value []byte) ([]byte, error) {
	if !hasMagic(k, value) {
		return nil, fmt.Errorf("no magic %q: %w", string(magicPrefix)+string(rune(k)), ErrMalformed)
	}
	if v := value[headerLen-1]; v != envelopeVersion {
		return nil, fmt.Errorf("version %d of %q, this program knows %d: %w", v, string(rune(k)), envelopeVersion, ErrVersion)
	}
	return value[headerLen:], nil
}

func hasMagic(k kind, value []byte) bool {
	return len(value) >= headerLen && bytes.HasPrefix(value, magicPrefix) && value[headerLen-2] == byte(k)
}
