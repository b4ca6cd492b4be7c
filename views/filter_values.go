package views

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/maxviazov/audittrail/proto/event"
)

var orders = map[string]compare{
	"=": compareEqual, ":": compareEqual, "<": compareLess, "<=": compareLessEqual, ">": compareGreater, ">=": compareGreaterEqual,
}

// test reads the value of a restriction. The problem, if there is one, says what is wrong with it and what was expected.
func (f *field) test(v argument, comparator string, now time.Time) (t test, problem string) {
	t = test{field: f, compare: orders[comparator]}
	if comparator == ":" && v.open && v.text == "" {
		t.compare = comparePresent
		return t, ""
	}
	switch f.kind {
	case kindText, kindKeys, kindValue:
		t.text = v.raw
		if comparator == ":" {
			t.text = v.text
			t.compare = wildcardCompare(v)
		}
	case kindEnum:
		name := strings.TrimPrefix(strings.ToLower(v.raw), strings.ToLower(f.prefix))
		number, ok := f.values[name]
		if !ok {
			return t, fmt.Sprintf("%q is no %s; expected one of %s", clip(v.raw, 64), f.name, names(f.values))
		}
		t.text, t.number = name, int64(number)
	case kindNumber, kindLog, kindIndex:
		n, err := strconv.ParseInt(v.raw, 10, 64)
		if err != nil || n < 0 {
			return t, fmt.Sprintf("%q is no number; expected a whole number from 0 on for %s", clip(v.raw, 64), f.name)
		}
		t.number = n
	case kindBool:
		switch v.raw {
		case "true":
			t.number = 1
		case "false":
		default:
			return t, fmt.Sprintf("expected true or false for %s", f.name)
		}
	case kindDuration:
		d, ok := parseDuration(v.raw)
		if !ok || comparator == ":" {
			return t, fmt.Sprintf("expected =, !=, <, <=, > or >= and a duration such as 1h30m, 250ms or 7d for %s", f.name)
		}
		t.number = int64(d)
	case kindTime:
		at, ok := parseTime(v.raw, now)
		if !ok || comparator == ":" {
			return t, fmt.Sprintf("expected =, !=, <, <=, > or >= and a time for %s: RFC 3339 such as \"2026-01-31T12:00:00Z\", a date, or now-24h", f.name)
		}
		t.time = at
	case kindAddress:
		if v.raw == "" {
			break // it has none
		}
		network, ok := parseNetwork(v.raw)
		if !ok {
			return t, fmt.Sprintf("expected an IP address, or a network such as 10.0.0.0/8 or 2001:db8::/32, for %s", f.name)
		}
		t.network = network
	case kindID:
		id, err := event.ParseID(v.raw)
		if err != nil {
			return t, fmt.Sprintf("%v; expected one of 36 characters", err)
		}
		t.text, t.time = string(id[:]), id.Time()
	}
	return t, ""
}

func wildcardCompare(v argument) compare {
	switch {
	case v.open && v.anything:
		return comparePart
	case v.open:
		return compareSuffix
	case v.anything:
		return comparePrefix
	default:
		return compareEqual
	}
}

// parseTime reads RFC 3339, a date (its beginning in UTC), `now`, or `now` and a duration.
func parseTime(s string, now time.Time) (time.Time, bool) {
	if rest, ok := strings.CutPrefix(s, "now"); ok {
		if rest == "" {
			return now, true
		}
		d, ok := parseDuration(rest[1:])
		switch {
		case ok && rest[0] == '-':
			return now.Add(-d), true
		case ok && rest[0] == '+':
			return now.Add(d), true
		}
		return now, false
	}
	if at, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return at, true
	}
	at, err := time.Parse(time.DateOnly, s)
	return at, err == nil
}

// parseDuration reads what time.ParseDuration does, and days (24 h) and weeks before it; nothing negative.
func parseDuration(s string) (time.Duration, bool) {
	var sum time.Duration
	for _, unit := range []struct {
		name byte
		of   time.Duration
	}{{'w', 7 * 24 * time.Hour}, {'d', 24 * time.Hour}} {
		digits := strings.TrimLeft(s, "0123456789")
		if digits == "" || len(digits) == len(s) || digits[0] != unit.name {
			continue
		}
		n, err := strconv.ParseInt(s[:len(s)-len(digits)], 10, 64)
		if err != nil || n > int64((math.MaxInt64-sum)/unit.of) {
			return 0, false
		}
		sum += time.Duration(n) * unit.of
		if s = digits[1:]; s == "" {
			return sum, true
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || s[0] == '-' || s[0] == '+' || d > math.MaxInt64-sum {
		return 0, false
	}
	return sum + d, true
}

// parseNetwork reads an address or network; IPv4 in IPv6 is IPv4.
func parseNetwork(s string) (netip.Prefix, bool) {
	if addr, err := netip.ParseAddr(s); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), true
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, false
	}
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			return p, false // neither IPv4 nor IPv6
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), true
}

// suggest says which field may have been meant.
func suggest(name string) string {
	if len(name) > 64 {
		return "see docs/filters.md for their names"
	}
	var below []string
	best, distance := "", 3
	for i := range fields {
		f := fields[i].name
		if strings.HasPrefix(f, name+".") && f != fieldAttribute.name {
			below = append(below, f)
		}
		if d := editDistance(name, f); d < distance {
			best, distance = f, d
		}
		if _, last, ok := strings.Cut(f, "."); ok && last == name && distance > 0 {
			best, distance = f, 0
		}
	}
	switch {
	case len(below) > 0:
		slices.Sort(below)
		return "expected one of " + strings.Join(below, ", ")
	case best != "":
		return fmt.Sprintf("expected a field; did you mean %s?", best)
	default:
		return "expected a field such as source, actor.id, action, outcome, occurred_at, resources.id, context.ip or attributes.KEY; docs/filters.md has them all"
	}
}

// editDistance is the number of bytes to insert, delete or replace.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, diagonal+1, row[j]+1)
		}
	}
	return row[len(b)]
}
