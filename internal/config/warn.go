package config

import (
	"errors"
	"slices"
)

// Warnings explains what is allowed and rarely meant; a process logs it at start.
func (c *Config) Warnings(role Role) []string {
	var w []string
	for name, addr := range map[string]string{
		"grpc_listen": c.GRPCListen, "http_listen": c.HTTPListen, "emitter.grpc_listen": c.Emitter.GRPCListen, "emitter.http_listen": c.Emitter.HTTPListen,
		"gateway.grpc_listen": c.Gateway.GRPCListen, "gateway.http_listen": c.Gateway.HTTPListen, "metrics.listen": c.Metrics.Listen,
	} {
		if loopback, err := IsLoopback(addr); needs(role, name) && err == nil && !loopback && !c.provesCallers(role) {
			w = append(w, name+" is "+addr+" "+c.without(role)+": whoever reaches it can read and write")
		}
	}
	w = append(w, c.weakConnections(role)...)
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

func (c *Config) without(role Role) string {
	switch {
	case c.Serves():
		return "without authentication"
	case c.Authenticates(role):
		return "without TLS"
	}
	return "without TLS and authentication"
}

// weakConnections are those that --insecure allows.
func (c *Config) weakConnections(role Role) []string {
	var w []string
	if away := firstAway(c.Kafka.Brokers); needs(role, "kafka.brokers") && !c.Kafka.TLS.Enabled && away != "" {
		w = append(w, "kafka.tls.enabled is false: the network between here and "+away+" can read and change events")
	}
	if away := firstAway([]string{c.Redis.Addr}); needs(role, "redis.addr") && !c.Redis.TLS.Enabled && away != "" {
		w = append(w, "redis.tls.enabled is false: the network between here and "+away+" can read records")
	}
	for name, dsn := range map[string]string{"postgres.dsn": c.Postgres.DSN, "postgres.migrate_dsn": c.Postgres.MigrateDSN} {
		if dsn != "" && needs(role, name) && errors.Is(checkDSN(dsn), errWeak) {
			w = append(w, name+" has no sslmode=verify-full: the network, or whoever answers in the server's place, can read and change what is stored")
		}
	}
	return w
}
