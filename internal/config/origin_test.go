package config

import "testing"

func TestOrigins(t *testing.T) {
	for origin, want := range map[string]bool{
		"https://audit.example.com":      true,
		"https://audit.example.com:8443": true,
		"http://localhost:3000":          true,
		"http://[::1]:3000":              true,
		"*":                              false,
		"null":                           false,
		"https://*.example.com":          false,
		"https://audit.example.com/":     false,
		"https://audit.example.com/path": false,
		"https://audit.example.com:443":  false, // a browser leaves it out, so it would never match
		"http://audit.example.com:80":    false,
		"https://Audit.example.com":      false,
		"https://user@audit.example.com": false,
		"https://audit.example.com:":     false,
		"https://":                       false,
		"audit.example.com":              false,
		"file:///tmp":                    false,
		"https://audit.example.com?x=1":  false,
	} {
		if got := isOrigin(origin); got != want {
			t.Errorf("%s: %v, want %v", origin, got, want)
		}
	}
}
