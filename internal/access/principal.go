package access

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/maxviazov/audittrail/internal/identity"
)

// Principal is who makes a call.
type Principal struct {
	// Name is user:SUBJECT (OIDC), token:NAME (API token), or of a certificate its URI, dns:NAME or cn:NAME.
	Name string
	// Groups are those that the OIDC token or the API token's entry names.
	Groups []string
	// Expires is when the proof ends; a stream ends with it.
	Expires time.Time
}

type key struct{}

// From returns who makes the call; ok is false when nobody was asked.
func From(ctx context.Context) (p Principal, ok bool) {
	p, ok = ctx.Value(key{}).(Principal)
	return p, ok
}

// with puts the principal into the context, for From and for package identity.
func (p Principal) with(ctx context.Context) (context.Context, error) {
	ctx, err := identity.With(ctx, p.Name)
	if err != nil {
		return nil, err
	}
	return context.WithValue(ctx, key{}, p), nil
}

// maxGroups bounds what a token can make the process hold for each call.
const maxGroups = 256

// check refuses names that could be read as another's.
func (p Principal) check() error {
	if len(p.Groups) > maxGroups {
		return fmt.Errorf("%d groups, at most %d are looked at", len(p.Groups), maxGroups)
	}
	for _, name := range append([]string{p.Name}, p.Groups...) {
		if name == "" || len(name) > identity.MaxPrincipal || !utf8.ValidString(name) {
			return fmt.Errorf("name of %d bytes: must be 1 to %d bytes of valid UTF-8", len(name), identity.MaxPrincipal)
		}
		if strings.IndexFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) >= 0 {
			return errors.New("name holds characters that cannot be printed")
		}
	}
	return nil
}
