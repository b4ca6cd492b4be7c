package views

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// ParseFilter reads an AIP-160 filter of at most MaxFilter bytes; its errors are *FilterError. The empty filter is nil
// and accepts everything. `now` in it is the time of the call.
func ParseFilter(text string) (*Filter, error) { return parseFilter(text, time.Now()) }

func parseFilter(text string, now time.Time) (*Filter, error) {
	p := filterParser{text: text, now: now}
	if len(text) > MaxFilter {
		at := MaxFilter
		for at > MaxFilter-utf8.UTFMax && !utf8.RuneStart(text[at]) {
			at--
		}
		return nil, p.errorAt(at, "the filter has %d bytes; expected at most %d", len(text), MaxFilter)
	}
	if i := invalidUTF8(text); i >= 0 {
		return nil, p.errorAt(i, "invalid UTF-8")
	}
	p.skip()
	if p.end() {
		return nil, nil
	}
	root, err := p.expression(0, p.restriction)
	if err == nil && !p.end() {
		err = p.errorHere("unexpected %s; expected the end of the filter, AND, OR or another restriction", p.next())
	}
	if err != nil {
		return nil, err
	}
	return &Filter{text: text, root: root}, nil
}

// filterParser reads a filter by recursive descent, as the grammar of AIP-160 is written:
//
//	expression = sequence {AND sequence}
//	sequence   = factor {factor}
//	factor     = term {OR term}
//	term       = [NOT | -] ( "(" expression ")" | restriction )
//
// What stands between brackets after a comparator, as in `outcome = (failure OR denied)`, is an expression of values.
type filterParser struct {
	text  string
	pos   int // of the next byte; between tokens, never white space
	now   time.Time
	tests int
	words int
}

// leafParser reads what an expression is made of: restrictions or values.
type leafParser func(depth int) (*node, error)

const expectedRestriction = `a restriction such as actor.id = "alice", or words to search for`

func (p *filterParser) expression(depth int, leaf leafParser) (*node, error) {
	if depth > maxFilterDepth {
		return nil, p.errorAt(p.pos-1, "parentheses nest too deep; expected at most %d levels", maxFilterDepth)
	}
	var parts []*node
	for {
		part, err := p.factor(depth, leaf)
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
		if p.keyword("AND") {
			continue
		}
		if p.end() || p.text[p.pos] == ')' {
			return join(nodeAnd, parts...), nil
		}
	}
}

func (p *filterParser) factor(depth int, leaf leafParser) (*node, error) {
	var terms []*node
	for {
		term, err := p.term(depth, leaf)
		if err != nil {
			return nil, err
		}
		terms = append(terms, term)
		if !p.keyword("OR") {
			return join(nodeOr, terms...), nil
		}
	}
}

func (p *filterParser) term(depth int, leaf leafParser) (*node, error) {
	negated := false
	for {
		if p.keyword("NOT") {
			negated = !negated
		} else if rest := p.text[p.pos:]; len(rest) > 1 && rest[0] == '-' && !unicode.IsSpace(rune(rest[1])) {
			p.pos++
			negated = !negated
		} else {
			break
		}
	}
	n, err := p.simple(depth, leaf)
	if err == nil && negated {
		n = join(nodeNot, n)
	}
	return n, err
}

func (p *filterParser) simple(depth int, leaf leafParser) (*node, error) {
	if !p.take("(") {
		return leaf(depth)
	}
	n, err := p.expression(depth+1, leaf)
	if err != nil {
		return nil, err
	}
	if !p.take(")") {
		return nil, p.errorHere("unexpected %s; expected )", p.next())
	}
	return n, nil
}

// comparators, the longer ones first.
var comparators = []string{"<=", ">=", "!=", "=", "<", ">", ":"}

// restriction reads `field comparator value`, or words.
func (p *filterParser) restriction(depth int) (*node, error) {
	start := p.pos
	word, quoted, err := p.member()
	if err != nil {
		return nil, err
	}
	comparator := ""
	for _, c := range comparators {
		if p.take(c) {
			comparator = c
			break
		}
	}
	if comparator == "" {
		return p.freeText(start, word, quoted)
	}
	if quoted {
		return nil, p.errorAt(start, "expected the name of a field before %s, not text in quotes", comparator)
	}
	f, key := findField(word.text)
	if f == nil {
		return nil, p.errorAt(start, "unknown field %q; %s", clip(word.text, 64), suggest(word.text))
	}
	negated := comparator == "!="
	if negated {
		comparator = "="
	}
	if !slices.Contains(f.operators(), comparator) {
		return nil, p.errorAt(start, "%s takes no %s; expected one of %s", f.name, comparator, strings.Join(f.operators(), ", "))
	}
	value := func(int) (*node, error) { return p.value(f, key, comparator) }
	var n *node
	if !p.end() && p.text[p.pos] == '(' {
		n, err = p.simple(depth, value)
	} else {
		n, err = value(depth)
	}
	if err == nil && negated {
		n = join(nodeNot, n)
	}
	return n, err
}

// value reads the value of a restriction and makes the restriction.
func (p *filterParser) value(f *field, key, comparator string) (*node, error) {
	start := p.pos
	v, err := p.argument()
	if err != nil {
		return nil, err
	}
	if p.tests++; p.tests > maxTests {
		return nil, p.errorAt(start, "too many restrictions; expected at most %d", maxTests)
	}
	t, problem := f.test(v, comparator, p.now)
	if problem != "" {
		return nil, p.errorAt(start, "%s", problem)
	}
	t.key = key
	return &node{test: t}, nil
}

// freeText makes the restriction that a word or text in quotes alone is: one of the fields that people read holds it.
func (p *filterParser) freeText(start int, v argument, quoted bool) (*node, error) {
	if !quoted {
		switch v.text {
		case "AND", "OR":
			return nil, p.errorAt(start, "unexpected %s; expected %s", v.text, expectedRestriction)
		case "and", "or", "not":
			return nil, p.errorAt(start, "expected %s in capitals, or %q in quotes to search for the word", strings.ToUpper(v.text), v.text)
		}
		if !p.end() && p.text[p.pos] == '(' && p.text[p.pos-1] != ' ' {
			return nil, p.errorAt(start, "unknown function %q; expected %s", clip(v.text, 64), expectedRestriction)
		}
		v.text = strings.Trim(v.text, "*") // what holds a word holds what begins with it
	}
	if v.text == "" {
		return nil, p.errorAt(start, "nothing to search for; expected %s", expectedRestriction)
	}
	if p.words++; p.words > maxWords {
		return nil, p.errorAt(start, "too many words to search for; expected at most %d", maxWords)
	}
	text := foldText(v.text)
	var either []*node
	for i := range fields {
		if f := &fields[i]; f.flag&spoken != 0 {
			either = append(either, &node{test: test{field: f, compare: compareWords, text: text}})
		}
	}
	return join(nodeOr, either...), nil
}

// errorAt makes an error at a byte offset of the text.
func (p *filterParser) errorAt(offset int, format string, args ...any) error {
	end := max(0, min(offset, len(p.text)))
	return &FilterError{Position: utf8.RuneCountInString(p.text[:end]) + 1, Message: fmt.Sprintf(format, args...)}
}

func (p *filterParser) errorHere(format string, args ...any) error {
	return p.errorAt(p.pos, format, args...)
}
