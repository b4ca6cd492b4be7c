package kafkatest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// Ports are taken from below the range that systems use for outgoing connections (32768 and up on
// Linux), so that no client's connection can sit on a broker's port while the broker is down.
const firstPort, endPort = 20000, 32000

// freePorts returns n ports on which nobody listens now. Somebody else may be faster before a broker
// listens there: New then tries again with others.
func freePorts(n int) ([]int, error) {
	var ports []int
	var held []net.Listener // until all are found, so that none is found twice
	defer func() {
		for _, l := range held {
			l.Close()
		}
	}()
	for range 1000 {
		if len(ports) == n {
			return ports, nil
		}
		port := firstPort + rand.IntN(endPort-firstPort)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		held = append(held, l)
		ports = append(ports, port)
	}
	return nil, errors.New("no free port found")
}
