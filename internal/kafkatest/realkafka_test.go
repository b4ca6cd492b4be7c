//go:build realkafka

package kafkatest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/IBM/sarama"
)

// quick lets the controller notice a dead broker after 3 s instead of 9.
var quick = map[string]string{"broker.session.timeout.ms": "3000", "broker.heartbeat.interval.ms": "500"}

func clientConfig() *sarama.Config {
	cfg := sarama.NewConfig()
	cfg.Version = sarama.V3_6_0_0
	cfg.Producer.RequiredAcks = sarama.WaitForAll
	cfg.Producer.Return.Successes = true
	cfg.Producer.Retry.Max = 600 // a minute: the leader's session must time out first
	cfg.Producer.MaxMessageBytes = 4 << 20
	cfg.Consumer.Offsets.Initial = sarama.OffsetOldest
	return cfg
}

func createTopic(t *testing.T, c *Cluster, name string, replicas int16) {
	t.Helper()
	admin, err := sarama.NewClusterAdmin(c.Brokers(), clientConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if err := admin.CreateTopic(name, &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: replicas}, false); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitInSync(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func produce(t *testing.T, c *Cluster, topic string, values ...[]byte) {
	t.Helper()
	p, err := sarama.NewSyncProducer(c.Brokers(), clientConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for i, v := range values {
		if _, _, err := p.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.ByteEncoder(v)}); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
	}
}

func consume(t *testing.T, c *Cluster, topic string, n int) [][]byte {
	t.Helper()
	consumer, err := sarama.NewConsumer(c.Brokers(), clientConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer consumer.Close()
	pc, err := consumer.ConsumePartition(topic, 0, sarama.OffsetOldest)
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	var got [][]byte
	deadline := time.After(30 * time.Second)
	for len(got) < n {
		select {
		case m := <-pc.Messages():
			got = append(got, m.Value)
		case <-deadline:
			t.Fatalf("read %d of %d messages", len(got), n)
		}
	}
	return got
}

func TestRealKafkaKeepsMessagesOverKill9(t *testing.T) {
	c := Start(t, Options{Properties: quick})
	createTopic(t, c, "one", 1)
	large := bytes.Repeat([]byte("x"), 3<<20)
	produce(t, c, "one", []byte("first"), large)

	c.Kill9(0)
	if _, err := c.nodes[0].metadata(); err == nil {
		t.Fatal("the killed node answers")
	}
	if err := c.Restart(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	produce(t, c, "one", []byte("last"))

	got := consume(t, c, "one", 3)
	if string(got[0]) != "first" || !bytes.Equal(got[1], large) || string(got[2]) != "last" {
		t.Errorf("read %d, %d and %d bytes", len(got[0]), len(got[1]), len(got[2]))
	}
}

func TestRealKafkaAcknowledgesWithoutTheLeader(t *testing.T) {
	c := Start(t, Options{Nodes: 3, Properties: quick})
	createTopic(t, c, "three", 3)
	produce(t, c, "three", []byte("before"))

	m, err := c.nodes[0].metadata()
	if err != nil {
		t.Fatal(err)
	}
	leader := -1
	for _, topic := range m.Topics {
		if topic.Name == "three" {
			for i := range c.nodes {
				if c.NodeID(i) == topic.Partitions[0].Leader {
					leader = i
				}
			}
		}
	}
	c.Kill9(leader)
	produce(t, c, "three", []byte("without"))
	if err := c.Restart(t.Context(), leader); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := c.WaitInSync(ctx); err != nil {
		t.Fatal(err)
	}
	got := consume(t, c, "three", 2)
	if string(got[0]) != "before" || string(got[1]) != "without" {
		t.Errorf("read %q", got)
	}
}

// TestRealKafkaDiesWithItsParent runs itself as a child that starts a broker, prints its process id and
// waits to be killed.
func TestRealKafkaDiesWithItsParent(t *testing.T) {
	const env = "KAFKATEST_CHILD_DIR"
	if dir := os.Getenv(env); dir != "" {
		c, err := New(t.Context(), dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("broker %d\n", c.nodes[0].cmd.Process.Pid)
		select {}
	}
	child := exec.Command(os.Args[0], "-test.run=^TestRealKafkaDiesWithItsParent$")
	child.Env = append(os.Environ(), env+"="+t.TempDir())
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscanf(out, "broker %d\n", &pid); err != nil {
		_ = child.Process.Kill()
		t.Fatalf("the child started no broker: %v", err)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // killed

	deadline := time.Now().Add(10 * time.Second)
	for alive(pid) {
		if time.Now().After(deadline) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			t.Fatalf("broker %d outlived its parent", pid)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// alive says whether the process runs; one that nobody has waited for yet does not count.
func alive(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}
