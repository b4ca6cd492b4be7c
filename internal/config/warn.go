package config

import "slices"

// Warnings explains what is allowed and rarely meant; a process logs it at start.
func (c *Config) Warnings(role Role) []string {
	var w []string
	for name, addr := range map[string]string{
		"grpc_listen": c.GRPCListen, "http_listen": c.HTTPListen, "emitter.grpc_listen": c.Emitter.GRPCListen, "emitter.http_listen": c.Emitter.HTTPListen,
		"gateway.grpc_listen": c.Gateway.GRPCListen, "gateway.http_listen": c.Gateway.HTTPListen, "metrics.listen": c.Metrics.Listen,
	} {
		if loopback, err := IsLoopback(addr); needs(role, name) && err == nil && !loopback {
			w = append(w, name+" is "+addr+" without TLS and authentication: whoever reaches it can read and write")
		}
	}
	embedded := role == All && c.origin["kafka.brokers"] == "default"
	switch {
	case !needs(role, "kafka.replication") || embedded:
	case c.Kafka.Replication == 1:
		w = append(w, "kafka.replication is 1: whoever loses that broker's disk loses acknowledged events")
	case c.Kafka.MinInsync == 1:
		w = append(w, "kafka.min_insync_replicas is 1: an event can be acknowledged by a broker that is lost the moment after")
	}
	slices.Sort(w)
	return w
}
