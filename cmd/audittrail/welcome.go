package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/maxviazov/audittrail/internal/embedded"
	"github.com/maxviazov/audittrail/internal/serve"
)

// welcome says, once everything is ready, where everything is and what to try.
func (a *all) welcome(ctx context.Context, srv *serve.Server, out io.Writer) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !srv.IsReady() {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
	fmt.Fprint(out, a.greeting(srv))
	<-ctx.Done()
	return nil
}

func (a *all) greeting(srv *serve.Server) string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-11s %s\n", name, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(&b, "\nAuditTrail is ready after %.1f s. For development: %s%s.\n\n", time.Since(a.began).Seconds(), a.open(), a.oneCopy())
	line("gRPC", "%s", srv.GRPCAddr())
	line("HTTP", a.scheme()+"://%s  (REST below /v1, /openapi.json, /metrics, /readyz)", srv.HTTPAddr())
	line("Kafka", "%s%s", strings.Join(a.cfg.Kafka.Brokers, ","), inProcess(a.kafka != nil, "  (in this process)"))
	if a.postgres == nil {
		line("PostgreSQL", "as configured by postgres.dsn")
	} else {
		info := a.postgres.Info()
		line("PostgreSQL", "%s, database %s, user postgres, password in %s", info.Address, info.Database, info.Password)
		if info.Leftover != 0 {
			line("", "(a server that an earlier run left behind, process %d, was stopped)", info.Leftover)
		}
	}
	if a.data != nil {
		size, err := embedded.DataSize(a.data.Dir())
		if err != nil {
			line("Data", "%s", a.data.Dir())
		} else {
			line("Data", "%s, %.1f MiB", a.data.Dir(), float64(size)/(1<<20))
		}
		if a.postgres != nil {
			if info := a.postgres.Info(); info.RunsAs != "" {
				line("", "PostgreSQL refuses to run as root: it runs as %s, and its data is in %s", info.RunsAs, info.Place)
			}
		}
	}
	fmt.Fprintf(&b, "\nTry, in another shell:\n\n")
	addr := ""
	if srv.GRPCAddr() != defaultAddr {
		addr = " --addr " + srv.GRPCAddr()
	}
	me := calledAs()
	fmt.Fprintf(&b, "  %s demo --rate 20%s\n", me, addr)
	fmt.Fprintf(&b, "  %s events list --limit 10 --filter 'outcome=denied'%s\n", me, addr)
	fmt.Fprintf(&b, "  %s status%s\n", me, addr)
	fmt.Fprintf(&b, "\nCtrl-C stops it in order; what was acknowledged stays.\n\n")
	return b.String()
}

// calledAs is how this program was called, to be copied into another shell in the same directory.
func calledAs() string {
	if name := os.Args[0]; !strings.ContainsAny(name, " '\"\\$") {
		return name
	}
	return "audittrail"
}

// open says what does not protect the addresses.
func (a *all) open() string {
	encryption, callers := "no TLS", "no authentication"
	if a.serve != nil {
		encryption = "TLS"
	}
	if a.gate != nil {
		callers = "authentication"
	} else if a.cfg.TLS.ClientAuth == "required" {
		callers = "certificates of clients"
	}
	return encryption + ", " + callers
}

func (a *all) scheme() string {
	if a.serve != nil {
		return "https"
	}
	return "http"
}

func (a *all) oneCopy() string {
	return inProcess(a.kafka != nil || a.postgres != nil, ", one copy of the data")
}

func inProcess(yes bool, text string) string {
	if yes {
		return text
	}
	return ""
}
