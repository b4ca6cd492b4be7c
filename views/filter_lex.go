package views

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// argument is a value as it was written.
type argument struct {
	text     string // without wildcards, escapes undone
	raw      string // bare, or between the quotes, with wildcards
	open     bool   // begins with a wildcard
	anything bool   // ends with a wildcard
}

func (p *filterParser) end() bool { return p.pos == len(p.text) }

func (p *filterParser) skip() {
	for !p.end() {
		r, n := utf8.DecodeRuneInString(p.text[p.pos:])
		if !unicode.IsSpace(r) {
			return
		}
		p.pos += n
	}
}

// take reads a token that is exactly this.
func (p *filterParser) take(token string) bool {
	if !strings.HasPrefix(p.text[p.pos:], token) {
		return false
	}
	p.pos += len(token)
	p.skip()
	return true
}

// keyword reads AND, OR or NOT: a whole word that is not the name of a field.
func (p *filterParser) keyword(word string) bool {
	rest, ok := strings.CutPrefix(p.text[p.pos:], word)
	if !ok || rest != "" && rest[0] != '(' && rest[0] != '"' && rest[0] != '\'' && !isSpaceAt(rest) {
		return false
	}
	if trimmed := strings.TrimLeftFunc(rest, unicode.IsSpace); trimmed != "" && strings.ContainsRune("=<>!:", rune(trimmed[0])) {
		return false
	}
	p.pos += len(word)
	p.skip()
	return true
}

func isSpaceAt(s string) bool {
	r, _ := utf8.DecodeRuneInString(s)
	return unicode.IsSpace(r)
}

// next names the next token for a message.
func (p *filterParser) next() string {
	if p.end() {
		return "end of the filter"
	}
	r, _ := utf8.DecodeRuneInString(p.text[p.pos:])
	return strconv.QuoteRune(r)
}

// member reads a bare word, a name of dotted parts of which the last may be in quotes, or text in quotes.
func (p *filterParser) member() (argument, bool, error) {
	if p.end() {
		return argument{}, false, p.errorAt(len(strings.TrimRightFunc(p.text, unicode.IsSpace)), "the filter ends too early; expected %s", expectedRestriction)
	}
	if c := p.text[p.pos]; c == '"' || c == '\'' {
		v, err := p.quoted()
		p.skip()
		return v, true, err
	}
	start := p.pos
	word := p.bare("()\"'=<>!:,")
	if word == "" {
		return argument{}, false, p.errorHere("unexpected %s; expected %s", p.next(), expectedRestriction)
	}
	if c := p.peek(); strings.HasSuffix(word, ".") && (c == '"' || c == '\'') {
		v, err := p.quoted()
		if err != nil {
			return argument{}, false, err
		}
		word += v.raw
	}
	if i := strings.IndexFunc(word, func(r rune) bool { return r < ' ' || r == 0x7f }); i >= 0 {
		return argument{}, false, p.errorAt(start+i, "unexpected control character; expected it in quotes")
	}
	p.skip()
	return argument{text: word}, false, nil
}

func (p *filterParser) peek() byte {
	if p.end() {
		return 0
	}
	return p.text[p.pos]
}

// argument reads the value after a comparator: text in quotes, or bare up to white space or a bracket. Colons need no quotes
// there: times, addresses and names of resources have them.
func (p *filterParser) argument() (argument, error) {
	if p.end() {
		return argument{}, p.errorAt(len(strings.TrimRightFunc(p.text, unicode.IsSpace)), "the filter ends too early; expected a value")
	}
	defer p.skip()
	if c := p.text[p.pos]; c == '"' || c == '\'' {
		return p.quoted()
	}
	start := p.pos
	word := p.bare("()\"'=<>!")
	switch {
	case word == "":
		return argument{}, p.errorHere("unexpected %s; expected a value", p.next())
	case !p.end() && strings.IndexByte("\"'=<>!", p.text[p.pos]) >= 0:
		return argument{}, p.errorHere("unexpected %s; expected the value in quotes", p.next())
	}
	if i := strings.IndexFunc(word, func(r rune) bool { return r < ' ' || r == 0x7f }); i >= 0 {
		return argument{}, p.errorAt(start+i, "unexpected control character; expected the value in quotes")
	}
	return wildcards(word, strings.HasPrefix(word, "*"), strings.HasSuffix(word, "*")), nil
}

// bare reads up to white space or one of the characters.
func (p *filterParser) bare(until string) string {
	rest := p.text[p.pos:]
	n := strings.IndexFunc(rest, func(r rune) bool { return unicode.IsSpace(r) || r < utf8.RuneSelf && strings.ContainsRune(until, r) })
	if n < 0 {
		n = len(rest)
	}
	p.pos += n
	return rest[:n]
}

// quoted reads text in quotes, double or single. An escaped star is no wildcard.
func (p *filterParser) quoted() (argument, error) {
	start := p.pos
	quote := p.text[start]
	var b strings.Builder
	open, last := false, false
	for p.pos++; !p.end(); {
		c := p.text[p.pos]
		switch c {
		case quote:
			p.pos++
			return wildcards(b.String(), open, last), nil
		case '\\':
			r, n, ok := unescape(p.text[p.pos:])
			if !ok {
				return argument{}, p.errorHere(`unknown escape; expected \\, \", \', \*, \n, \r, \t or \u and 4 hexadecimal digits`)
			}
			b.WriteRune(r)
			p.pos += n
			last = false
			continue
		}
		last = c == '*'
		open = open || last && b.Len() == 0
		b.WriteByte(c)
		p.pos++
	}
	return argument{}, p.errorAt(start, "unterminated string; expected %c at its end", quote)
}

func unescape(s string) (r rune, n int, ok bool) {
	if len(s) < 2 {
		return 0, 0, false
	}
	switch s[1] {
	case '\\', '"', '\'', '*':
		return rune(s[1]), 2, true
	case 'n':
		return '\n', 2, true
	case 'r':
		return '\r', 2, true
	case 't':
		return '\t', 2, true
	case 'u':
		if len(s) < 6 {
			return 0, 0, false
		}
		code, err := strconv.ParseUint(s[2:6], 16, 16)
		return rune(code), 6, err == nil && utf8.ValidRune(rune(code))
	}
	return 0, 0, false
}

// wildcards takes the stars that are wildcards off a value.
func wildcards(raw string, open, anything bool) argument {
	v := argument{text: raw, raw: raw, open: open, anything: anything}
	if open {
		v.text = v.text[1:]
	}
	if anything && v.text != "" {
		v.text = v.text[:len(v.text)-1]
	}
	return v
}

// invalidUTF8 is the offset of the first byte that is none; -1 when there is none.
func invalidUTF8(s string) int {
	for i, r := range s {
		if r == utf8.RuneError && !strings.HasPrefix(s[i:], "\ufffd") {
			return i
		}
	}
	return -1
}

// clip shortens what a caller sent before it goes into a message.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}
