package identity_test

import (
	"strings"
	"testing"

	"github.com/maxviazov/audittrail/internal/identity"
)

func TestPrincipal(t *testing.T) {
	if got := identity.From(t.Context()); got != "anonymous" {
		t.Errorf("without a principal: %q", got)
	}
	longest := strings.Repeat("p", identity.MaxPrincipal)
	for _, want := range []string{"spiffe://acme/payments", longest} {
		ctx, err := identity.With(t.Context(), want)
		if err != nil {
			t.Fatal(err)
		}
		if got := identity.From(ctx); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for _, bad := range []string{"", longest + "p", "\xff"} {
		if _, err := identity.With(t.Context(), bad); err == nil {
			t.Errorf("%d bytes %.5q: no error", len(bad), bad)
		}
	}
}
