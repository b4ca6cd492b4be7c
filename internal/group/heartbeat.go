package group

import (
	"errors"
	"time"

	gometrics "github.com/rcrowley/go-metrics"
)

// heartbeatsSent is sarama's name for the number of Heartbeat requests (key 12 of Kafka's protocol) it has sent.
const heartbeatsSent = "protocol-requests-rate-12"

// errNoHeartbeat ends the session of a member that its group has given up.
var errNoHeartbeat = errors.New("no heartbeat was sent for a session time-out: the coordinator does not answer, and the group has given this member up")

// countHeartbeats makes a registry for sarama's metrics, and the meter in it that counts heartbeats. Sarama unregisters a connection's
// metrics when it closes, while other connections go on with the same meter; this one stays.
func countHeartbeats() (gometrics.Registry, gometrics.Meter) {
	r := keepingRegistry{gometrics.NewRegistry()}
	return r, gometrics.GetOrRegisterMeter(heartbeatsSent, r)
}

type keepingRegistry struct{ gometrics.Registry }

func (r keepingRegistry) Unregister(name string) {
	if name != heartbeatsSent {
		r.Registry.Unregister(name)
	}
}

// watchHeartbeats ends the session, and returns, when no heartbeat was sent for a session time-out. Sarama sends the next one when the
// last one was answered, or its time-out has passed, and tries several times: with a coordinator that hangs a member writes on
// beside its successor for a minute. The coordinator for its part gives a member up a session time-out after the last heartbeat, so a
// session that ends here was over already. A count that never moves is no count: then nothing is concluded from it.
func (w *Wrapper) watchHeartbeats(s *Session) {
	settings := w.config.Settings.Consumer.Group
	tick := time.NewTicker(settings.Heartbeat.Interval)
	defer tick.Stop()
	count, last := w.heartbeats.Count(), time.Now()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
		}
		switch n := w.heartbeats.Count(); {
		case n != count:
			count, last = n, time.Now()
		case n > 0 && time.Since(last) > settings.Session.Timeout:
			s.broken.Store(true)
			s.End(errNoHeartbeat)
			return
		}
	}
}
