package faults

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// kafkaLink is the way from one role, or one process, to all brokers. Kafka's clients connect to the addresses that brokers tell them, so a
// proxy alone is left behind after the first answer. Therefore:
//
//	role ──▶ proxy (toxiproxy) ──▶ redirect ──▶ broker         one of each for each broker
//
// and the redirect puts the proxies' addresses in place of the brokers' into the answers that have addresses.
type kafkaLink struct {
	t         *T
	proxies   map[int32]*proxy // by broker
	redirects []*redirect
}

// kafkaLink makes the way for one role.
func (t *T) kafkaLink(role string, brokers []string) *kafkaLink {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	metadata, err := kadm.NewClient(client).BrokerMetadata(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l := &kafkaLink{t: t, proxies: map[int32]*proxy{}}
	for _, b := range metadata.Brokers {
		r := &redirect{link: l, upstream: net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))}
		r.start(t)
		l.redirects = append(l.redirects, r)
		l.proxies[b.NodeID] = t.proxy(fmt.Sprintf("%s-kafka-%d", role, b.NodeID), r.listener.Addr().String())
	}
	return l
}

// brokers are the addresses for the role.
func (l *kafkaLink) brokers() (addrs []string) {
	for _, p := range l.proxies {
		addrs = append(addrs, p.addr())
	}
	return addrs
}

func (l *kafkaLink) add(what toxic) {
	for _, p := range l.proxies {
		p.add(what)
	}
}

func (l *kafkaLink) heal() {
	for _, p := range l.proxies {
		p.heal()
	}
}

// holdGroups makes a black hole of every connection on which a request of a consumer group comes, its search for the coordinator
// included; everything else passes. release ends that, and those connections with it.
func (l *kafkaLink) holdGroups() (release func()) {
	released := make(chan struct{})
	for _, r := range l.redirects {
		r.held.Store(&released)
	}
	return sync.OnceFunc(func() {
		for _, r := range l.redirects {
			r.held.Store(nil)
		}
		close(released)
	})
}

// lastProduce is when a message passed for the last time.
func (l *kafkaLink) lastProduce() time.Time {
	var last int64
	for _, r := range l.redirects {
		last = max(last, r.produced.Load())
	}
	return time.Unix(0, last)
}

// address is where the role finds a broker; false for a broker that is not ours, or for none (-1).
func (l *kafkaLink) address(node int32) (host string, port int32, ours bool) {
	p, ours := l.proxies[node]
	if !ours {
		return "", 0, false
	}
	host, text, err := net.SplitHostPort(p.addr())
	if err != nil {
		panic(err) // the address of a listener
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		panic(err)
	}
	return host, int32(n), true
}

// redirect passes Kafka's requests and answers on, and changes the addresses of brokers in the answers.
type redirect struct {
	link     *kafkaLink
	upstream string
	listener net.Listener
	produced atomic.Int64                  // Unix nanoseconds of the last Produce request
	held     atomic.Pointer[chan struct{}] // group requests are held until it is closed; nil: none are
}

func (r *redirect) start(t *T) {
	t.Helper()
	var err error
	if r.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			client, err := r.listener.Accept()
			if err != nil {
				return // closed
			}
			serving.Go(func() { r.serve(ctx, client) })
		}
	})
	t.Cleanup(func() { r.listener.Close(); cancel(); serving.Wait() })
}

// inFlight is what a request says of its answer.
type inFlight struct{ key, version int16 }

// serve passes one connection on until either side, or ctx, ends it.
func (r *redirect) serve(ctx context.Context, client net.Conn) {
	defer client.Close()
	server, err := net.DialTimeout("tcp", r.upstream, 3*time.Second)
	if err != nil {
		return
	}
	defer server.Close()
	defer context.AfterFunc(ctx, func() { client.Close(); server.Close() })()
	var requests sync.Map // correlation id → inFlight
	var passing sync.WaitGroup
	passing.Go(func() {
		defer client.Close() // ends the other direction, too
		r.answers(server, client, &requests)
	})
	r.requests(client, server, &requests)
	server.Close()
	passing.Wait()
}

func (r *redirect) requests(client, server net.Conn, requests *sync.Map) {
	for {
		frame, err := readFrame(client)
		if err != nil || len(frame) < 8 {
			return
		}
		key, version := int16(binary.BigEndian.Uint16(frame)), int16(binary.BigEndian.Uint16(frame[2:]))
		if held := r.held.Load(); held != nil && ofGroups(key) {
			hole(client, *held)
			return
		}
		switch kmsg.Key(key) {
		case kmsg.Metadata, kmsg.FindCoordinator, kmsg.DescribeCluster:
			requests.Store(binary.BigEndian.Uint32(frame[4:]), inFlight{key, version})
		case kmsg.Produce:
			r.produced.Store(time.Now().UnixNano())
		}
		if writeFrame(server, frame) != nil {
			return
		}
	}
}

// hole reads and forgets what comes until the client gives up or the hole is released.
func hole(client net.Conn, released <-chan struct{}) {
	gone := make(chan struct{})
	go func() { defer close(gone); _, _ = io.Copy(io.Discard, client) }()
	select {
	case <-gone:
	case <-released:
		client.Close()
		<-gone
	}
}

func ofGroups(key int16) bool {
	switch kmsg.Key(key) {
	case kmsg.FindCoordinator, kmsg.JoinGroup, kmsg.SyncGroup, kmsg.Heartbeat, kmsg.LeaveGroup, kmsg.OffsetCommit, kmsg.OffsetFetch:
		return true
	}
	return false
}

func (r *redirect) answers(server, client net.Conn, requests *sync.Map) {
	for {
		frame, err := readFrame(server)
		if err != nil || len(frame) < 4 {
			return
		}
		if request, ok := requests.LoadAndDelete(binary.BigEndian.Uint32(frame)); ok {
			if frame, err = r.changed(frame, request.(inFlight)); err != nil {
				r.link.t.Errorf("redirect to Kafka: %v", err)
				return
			}
		}
		if writeFrame(client, frame) != nil {
			return
		}
	}
}

// changed is an answer with our addresses.
func (r *redirect) changed(frame []byte, request inFlight) ([]byte, error) {
	answer := kmsg.ResponseForKey(request.key)
	answer.SetVersion(request.version)
	header := 4
	if answer.IsFlexible() {
		header++ // no tags: no broker sends any here
	}
	if err := answer.ReadFrom(frame[header:]); err != nil {
		return nil, fmt.Errorf("%s v%d: %w", kmsg.NameForKey(request.key), request.version, err)
	}
	put := func(node int32, host *string, port *int32) {
		if h, p, ours := r.link.address(node); ours {
			*host, *port = h, p
		}
	}
	switch answer := answer.(type) {
	case *kmsg.MetadataResponse:
		for i := range answer.Brokers {
			b := &answer.Brokers[i]
			put(b.NodeID, &b.Host, &b.Port)
		}
	case *kmsg.FindCoordinatorResponse:
		put(answer.NodeID, &answer.Host, &answer.Port)
		for i := range answer.Coordinators {
			c := &answer.Coordinators[i]
			put(c.NodeID, &c.Host, &c.Port)
		}
	case *kmsg.DescribeClusterResponse:
		for i := range answer.Brokers {
			b := &answer.Brokers[i]
			put(b.NodeID, &b.Host, &b.Port)
		}
	}
	return answer.AppendTo(frame[:header:header]), nil
}

// readFrame reads one request or answer without its size.
func readFrame(conn net.Conn) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	frame := make([]byte, binary.BigEndian.Uint32(size[:]))
	_, err := io.ReadFull(conn, frame)
	return frame, err
}

func writeFrame(conn net.Conn, frame []byte) error {
	_, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...))
	return err
}
