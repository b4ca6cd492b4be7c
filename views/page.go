package views

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"time"

	"github.com/maxviazov/audittrail/proto/event"
)

// walk is the kind of a token: a token of one call is not taken by another.
type walk byte

const (
	walkList walk = iota + 1
	walkTail
	walkSources
	walkDeadLetters
	walkGaps
	walkCount
	walkAggregate
	walkExport
)

// errToken says that a token is not one of ours, or belongs to another request.
var errToken = errors.New("is no token of this request; expected the token of its last response, with the same filter and principal")

const (
	tokenVersion = 2
	tokenMAC     = 16
)

// tokens makes and checks the tokens of pages and streams: opaque text that carries where to go on, authenticated with a
// key of the installation and bound to the request and its principal. They hold no secret: what is in them the caller has seen.
type tokens struct{ key [32]byte }

// seal makes the token of a payload. What the token is bound to (filter, principal) is not in it, only in the MAC.
func (t *tokens) seal(w walk, payload []byte, bound ...string) string {
	b := append([]byte{tokenVersion, byte(w)}, payload...)
	return base64.RawURLEncoding.EncodeToString(append(b, t.mac(b, bound)...))
}

// open returns the payload of a token that seal made for the same walk and the same binding. Errors: errToken.
func (t *tokens) open(w walk, token string, bound ...string) ([]byte, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(b) < 2+tokenMAC {
		return nil, errToken
	}
	body := b[:len(b)-tokenMAC]
	if !hmac.Equal(b[len(body):], t.mac(body, bound)) || body[0] != tokenVersion || body[1] != byte(w) {
		return nil, errToken
	}
	return body[2:], nil
}

func (t *tokens) mac(body []byte, bound []string) []byte {
	h := hmac.New(sha256.New, t.key[:])
	for _, part := range bound { // each with its length: "ab","c" is not "a","bc"
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		h.Write([]byte(part))
	}
	h.Write(body)
	return h.Sum(nil)[:tokenMAC]
}

// cursor is where a walk stands.
type cursor struct {
	now   time.Time // when it began: what `now` in its filter means
	sizes sizes     // of the logs when it began
	begun bool      // false: nothing was looked at, and at means nothing
	at    event.ID  // newest first: what follows is smaller; oldest first: what follows is this or greater
	rows  bool      // go on by rows of `events`
	front *front    // go on by bundles; nil: begin
}

// What follows the time in an encoded cursor.
const (
	cursorBegun = 1 << iota
	cursorRows
	cursorFront
)

func (c cursor) encode() []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(c.now.UnixNano()))
	if !c.begun {
		return c.sizes.encode(append(b, 0))
	}
	flags := byte(cursorBegun)
	if c.rows {
		flags |= cursorRows
	}
	if c.front != nil {
		flags |= cursorFront
	}
	b = append(append(b, flags), c.at[:]...)
	if c.front != nil {
		b = append(b, c.front.opened[:]...)
		b = binary.AppendUvarint(b, uint64(len(c.front.waiting)))
		for _, p := range c.front.waiting {
			b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(p.log)), uint64(p.index))
		}
	}
	return c.sizes.encode(b)
}

func decodeCursor(b []byte) (c cursor, err error) {
	if len(b) < 9 || b[8] > cursorBegun|cursorRows|cursorFront || b[8] != 0 && b[8]&cursorBegun == 0 {
		return c, errToken
	}
	c.now = time.Unix(0, int64(binary.BigEndian.Uint64(b))).UTC()
	flags := b[8]
	b = b[9:]
	if c.begun = flags != 0; c.begun {
		if copy(c.at[:], b) != len(c.at) {
			return c, errToken
		}
		b = b[len(c.at):]
	}
	c.rows = flags&cursorRows != 0
	if flags&cursorFront != 0 {
		if b, err = c.decodeFront(b); err != nil {
			return c, err
		}
	}
	c.sizes, err = decodeSizes(b)
	return c, err
}

func (c *cursor) decodeFront(b []byte) ([]byte, error) {
	c.front = new(front)
	if copy(c.front.opened[:], b) != len(c.front.opened) {
		return nil, errToken
	}
	b = b[len(c.front.opened):]
	n, read := binary.Uvarint(b)
	if read <= 0 || n > maxWaiting {
		return nil, errToken
	}
	b = b[read:]
	for range n {
		log, read := binary.Uvarint(b)
		if read <= 0 || log >= maxLogs {
			return nil, errToken
		}
		b = b[read:]
		index, read := binary.Uvarint(b)
		if read <= 0 || int64(index) < 0 {
			return nil, errToken
		}
		b = b[read:]
		c.front.waiting = append(c.front.waiting, place{int16(log), int64(index)})
	}
	return b, nil
}

// sizes holds the number of entries of each log, by log: a state of the whole store, since logs only grow.
type sizes []int64

func (s sizes) encode(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	for _, n := range s {
		b = binary.AppendUvarint(b, uint64(n))
	}
	return b
}

func decodeSizes(b []byte) (sizes, error) {
	n, read := binary.Uvarint(b)
	if read <= 0 || n > maxLogs {
		return nil, errToken
	}
	s := make(sizes, n)
	for i := range s {
		b = b[read:]
		var v uint64
		if v, read = binary.Uvarint(b); read <= 0 {
			return nil, errToken
		}
		s[i] = int64(v)
	}
	if len(b) != read {
		return nil, errToken
	}
	return s, nil
}

// of is the size of a log; one that did not exist has none.
func (s sizes) of(log int16) int64 {
	if int(log) >= len(s) {
		return 0
	}
	return s[log]
}

// maxLogs is the greatest number of logs: partitions of a topic of ours (package stream).
const maxLogs = 1000

// encodeKey and decodeKey are the cursors of lists that are ordered by one number.
func encodeKey(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

func decodeKey(b []byte) (int64, error) {
	if len(b) != 8 {
		return 0, errToken
	}
	return int64(binary.BigEndian.Uint64(b)), nil
}

// Sizes of pages, as query.proto and admin.proto say.
const (
	defaultPage  = 50
	maxPage      = 1000
	maxPageBytes = 3 << 20
)

// pageSize applies default and bounds; false when the request is refused.
func pageSize(n int32) (int, bool) {
	switch {
	case n == 0:
		return defaultPage, true
	case n < 0 || n > maxPage:
		return 0, false
	default:
		return int(n), true
	}
}
