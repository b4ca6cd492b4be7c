package main

import (
	"fmt"
	"time"

	"github.com/maxviazov/audittrail/internal/access"
	"github.com/maxviazov/audittrail/internal/config"
	"github.com/maxviazov/audittrail/internal/serve"
	"github.com/maxviazov/audittrail/internal/tlsfiles"
)

// newGate makes what asks callers who they are; nil: nobody is asked, and all are anonymous.
func (p *process) newGate(role config.Role) (*access.Gate, error) {
	if role == config.None || !p.cfg.Authenticates(role) {
		return nil, nil
	}
	log := p.log.With().Str("component", "auth").Logger()
	var cfg access.Config
	var err error
	if list := p.cfg.Auth.Certificates; len(list) > 0 {
		if cfg.Certificates, err = access.ParseCertificateRules(list); err != nil {
			return nil, fmt.Errorf("auth.certificates: %w", err)
		}
	}
	if path := p.cfg.Auth.TokensFile; path != "" {
		if cfg.Tokens, err = access.OpenTokens(path, log); err != nil {
			return nil, fmt.Errorf("auth.tokens_file: %w", err)
		}
		p.certs.Also(cfg.Tokens.Look)
	}
	if p.cfg.Auth.OIDC.Issuer != "" {
		issuer := p.cfg.OIDC()
		if ca := p.cfg.Auth.OIDC.CAFile; ca != "" {
			if issuer.CAs, err = p.certs.Open("auth.oidc", tlsfiles.Paths{CA: ca}); err != nil {
				return nil, err
			}
		}
		if cfg.OIDC, err = access.NewOIDC(issuer); err != nil {
			return nil, fmt.Errorf("auth.oidc.%w", err)
		}
	}
	return access.NewGate(cfg, serve.Credentials, log, p.registry), nil
}

// tokenLife bounds the life of API tokens: what nobody renews goes.
const tokenLife = 366 * 24 * time.Hour
