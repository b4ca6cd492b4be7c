package config

import (
	"fmt"
	"io"
	"net/url"
	"regexp"
	"text/tabwriter"
)

// Setting is one effective value for people: without what is secret.
type Setting struct {
	Key, Value, Origin, Doc string
}

// Settings lists every key with its effective value and where it came from, in the order of the reference.
func (c *Config) Settings() []Setting {
	list := make([]Setting, 0, len(keys))
	for _, k := range keys {
		value := k.value(c).String()
		if k.secret != nil {
			value = k.secret(value)
		}
		list = append(list, Setting{Key: k.name, Value: value, Origin: c.origin[k.name], Doc: k.doc})
	}
	return list
}

// Print writes Settings as a table.
func (c *Config) Print(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, s := range c.Settings() {
		fmt.Fprintf(tw, "%s\t%s\t%s\n", s.Key, orDash(s.Value), s.Origin)
	}
	return tw.Flush()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

const hidden = "REDACTED"

var passwordInList = regexp.MustCompile(`(?i)((?:ssl)?password\s*=\s*)('(?:[^'\\]|\\.)*'?|(?:[^\s\\]|\\.)*)`)

// redactDSN leaves out passwords: of the user part and the query of a URL, of a key=value list. What it does not understand it leaves
// out whole.
func redactDSN(dsn string) string {
	if dsn == "" {
		return ""
	}
	if isURL(dsn) {
		u, err := url.Parse(dsn)
		if err != nil {
			return hidden
		}
		if _, has := u.User.Password(); has {
			u.User = url.UserPassword(u.User.Username(), hidden)
		}
		q := u.Query()
		for _, name := range []string{"password", "sslpassword"} {
			if q.Has(name) {
				q.Set(name, hidden)
			}
		}
		u.RawQuery = q.Encode()
		return u.String()
	}
	return passwordInList.ReplaceAllString(dsn, "${1}"+hidden)
}

func isURL(dsn string) bool {
	return regexp.MustCompile(`(?i)^postgres(ql)?://`).MatchString(dsn)
}
