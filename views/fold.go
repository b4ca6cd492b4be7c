package views

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Free text makes no difference between capital and small letters: each character is folded for itself, and none outside ASCII into
// ASCII, so that a word of ASCII is looked for byte by byte.

func foldRune(r rune) rune {
	if r < utf8.RuneSelf {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}
	if lower := unicode.ToLower(r); lower >= utf8.RuneSelf {
		return lower
	}
	return r
}

func foldText(s string) string { return strings.Map(foldRune, s) }

// containsFolded says whether the text holds the part, which is folded and not empty. It allocates nothing.
func containsFolded(s, part string) bool {
	first := part[0]
	if first >= utf8.RuneSelf {
		for i := range s {
			if s[i] >= utf8.RuneSelf && prefixFolded(s[i:], part) {
				return true
			}
		}
		return false
	}
	other := first
	if 'a' <= first && first <= 'z' {
		other -= 'a' - 'A'
	}
	for i := 0; i+1 <= len(s); i++ {
		if c := s[i]; (c == first || c == other) && prefixFolded(s[i:], part) {
			return true
		}
	}
	return false
}

func prefixFolded(s, part string) bool {
	for len(part) > 0 {
		if len(s) == 0 {
			return false
		}
		if p := part[0]; p < utf8.RuneSelf {
			c := s[0]
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			if c != p {
				return false
			}
			s, part = s[1:], part[1:]
			continue
		}
		want, n := utf8.DecodeRuneInString(part)
		r, m := utf8.DecodeRuneInString(s)
		if foldRune(r) != want {
			return false
		}
		s, part = s[m:], part[n:]
	}
	return true
}
