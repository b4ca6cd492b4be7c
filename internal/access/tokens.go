package access

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// tokenPrefix begins every API token, so that one that got out is found by scanners of secrets.
const tokenPrefix = "audittrail_"

// Token is an entry of the file of API tokens. The token itself is not in it: only the SHA-256 of its 256 random bits, which no guessing inverts.
type Token struct {
	// ID tells it from others; it is part of the token.
	ID string
	// Name is that of the principal, without token: before it; [A-Za-z0-9._/-], at most 128 bytes.
	Name string
	// NotAfter is when it expires.
	NotAfter time.Time
	// Hash is the SHA-256 of the whole token.
	Hash [sha256.Size]byte
	// Groups are those of the principal, of the same letters.
	Groups []string
}

// NewToken makes a token: what the file holds, and the token itself, which nobody can find out again.
func NewToken(name string, notAfter time.Time, groups []string) (Token, string, error) {
	for _, n := range append([]string{name}, groups...) {
		if !isTokenName(n) {
			return Token{}, "", fmt.Errorf("%q: must be 1 to 128 of A-Z a-z 0-9 . _ / -", n)
		}
	}
	random := make([]byte, 38)
	_, _ = rand.Read(random) // never fails (crypto/rand)
	t := Token{ID: hex.EncodeToString(random[:6]), Name: name, NotAfter: notAfter.UTC().Truncate(time.Second), Groups: groups}
	secret := tokenPrefix + t.ID + "_" + base64.RawURLEncoding.EncodeToString(random[6:])
	t.Hash = sha256.Sum256([]byte(secret))
	return t, secret, nil
}

// String is the entry's line in the file: id, name, expiry, hash and groups.
func (t Token) String() string {
	line := strings.Join([]string{t.ID, t.Name, t.NotAfter.Format(time.RFC3339), hex.EncodeToString(t.Hash[:])}, " ")
	if len(t.Groups) > 0 {
		line += " " + strings.Join(t.Groups, ",")
	}
	return line
}

// ParseTokens reads the file's text: one entry a line; empty lines and those that begin with # say nothing. Its errors name the line.
func ParseTokens(text []byte) ([]Token, error) {
	var list []Token
	known := map[string]int{}
	n := 0
	for line := range strings.SplitSeq(string(text), "\n") {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		t, err := parseToken(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if before := known[t.ID]; before > 0 {
			return nil, fmt.Errorf("line %d: id %s is that of line %d", n, t.ID, before)
		}
		known[t.ID] = n
		list = append(list, t)
	}
	return list, nil
}

func parseToken(line string) (Token, error) {
	fields := strings.Fields(line)
	if len(fields) < 4 || len(fields) > 5 {
		return Token{}, fmt.Errorf("%d fields, must be id, name, expiry, hash and perhaps groups", len(fields))
	}
	t := Token{ID: fields[0], Name: fields[1]}
	if id, err := hex.DecodeString(t.ID); err != nil || len(id) != 6 || hex.EncodeToString(id) != t.ID {
		return Token{}, errors.New("id must be 12 hexadecimal digits")
	}
	if !isTokenName(t.Name) {
		return Token{}, errors.New("name must be 1 to 128 of A-Z a-z 0-9 . _ / -")
	}
	var err error
	if t.NotAfter, err = time.Parse(time.RFC3339, fields[2]); err != nil {
		return Token{}, errors.New("expiry must be a time such as 2030-01-31T00:00:00Z")
	}
	hash, err := hex.DecodeString(fields[3])
	if err != nil || len(hash) != sha256.Size {
		return Token{}, errors.New("hash must be 64 hexadecimal digits")
	}
	copy(t.Hash[:], hash)
	if len(fields) == 5 {
		t.Groups = strings.Split(fields[4], ",")
		for _, g := range t.Groups {
			if !isTokenName(g) {
				return Token{}, errors.New("groups must be 1 to 128 of A-Z a-z 0-9 . _ / - each, separated by commas")
			}
		}
	}
	return t, nil
}

func isTokenName(s string) bool {
	return s != "" && len(s) <= 128 && strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._/-", r))
	}) < 0
}

// Tokens are the API tokens of a file that is followed.
type Tokens struct {
	path string
	log  zerolog.Logger
	byID atomic.Pointer[map[string]Token]

	// Owned by whoever calls Look.
	text []byte
	said string // why the file of the last look could not be used
}

// OpenTokens reads the file, which must be good.
func OpenTokens(path string, log zerolog.Logger) (*Tokens, error) {
	t := &Tokens{path: path, log: log}
	return t, t.read()
}

func (t *Tokens) read() error {
	text, err := os.ReadFile(t.path)
	if err != nil {
		return err
	}
	if t.byID.Load() != nil && bytes.Equal(text, t.text) {
		return nil
	}
	list, err := ParseTokens(text)
	if err != nil {
		return fmt.Errorf("%s: %w", t.path, err)
	}
	byID := make(map[string]Token, len(list))
	for _, token := range list {
		byID[token.ID] = token
	}
	t.byID.Store(&byID)
	t.text = text
	return nil
}

// Look reads the file again. One that cannot be used changes nothing, and the log says so once.
func (t *Tokens) Look(time.Time) {
	err := t.read()
	if err == nil {
		t.said = ""
		return
	}
	if why := err.Error(); why != t.said {
		t.said = why
		t.log.Error().Err(err).Msg("new API tokens cannot be used, the old ones stay in use")
	}
}

// Principal says whom a token stands for.
func (t *Tokens) Principal(token string, now time.Time) (Principal, error) {
	rest, ok := strings.CutPrefix(token, tokenPrefix)
	id, _, separated := strings.Cut(rest, "_")
	if !ok || !separated {
		return Principal{}, errors.New("no API token")
	}
	entry, known := (*t.byID.Load())[id]
	sum := sha256.Sum256([]byte(token))
	if match := subtle.ConstantTimeCompare(sum[:], entry.Hash[:]) == 1; !known || !match {
		return Principal{}, errors.New("unknown API token")
	}
	if !now.Before(entry.NotAfter) {
		return Principal{}, fmt.Errorf("API token %s has expired", id)
	}
	p := Principal{Name: "token:" + entry.Name, Groups: entry.Groups, Expires: entry.NotAfter}
	return p, p.check()
}
