package kafkatest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Options says what cluster to run. The zero value is one node.
type Options struct {
	// Nodes is 1 (default) or 3. With 3, topics have 3 replicas and need 2 in sync.
	Nodes int
	// HeapMiB bounds the Java heap of a node, in MiB. Default 400.
	HeapMiB int
	// MaxMessageBytes is the broker's message.max.bytes. Default 4 MiB.
	MaxMessageBytes int
	// Properties are added to each node's server.properties and win over what stands there. Without
	// them the controller notices the death of a broker after 9 s, and refuses its return until then
	// (broker.session.timeout.ms).
	Properties map[string]string
	// Secure makes every connection encrypted and authenticated; nil: all are plaintext.
	Secure *Secure
}

func (o Options) withDefaults() (Options, error) {
	if o.Nodes == 0 {
		o.Nodes = 1
	}
	if o.HeapMiB == 0 {
		o.HeapMiB = 400
	}
	if o.MaxMessageBytes == 0 {
		o.MaxMessageBytes = 4 << 20
	}
	if o.Nodes != 1 && o.Nodes != 3 {
		return o, fmt.Errorf("nodes is %d, can be 1 or 3", o.Nodes)
	}
	return o, nil
}

// properties is the text of one node's server.properties.
func (o Options) properties(n *node, all []*node) string {
	var voters []string
	for _, v := range all {
		voters = append(voters, fmt.Sprintf("%d@127.0.0.1:%d", v.id, v.controllerPort))
	}
	minInsync := 1
	if o.Nodes == 3 {
		minInsync = 2
	}
	p := map[string]string{
		"process.roles":                  "broker,controller",
		"node.id":                        fmt.Sprint(n.id),
		"controller.quorum.voters":       strings.Join(voters, ","),
		"listeners":                      fmt.Sprintf("PLAINTEXT://127.0.0.1:%d,CONTROLLER://127.0.0.1:%d", n.port, n.controllerPort),
		"advertised.listeners":           "PLAINTEXT://" + n.addr(),
		"controller.listener.names":      "CONTROLLER",
		"listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
		"log.dirs":                       n.dataDir(),

		"auto.create.topics.enable":  "false", // as in production: a mistyped name is an error
		"default.replication.factor": fmt.Sprint(o.Nodes),
		"min.insync.replicas":        fmt.Sprint(minInsync),
		"message.max.bytes":          fmt.Sprint(o.MaxMessageBytes),
		"replica.fetch.max.bytes":    fmt.Sprint(o.MaxMessageBytes),

		"offsets.topic.replication.factor":                 fmt.Sprint(o.Nodes),
		"offsets.topic.num.partitions":                     "6",
		"transaction.state.log.replication.factor":         fmt.Sprint(o.Nodes),
		"transaction.state.log.min.isr":                    fmt.Sprint(minInsync),
		"transaction.state.log.num.partitions":             "3",
		"share.coordinator.state.topic.replication.factor": fmt.Sprint(o.Nodes),
		"share.coordinator.state.topic.min.isr":            fmt.Sprint(minInsync),

		"group.initial.rebalance.delay.ms": "0", // the default waits 3 s for members that tests do not have
	}
	o.secure(n, p)
	maps.Copy(p, o.Properties)
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(p)) {
		fmt.Fprintf(&b, "%s=%s\n", k, p[k])
	}
	return b.String()
}
