package views

import (
	"encoding/binary"
	"errors"
	"unsafe"
)

var errMalformed = errors.New("no encoded message")

// scan reads the encoding of a message once and keeps what the plan wants. It sees what a decoder sees: of several scalars the last
// counts, messages that stand twice are merged, elements add up.
func (p *plan) scan(b []byte, into *scratch) error {
	for len(b) > 0 {
		tag := uint64(b[0])
		n := 1
		if tag >= 0x80 {
			if tag, n = binary.Uvarint(b); n <= 0 {
				return errMalformed
			}
		}
		b = b[n:]
		number := tag >> 3
		if number == 0 {
			return errMalformed
		}
		switch tag & 7 {
		case 0:
			value, n := varint(b)
			if n <= 0 {
				return errMalformed
			}
			b = b[n:]
			if number <= maxFieldNumber && p[number].use == useNumber {
				into.numbers[p[number].slot] = value
			}
		case 2:
			size, n := varint(b)
			if n <= 0 || size > uint64(len(b)-n) {
				return errMalformed
			}
			value := b[n : n+int(size) : n+int(size)]
			b = b[n+int(size):]
			if number > maxFieldNumber {
				continue
			}
			switch f := &p[number]; f.use {
			case useBytes:
				into.bytes[f.slot] = value
			case useList:
				into.lists[f.slot] = append(into.lists[f.slot], value)
			case useMessage:
				if f.slot >= 0 {
					into.bytes[f.slot] = present
				}
				if err := f.sub.scan(value, into); err != nil {
					return err
				}
			}
		case 1:
			if len(b) < 8 {
				return errMalformed
			}
			b = b[8:]
		case 5:
			if len(b) < 4 {
				return errMalformed
			}
			b = b[4:]
		default: // groups: no message of ours has them
			return errMalformed
		}
	}
	return nil
}

// present marks a message that is there.
var present = []byte{1}

func varint(b []byte) (uint64, int) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), 1
	}
	return binary.Uvarint(b)
}

// lastOf returns the last text with this number in an encoded message, which has been found to be well formed or is taken for empty.
func lastOf(b []byte, want uint64) (last []byte) {
	for len(b) > 0 {
		tag, n := varint(b)
		if n <= 0 {
			return nil
		}
		b = b[n:]
		switch tag & 7 {
		case 0:
			if _, n = varint(b); n <= 0 {
				return nil
			}
		case 2:
			size, m := varint(b)
			if m <= 0 || size > uint64(len(b)-m) {
				return nil
			}
			n = m + int(size)
			if tag>>3 == want {
				last = b[m:n]
			}
		case 1:
			n = 8
		case 5:
			n = 4
		default:
			return nil
		}
		if n > len(b) {
			return nil
		}
		b = b[n:]
	}
	return last
}

// view is the text of bytes that do not change while it is used.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
