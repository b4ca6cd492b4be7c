package cloudtrail

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// fields is a JSON object whose values are not looked at yet: a value of an unexpected type must not make the whole record fail.
type fields map[string]json.RawMessage

// object reads a JSON object.
func object(raw []byte) (fields, bool) {
	if trimmed := bytes.TrimLeft(raw, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '{' {
		return nil, false
	}
	var f fields
	return f, json.Unmarshal(raw, &f) == nil
}

func isNull(raw []byte) bool { return string(raw) == "null" }

// object returns an object within an object; empty where it is missing, null or something else.
func (m *mapper) object(f fields, name, field string) fields {
	raw, ok := f[name]
	if !ok || isNull(raw) {
		return nil
	}
	o, ok := object(raw)
	if !ok {
		m.note(field, LeftOut)
	}
	return o
}

// text returns a string within an object; empty where it is missing, null or something else.
func (m *mapper) text(f fields, name, field string) string {
	raw, ok := f[name]
	if !ok || isNull(raw) {
		return ""
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		m.note(field, LeftOut)
	}
	return s
}

// flag returns a boolean within an object, also one written as a string; nil where there is none.
func (m *mapper) flag(f fields, name, field string) *bool {
	raw, ok := f[name]
	if !ok || isNull(raw) {
		return nil
	}
	var b bool
	if json.Unmarshal(bytes.Trim(raw, `"`), &b) != nil {
		m.note(field, LeftOut)
		return nil
	}
	return &b
}

// shorten cuts text for people at the end of a character.
func (m *mapper) shorten(field, s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	m.note(field, Shortened)
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return strings.Clone(s[:limit])
}

// identifier leaves out what is too long: cut off, it would be another's.
func (m *mapper) identifier(field, s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	m.note(field, LeftOut)
	return ""
}
