package config

import (
	"github.com/rs/zerolog"

	"github.com/maxviazov/audittrail/internal/access"
)

// Authenticates says whether a role asks callers who they are.
func (c *Config) Authenticates(role Role) bool {
	return Uses(role, "auth.tokens_file") && (len(c.Auth.Certificates) > 0 || c.Auth.TokensFile != "" || c.Auth.OIDC.Issuer != "")
}

// OIDC says whose tokens are believed.
func (c *Config) OIDC() access.OIDCConfig {
	return access.OIDCConfig{Issuer: c.Auth.OIDC.Issuer, Audience: c.Auth.OIDC.Audience, KeysURL: c.Auth.OIDC.KeysURL, GroupsClaim: c.Auth.OIDC.GroupsClaim}
}

// validateAuth reports what is wrong with the ways in which callers prove who they are.
func (c *Config) validateAuth(role Role, add func(format string, args ...any)) {
	if !Uses(role, "auth.tokens_file") {
		return
	}
	if len(c.Auth.Certificates) > 0 && c.TLS.ClientAuth == "none" {
		add("auth.certificates: tls.client_auth is none, so that nobody shows one; must be optional or required")
	}
	if _, err := access.ParseCertificateRules(c.Auth.Certificates); err != nil {
		add("auth.certificates: %w", err)
	}
	if c.Auth.TokensFile != "" {
		if _, err := access.OpenTokens(c.Auth.TokensFile, zerolog.Nop()); err != nil {
			add("auth.tokens_file: %w", err)
		}
	}
	o := c.Auth.OIDC
	switch {
	case o.Issuer == "" && (o.Audience != "" || o.KeysURL != "" || o.CAFile != ""):
		add("auth.oidc.issuer: needed, or what else is set of auth.oidc does nothing")
	case o.Issuer == "":
	case o.Audience == "":
		add("auth.oidc.audience: auth.oidc.issuer needs it, or tokens for other services would be taken")
	default:
		if _, err := access.NewOIDC(c.OIDC()); err != nil {
			add("auth.oidc.%w", err)
		}
	}
}
