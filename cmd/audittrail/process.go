package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/maxviazov/audittrail/internal/access"
	"github.com/maxviazov/audittrail/internal/config"
	"github.com/maxviazov/audittrail/internal/serve"
)

// process is what every role has: configuration, log, metrics.
type process struct {
	cfg      *config.Config
	log      zerolog.Logger
	registry *prometheus.Registry
	transport
	gate *access.Gate // nil: callers are not asked who they are
}

// newProcess reads the configuration of the role from file, environment and the command's flags.
func newProcess(cmd *cobra.Command, role config.Role) (*process, error) {
	cfg, err := loadConfig(cmd, role)
	if err != nil {
		return nil, err
	}
	p := &process{cfg: cfg, log: newLogger(cmd.ErrOrStderr(), cfg), registry: prometheus.NewRegistry()}
	for _, warning := range cfg.Warnings(role) {
		p.log.Warn().Str("warning", warning).Msg("suspicious configuration")
	}
	p.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), newBuildInfo())
	if err := p.newTransport(role); err != nil {
		return nil, usageError{err}
	}
	if p.gate, err = p.newGate(role); err != nil {
		return nil, usageError{err}
	}
	return p, nil
}

func loadConfig(cmd *cobra.Command, role config.Role) (*config.Config, error) {
	file, err := cmd.Flags().GetString("config")
	if err != nil {
		return nil, err
	}
	return config.Load(role, config.Source{File: file, Env: os.Environ(), Flags: cmd.Flags()})
}

func newBuildInfo() prometheus.Collector {
	v, commit := versionAndCommit()
	g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "audittrail", Name: "build_info", Help: "Always 1; the labels say what runs.",
		ConstLabels: prometheus.Labels{"version": v, "commit": commit}})
	g.Set(1)
	return g
}

// logTime is RFC 3339 with milliseconds: what happens within one second is told apart, and the time of a fault can be compared with that of others.
const logTime = "2006-01-02T15:04:05.000Z07:00"

// zerolog knows the format of times for the whole program only; set before anything logs.
func init() { zerolog.TimeFieldFormat = logTime }

// newLogger writes JSON, or lines for people when somebody looks.
func newLogger(w io.Writer, cfg *config.Config) zerolog.Logger {
	level, err := zerolog.ParseLevel(cfg.Log.Level)
	if err != nil {
		level = zerolog.InfoLevel // the configuration admits only known ones
	}
	if cfg.Log.Format == "console" || cfg.Log.Format == "auto" && isTerminal(w) {
		w = zerolog.ConsoleWriter{Out: w, TimeFormat: "15:04:05.000", NoColor: !isTerminal(w)}
	}
	return zerolog.New(w).Level(level).With().Timestamp().Logger()
}

func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// server makes the process's server: grpcKey may be empty for roles without services.
func (p *process) server(grpcKey, grpcListen, httpKey, httpListen string, ready func(context.Context) error,
	options ...grpc.ServerOption,
) (*serve.Server, error) {
	encrypt, err := p.serverTLS()
	if err != nil {
		return nil, usageError{err}
	}
	if p.gate == nil && grpcListen != "" {
		p.log.Warn().Str("address", grpcListen).Msg("nobody is asked who they are: every call is anonymous and may do everything; see auth in docs/security.md")
	}
	return serve.New(serve.Config{
		TLS:        encrypt,
		GRPCListen: grpcListen, GRPCFlag: "--" + config.FlagName(grpcKey),
		HTTPListen: httpListen, HTTPFlag: "--" + config.FlagName(httpKey),
		AllowedHosts: p.cfg.HTTP.AllowedHosts, CORSOrigins: p.cfg.Gateway.CORSOrigins, Reflection: p.cfg.Gateway.Reflection, Pprof: p.cfg.Pprof,
	}, serve.Deps{Registry: p.registry, Ready: ready, Gate: p.gate, Log: p.log.With().Str("component", "serve").Logger()}, options...)
}

// part is one long-lived component.
type part struct {
	name string
	run  func(context.Context) error
}

// runParts starts all parts and, when ctx ends or one of them does, stops them one after the other in the order given: the order of the data.
// A part keeps what those before it need until they have ended. ready, if any, is called once all run.
func (p *process) runParts(ctx context.Context, parts ...part) error {
	type running struct {
		part
		stop context.CancelFunc
		done chan error
	}
	if p.certs != nil {
		parts = append(parts, part{"certificates", p.certs.Run})
	}
	ended := make(chan string, len(parts))
	all := make([]running, len(parts))
	for i, part := range parts {
		partCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
		defer stop()
		r := running{part, stop, make(chan error, 1)}
		all[i] = r
		go func() {
			err := r.run(partCtx)
			r.done <- err
			ended <- r.name
		}()
	}
	select {
	case <-ctx.Done():
		p.log.Info().Msg("stopping")
	case name := <-ended:
		p.log.Error().Str("part", name).Msg("part ended, stopping")
	}
	var errs []error
	for _, r := range all {
		r.stop()
		began := time.Now()
		if err := <-r.done; err != nil && !errors.Is(err, context.Canceled) {
			errs = append(errs, fmt.Errorf("%s: %w", r.name, err))
		}
		p.log.Debug().Str("part", r.name).Dur("took", time.Since(began)).Msg("part stopped")
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if ctx.Err() == nil {
		return errors.New("a part ended by itself")
	}
	p.log.Info().Msg("stopped")
	return nil
}

// unready is the first part to stop: it makes the process unready while everything still works.
func unready(srv *serve.Server) part {
	return part{"readiness", func(ctx context.Context) error {
		<-ctx.Done()
		srv.Unready()
		return nil
	}}
}

// joinReady is ready when all are; it says which is not.
func joinReady(checks ...func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		for _, check := range checks {
			if err := check(ctx); err != nil {
				return err
			}
		}
		return nil
	}
}

// readyIf turns a yes or no into an error for people.
func readyIf(name string, ready func() bool) func(context.Context) error {
	return func(context.Context) error {
		if !ready() {
			return fmt.Errorf("%s is not ready", name)
		}
		return nil
	}
}
