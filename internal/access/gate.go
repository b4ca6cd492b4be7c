package access

import (
	"context"
	"crypto/x509"
	"errors"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Credentials are what a call brought.
type Credentials struct {
	// Authorization are the values of the header or metadata of that name.
	Authorization []string
	// Certificate is the client's, verified by TLS; nil: none.
	Certificate *x509.Certificate
}

// Config says how callers prove who they are. Nil: not in that way.
type Config struct {
	Certificates *CertificateRules
	OIDC         *OIDC
	Tokens       *Tokens
}

// Gate asks every call who it is.
type Gate struct {
	cfg   Config
	read  func(context.Context) (Credentials, error)
	log   zerolog.Logger
	calls *prometheus.CounterVec // by: certificate, oidc, token, nobody, refused
}

// NewGate returns a gate; read finds what a call brought.
func NewGate(cfg Config, read func(context.Context) (Credentials, error), log zerolog.Logger, r prometheus.Registerer) *Gate {
	g := &Gate{cfg: cfg, read: read, log: log, calls: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "audittrail", Subsystem: "auth", Name: "calls_total",
		Help: "Calls by how they proved who makes them; nobody: not at all, refused: not well enough."}, []string{"by"})}
	r.MustRegister(g.calls)
	return g
}

// errNobody: a call brought nothing that could say who makes it.
var errNobody = errors.New("neither a token nor a known certificate")

// who says who makes a call, and by which way.
func (g *Gate) who(ctx context.Context, c Credentials) (p Principal, by string, err error) {
	switch {
	case len(c.Authorization) > 1:
		return p, "refused", errors.New("more than one authorization")
	case len(c.Authorization) == 1:
		scheme, token, _ := strings.Cut(c.Authorization[0], " ")
		if !strings.EqualFold(scheme, "bearer") || token == "" {
			return p, "refused", errors.New("authorization is no bearer token")
		}
		if strings.HasPrefix(token, tokenPrefix) && g.cfg.Tokens != nil {
			p, err = g.cfg.Tokens.Principal(token, time.Now())
			return p, "token", err
		}
		if g.cfg.OIDC != nil {
			p, err = g.cfg.OIDC.Principal(ctx, token)
			return p, "oidc", err
		}
		return p, "refused", errors.New("bearer tokens of this kind are not taken")
	case c.Certificate != nil && g.cfg.Certificates != nil:
		p, err = g.cfg.Certificates.Principal(c.Certificate, time.Now())
		return p, "certificate", err
	default:
		return p, "nobody", errNobody
	}
}

// admit returns the call's context with its principal, or UNAUTHENTICATED.
func (g *Gate) admit(ctx context.Context, method string) (context.Context, Principal, error) {
	if strings.HasPrefix(method, "/grpc.health.v1.Health/") {
		return ctx, Principal{}, nil // says nothing that a connection does not
	}
	c, err := g.read(ctx)
	var p Principal
	by := "refused"
	if err == nil {
		p, by, err = g.who(ctx, c)
	}
	if err == nil {
		ctx, err = p.with(ctx)
	}
	if err != nil {
		if by != "nobody" {
			by = "refused"
		}
		g.calls.WithLabelValues(by).Inc()
		g.log.Info().Str("method", method).Str("why", err.Error()).Msg("caller not known")
		return nil, p, status.Error(codes.Unauthenticated, "it is not known who makes this call")
	}
	g.calls.WithLabelValues(by).Inc()
	return ctx, p, nil
}

// Unary implements grpc.UnaryServerInterceptor.
func (g *Gate) Unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	ctx, _, err := g.admit(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	return next(ctx, req)
}

// Stream implements grpc.StreamServerInterceptor. A stream ends when the proof of who makes it does.
func (g *Gate) Stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	ctx, p, err := g.admit(stream.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	if p.Expires.IsZero() {
		return next(srv, withContext{stream, ctx})
	}
	expired := status.Error(codes.Unauthenticated, "what the call was made with has expired")
	ctx, cancel := context.WithDeadlineCause(ctx, p.Expires, expired)
	defer cancel()
	err = next(srv, withContext{stream, ctx})
	if err != nil && errors.Is(context.Cause(ctx), expired) {
		return expired
	}
	return err
}

type withContext struct {
	grpc.ServerStream
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (s withContext) Context() context.Context { return s.ctx }
