package kafkatest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// stopGrace is how long a broker may take to shut down in order. Of a cluster that is stopped as a
// whole, the last nodes lack a quorum to tell and would wait much longer.
const stopGrace = 10 * time.Second

// node is one broker, which is controller too, and its process.
type node struct {
	id                   int // node.id, from 1
	port, controllerPort int
	dir                  string // server.properties, kafka.log, data/
	java, lib            string
	heapMiB              int
	secure               *Secure // nil: plaintext

	cmd    *exec.Cmd     // nil: should not run
	exited chan struct{} // closed once cmd was waited for
}

func (n *node) addr() string    { return "127.0.0.1:" + strconv.Itoa(n.port) }
func (n *node) config() string  { return filepath.Join(n.dir, "server.properties") }
func (n *node) dataDir() string { return filepath.Join(n.dir, "data") }
func (n *node) logFile() string { return filepath.Join(n.dir, "kafka.log") }

// format writes the metadata that makes an empty directory a node of the cluster.
func (n *node) format(ctx context.Context, clusterID string) error {
	args := append([]string{"-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", filepath.Join(n.lib, "*"),
		"kafka.tools.StorageTool", "format", "--cluster-id", clusterID, "--config", n.config()}, n.secure.users()...)
	cmd := exec.CommandContext(ctx, n.java, args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("format node %d: %w\n%s", n.id, err, tail(out))
	}
	return nil
}

// start runs the broker. Its output goes to kafka.log.
func (n *node) start() error {
	log, err := os.OpenFile(n.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open log of node %d: %w", n.id, err)
	}
	defer log.Close()
	cmd := exec.Command(n.java, "-Xmx"+strconv.Itoa(n.heapMiB)+"m", "-XX:+UseSerialGC",
		"-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true",
		"-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS", "-cp", filepath.Join(n.lib, "*"),
		"kafka.Kafka", n.config())
	cmd.Dir = n.dir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = sysProcAttr()
	started, exited := make(chan error, 1), make(chan struct{})
	go func() {
		// The kernel kills the broker when the thread that started it ends (prctl(2),
		// PR_SET_PDEATHSIG), so this thread stays until the broker has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // killed or stopped: either way an error that says nothing
		}
		close(exited)
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start node %d: %w", n.id, err)
	}
	n.cmd, n.exited = cmd, exited
	return nil
}

func (n *node) running() bool {
	if n.cmd == nil {
		return false
	}
	select {
	case <-n.exited:
		return false
	default:
		return true
	}
}

func (n *node) pid() int {
	if !n.running() {
		return 0
	}
	return n.cmd.Process.Pid
}

// signal sends sig; an error means that the broker has ended already, which is for wait to find.
func (n *node) signal(sig syscall.Signal) {
	if n.running() {
		_ = n.cmd.Process.Signal(sig)
	}
}

// kill9 ends the broker at once and returns when it is gone.
func (n *node) kill9() {
	n.signal(syscall.SIGKILL)
	n.wait()
}

// stop lets the broker shut down in order and kills it when that takes too long.
func (n *node) stop() {
	n.signal(syscall.SIGTERM)
	if n.running() {
		select {
		case <-n.exited:
		case <-time.After(stopGrace):
			n.signal(syscall.SIGKILL)
		}
	}
	n.wait()
}

// wait returns when the broker has ended; from then on it is one that should not run.
func (n *node) wait() {
	if n.cmd != nil {
		<-n.exited
		n.cmd = nil
	}
}

// logTail returns the end of the broker's log, for error messages.
func (n *node) logTail() []byte {
	out, err := os.ReadFile(n.logFile())
	if err != nil {
		return []byte(err.Error())
	}
	return bytes.TrimSpace(tail(out))
}
