package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// Each value parses and prints the text form of one field, the same in file, environment and flags.

type textValue struct{ p *string }

func (v textValue) Set(s string) error { *v.p = s; return nil }
func (v textValue) String() string     { return *v.p }
func (v textValue) Type() string       { return "text" }

type listValue struct{ p *[]string }

func (v listValue) Set(s string) error {
	*v.p = nil
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			*v.p = append(*v.p, part)
		}
	}
	return nil
}
func (v listValue) String() string { return strings.Join(*v.p, ",") }
func (v listValue) Type() string   { return "list" }

type boolValue struct{ p *bool }

func (v boolValue) Set(s string) error {
	b, err := strconv.ParseBool(s)
	if err != nil {
		return fmt.Errorf("%q is neither true nor false", s)
	}
	*v.p = b
	return nil
}
func (v boolValue) String() string { return strconv.FormatBool(*v.p) }
func (v boolValue) Type() string   { return "bool" }

type intValue struct {
	p         *int
	low, high int
}

func (v intValue) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil {
		return fmt.Errorf("%q is no whole number", s)
	}
	if n < v.low || n > v.high {
		return fmt.Errorf("%d is not %d to %d", n, v.low, v.high)
	}
	*v.p = n
	return nil
}
func (v intValue) String() string { return strconv.Itoa(*v.p) }
func (v intValue) Type() string   { return "number" }

type durationValue struct {
	p         *time.Duration
	low, high time.Duration
}

func (v durationValue) Set(s string) error {
	d, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("%q is no duration such as 500ms, 15m or 2h", s)
	}
	if d < v.low || d > v.high {
		return fmt.Errorf("%s is not %s to %s", d, v.low, v.high)
	}
	*v.p = d
	return nil
}
func (v durationValue) String() string { return v.p.String() }
func (v durationValue) Type() string   { return "duration" }

// sizeValue is a number of bytes; KiB, MiB and GiB are understood.
type sizeValue struct {
	p         *int64
	low, high int64
}

var units = []struct {
	name string
	size int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

func (v sizeValue) Set(s string) error {
	digits, factor := strings.TrimSpace(s), int64(1)
	for _, u := range units {
		if head, ok := strings.CutSuffix(digits, u.name); ok {
			digits, factor = strings.TrimSpace(head), u.size
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/factor {
		return fmt.Errorf("%q is no size such as 65536, 64KiB or 256MiB", s)
	}
	if n *= factor; n < v.low || n > v.high {
		return fmt.Errorf("%s is not %s to %s", formatSize(n), formatSize(v.low), formatSize(v.high))
	}
	*v.p = n
	return nil
}
func (v sizeValue) String() string { return formatSize(*v.p) }
func (v sizeValue) Type() string   { return "size" }

func formatSize(n int64) string {
	for _, u := range units {
		if n >= u.size && n%u.size == 0 && u.size > 1 {
			return strconv.FormatInt(n/u.size, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10)
}

// choiceValue is one of a few words.
type choiceValue struct {
	p       *string
	choices []string
}

func (v choiceValue) Set(s string) error {
	for _, c := range v.choices {
		if s == c {
			*v.p = s
			return nil
		}
	}
	return fmt.Errorf("%q is none of %s", s, strings.Join(v.choices, ", "))
}
func (v choiceValue) String() string { return *v.p }
func (v choiceValue) Type() string   { return "word" }

var _ = []pflag.Value{textValue{}, listValue{}, boolValue{}, intValue{}, durationValue{}, sizeValue{}, choiceValue{}}
