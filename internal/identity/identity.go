// Package identity carries the authenticated principal of a call in its context: set by an interceptor of the server, read by
// the services. It authenticates nobody.
package identity

import (
	"context"
	"fmt"
	"unicode/utf8"
)

// Anonymous is the principal of a call that nobody authenticated.
const Anonymous = "anonymous"

// MaxPrincipal is the greatest length of a principal in bytes: it is stamped on every event.
const MaxPrincipal = 256

type key struct{}

// With returns a context whose principal is the given one: 1 to MaxPrincipal bytes of valid UTF-8. Anything else is an error, so
// that no principal is ever shortened into somebody else's.
func With(ctx context.Context, principal string) (context.Context, error) {
	if principal == "" || len(principal) > MaxPrincipal || !utf8.ValidString(principal) {
		return nil, fmt.Errorf("principal of %d bytes: must be 1 to %d bytes of valid UTF-8", len(principal), MaxPrincipal)
	}
	return context.WithValue(ctx, key{}, principal), nil
}

// From returns the principal of the context, Anonymous when there is none.
func From(ctx context.Context) string {
	if p, ok := ctx.Value(key{}).(string); ok {
		return p
	}
	return Anonymous
}
