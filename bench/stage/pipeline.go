package stage

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Build compiles the program into dir, with build tags if any are given.
func Build(ctx context.Context, dir string, tags ...string) (string, error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return "", err
	}
	out := filepath.Join(dir, "audittrail")
	if len(tags) > 0 {
		out += "-" + strings.Join(tags, "-")
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", out, "-tags", strings.Join(tags, ","), "./cmd/audittrail")
	cmd.Dir = root
	if b, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build audittrail: %w\n%s", err, b)
	}
	return out, nil
}

func moduleRoot(ctx context.Context) (string, error) {
	b, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	return filepath.Dir(strings.TrimSpace(string(b))), nil
}

// Pipeline is one installation: its roles share Kafka, PostgreSQL and Redis.
type Pipeline struct {
	Dir        string   // logs and snapshots of the roles
	Binary     string   // of Build
	Brokers    []string // Kafka
	DSN        string   // PostgreSQL, as superuser: a stage is no production
	Redis      string   // address; empty: none
	Partitions int
	Replicas   int      // of topics
	MinInsync  int      // of topics
	Env        []string // more settings, AUDITTRAIL_…=…
	// Roles are more settings of one role ("emitter", "enricher", "sink", "gateway") or process ("enricher-0"), over all others: other
	// addresses, for example.
	Roles map[string][]string
}

// process is process i of a role, which the program has as a command.
func (p Pipeline) process(role string, i int, more ...string) *Process {
	name := fmt.Sprintf("%s-%d", role, i)
	return NewProcess(p.Dir, name, p.Binary, []string{role}, slices.Concat(p.env(more...), p.Roles[role], p.Roles[name]))
}

func (p Pipeline) env(more ...string) []string {
	env := []string{
		"AUDITTRAIL_KAFKA_BROKERS=" + strings.Join(p.Brokers, ","),
		fmt.Sprintf("AUDITTRAIL_KAFKA_PARTITIONS=%d", p.Partitions),
		fmt.Sprintf("AUDITTRAIL_KAFKA_REPLICATION=%d", max(1, p.Replicas)),
		fmt.Sprintf("AUDITTRAIL_KAFKA_MIN_INSYNC_REPLICAS=%d", max(1, p.MinInsync)),
		"AUDITTRAIL_POSTGRES_DSN=" + p.DSN,
		"AUDITTRAIL_POSTGRES_MIGRATE_DSN=" + p.DSN,
		"AUDITTRAIL_LOG_FORMAT=json",
	}
	if p.Redis != "" {
		env = append(env, "AUDITTRAIL_REDIS_ADDR="+p.Redis)
	}
	return append(append(env, p.Env...), more...)
}

// Run runs one command of the program to its end and returns what it printed.
func (p Pipeline) Run(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, p.Binary, args...)
	cmd.Env = append(inherited(), p.env()...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("audittrail %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// Prepare makes topics and tables.
func (p Pipeline) Prepare(ctx context.Context) error {
	if _, err := p.Run(ctx, "topics", "apply"); err != nil {
		return err
	}
	_, err := p.Run(ctx, "migrate")
	return err
}

// Emitter is emitter i, serving gRPC on grpc and HTTP on http.
func (p Pipeline) Emitter(i int, grpc, http string) *Process {
	return p.process("emitter", i, "AUDITTRAIL_EMITTER_GRPC_LISTEN="+grpc, "AUDITTRAIL_EMITTER_HTTP_LISTEN="+http)
}

// Gateway is gateway i, serving gRPC on grpc and HTTP on http.
func (p Pipeline) Gateway(i int, grpc, http string) *Process {
	return p.process("gateway", i, "AUDITTRAIL_GATEWAY_GRPC_LISTEN="+grpc, "AUDITTRAIL_GATEWAY_HTTP_LISTEN="+http)
}

// Enricher is enricher i, with metrics and health on listen and snapshots in a directory of its own.
func (p Pipeline) Enricher(i int, listen string) *Process {
	return p.process("enricher", i, "AUDITTRAIL_METRICS_LISTEN="+listen,
		"AUDITTRAIL_ENRICHER_SNAPSHOT_DIR="+filepath.Join(p.Dir, fmt.Sprintf("enricher-%d", i)))
}

// Sink is sink i, with metrics and health on listen.
func (p Pipeline) Sink(i int, listen string) *Process {
	return p.process("sink", i, "AUDITTRAIL_METRICS_LISTEN="+listen)
}

// FreeAddrs returns n loopback addresses that nothing listens on now.
func FreeAddrs(n int) ([]string, error) {
	addrs := make([]string, n)
	for i := range addrs {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer l.Close() // all at the end, so that they differ
		addrs[i] = l.Addr().String()
	}
	return addrs, nil
}
