package kafkatest

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// startTimeout bounds the start of a cluster in a test, fetching the jars included.
const startTimeout = 3 * time.Minute

// Cluster is a running Apache Kafka. Nodes are numbered from 0. Its methods are for one goroutine at
// a time.
type Cluster struct {
	nodes []*node
}

// Start runs a cluster for the duration of a test, with its data in a temporary directory.
func Start(tb testing.TB, opts Options) *Cluster {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	c, err := New(ctx, tb.TempDir(), opts)
	if errors.Is(err, ErrMissing) && os.Getenv("CI") != "true" {
		tb.Skipf("no Apache Kafka: %v", err)
	}
	if err != nil {
		tb.Fatalf("start Apache Kafka: %v", err)
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			for _, n := range c.nodes {
				tb.Logf("end of the log of node %d:\n%s", n.id, n.logTail())
			}
		}
		c.kill() // nobody will read the data: an orderly end would only take time
	})
	return c
}

// New runs a cluster whose data is below dir, an empty or missing directory, and returns when every
// node answers and knows all others. ctx bounds the start only; the caller stops the cluster with Stop.
func New(ctx context.Context, dir string, opts Options) (*Cluster, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	java, err := findJava()
	if err != nil {
		return nil, err
	}
	lib, err := Libraries(ctx)
	if err != nil {
		return nil, err
	}
	const attempts = 3
	for attempt := 1; ; attempt++ {
		c, err := newCluster(ctx, filepath.Join(dir, fmt.Sprintf("attempt-%d", attempt)), java, lib, opts)
		if err == nil || attempt == attempts || !errors.Is(err, errExited) || ctx.Err() != nil {
			return c, err
		}
		// Most likely another process took a port between our choice and the broker's start.
	}
}

func newCluster(ctx context.Context, dir, java, lib string, opts Options) (*Cluster, error) {
	ports, err := freePorts(2 * opts.Nodes)
	if err != nil {
		return nil, err
	}
	c := &Cluster{}
	for i := range opts.Nodes {
		c.nodes = append(c.nodes, &node{
			id: i + 1, port: ports[2*i], controllerPort: ports[2*i+1],
			dir: filepath.Join(dir, fmt.Sprintf("node-%d", i+1)), java: java, lib: lib, heapMiB: opts.HeapMiB,
			secure: opts.Secure,
		})
	}
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	id[0] &= 0x7f           // else one id in 64 begins with "-", which the tool takes for an option
	clusterID := base64.RawURLEncoding.EncodeToString(id[:])
	g, gctx := errgroup.WithContext(ctx)
	for _, n := range c.nodes {
		if err := os.MkdirAll(n.dir, 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(n.config(), []byte(opts.properties(n, c.nodes)), 0o644); err != nil {
			return nil, err
		}
		g.Go(func() error { return n.format(gctx, clusterID) })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for _, n := range c.nodes {
		if err := n.start(); err != nil {
			c.kill()
			return nil, err
		}
	}
	if err := c.WaitReady(ctx); err != nil {
		c.kill()
		return nil, err
	}
	return c, nil
}

// findJava prefers JAVA_HOME, as Java's own tools do.
func findJava() (string, error) {
	if home := os.Getenv("JAVA_HOME"); home != "" {
		if java, err := exec.LookPath(filepath.Join(home, "bin", "java")); err == nil {
			return java, nil
		}
	}
	java, err := exec.LookPath("java")
	if err != nil {
		return "", fmt.Errorf("java (Java 17 or later): %w", ErrMissing)
	}
	return java, nil
}

// Brokers returns the addresses of all nodes, also of those that are down.
func (c *Cluster) Brokers() []string {
	var addrs []string
	for _, n := range c.nodes {
		addrs = append(addrs, n.addr())
	}
	return addrs
}

// NodeID returns the broker id of node i, as it appears in Kafka's metadata.
func (c *Cluster) NodeID(i int) int32 { return int32(c.nodes[i].id) }

// Pid returns the process id of node i, or 0 when it is down.
func (c *Cluster) Pid(i int) int { return c.nodes[i].pid() }

// Kill9 kills node i at once, as a power failure would, but for what the operating system has in
// memory, which stays. It returns when the process is gone.
func (c *Cluster) Kill9(i int) { c.nodes[i].kill9() }

// StopNode shuts node i down in order: it hands its leaderships over first.
func (c *Cluster) StopNode(i int) { c.nodes[i].stop() }

// Pause freezes node i (SIGSTOP): its connections stay open and nothing answers. Resume ends it.
func (c *Cluster) Pause(i int) { c.nodes[i].signal(syscall.SIGSTOP) }

// Resume lets a paused node go on.
func (c *Cluster) Resume(i int) { c.nodes[i].signal(syscall.SIGCONT) }

// Restart starts node i again after Kill9 or StopNode, with the same data and address, and returns when
// all running nodes know each other. Its replicas may still be catching up: see WaitInSync.
func (c *Cluster) Restart(ctx context.Context, i int) error {
	n := c.nodes[i]
	if n.running() {
		return fmt.Errorf("node %d is running", n.id)
	}
	if err := n.start(); err != nil {
		return err
	}
	return c.WaitReady(ctx)
}

// Stop shuts all nodes down in order, or after 10 s by force. The data stays.
func (c *Cluster) Stop() {
	var wg sync.WaitGroup
	for _, n := range c.nodes {
		wg.Go(n.stop)
	}
	wg.Wait()
}

func (c *Cluster) kill() {
	for _, n := range c.nodes {
		n.kill9()
	}
}
