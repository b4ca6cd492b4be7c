package faults

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// reapAfter is more than a member's session time-out, after which a broker misses it.
const reapAfter = 8 * time.Second

// reapMembers does what kfake leaves undone: a member that dies while its JoinGroup waits gets no session timer there (group.reply starts it only
// when the answer could be written), and keeps its partitions for ever. Apache Kafka misses such a member after the session time-out. Members
// whose connection has been gone for that time are made to leave. One that only connected anew would join again.
func (t *T) reapMembers(brokers []string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		t.Fatal(err)
	}
	admin := kadm.NewClient(client)
	done := make(chan struct{})
	t.Cleanup(func() { <-done; client.Close() })
	go func() {
		defer close(done)
		gone := map[string]time.Time{} // member: since when
		for {
			select {
			case <-t.Context().Done():
				return
			case <-time.After(time.Second):
			}
			groups, err := admin.DescribeGroups(t.Context(), "audit-enricher", "audit-sink")
			if err != nil {
				continue // the broker may be what is broken
			}
			connected := localPorts()
			for _, g := range groups.Sorted() {
				for _, m := range g.Members {
					_, port, _ := net.SplitHostPort(m.ClientHost)
					switch since, known := gone[m.MemberID]; {
					case connected[port]:
						delete(gone, m.MemberID)
					case !known:
						gone[m.MemberID] = time.Now()
					case time.Since(since) > reapAfter:
						delete(gone, m.MemberID)
						if err := leave(t.Context(), client, g.Group, m.MemberID); err == nil {
							t.Logf("kfake kept a dead member of %s: made to leave", g.Group)
						}
					}
				}
			}
		}
	}()
}

func leave(ctx context.Context, client *kgo.Client, group, member string) error {
	request := kmsg.NewPtrLeaveGroupRequest()
	request.Group = group
	m := kmsg.NewLeaveGroupRequestMember()
	m.MemberID = member
	request.Members = append(request.Members, m)
	_, err := request.RequestWith(ctx, client)
	if err != nil {
		return fmt.Errorf("leave %s: %w", group, err)
	}
	return nil
}

// localPorts are the local ports of established connections.
func localPorts() map[string]bool {
	ports := map[string]bool{}
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		table, err := os.ReadFile(file)
		if err != nil {
			continue // without IPv6 there is no tcp6
		}
		for line := range strings.Lines(string(table)) {
			fields := strings.Fields(line)
			if len(fields) < 4 || fields[3] != "01" { // established
				continue
			}
			_, hex, _ := strings.Cut(fields[1], ":")
			if port, err := strconv.ParseUint(hex, 16, 16); err == nil {
				ports[strconv.FormatUint(port, 10)] = true
			}
		}
	}
	return ports
}
