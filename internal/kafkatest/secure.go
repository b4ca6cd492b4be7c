package kafkatest

import (
	"fmt"
	"maps"

	"github.com/maxviazov/audittrail/proto/stream"
)

// Secure makes a cluster that speaks TLS only, to clients that have a certificate and to users that know their password, also between its
// own brokers and controllers.
type Secure struct {
	// KeyStore is a PEM file with the brokers' private key (PKCS #8) and certificate, for 127.0.0.1.
	KeyStore string
	// CA is a PEM file with the CAs that clients' certificates must be of.
	CA string
	// User and Password are made when the cluster is, with SCRAM-SHA-256 and SCRAM-SHA-512.
	User, Password string
	// Client says how the cluster itself is asked whether it is ready; without brokers.
	Client stream.Settings
}

const listener = "SASL_SSL"

// properties add to what Options.properties gives.
func (s *Secure) properties(n *node) map[string]string {
	login := fmt.Sprintf("org.apache.kafka.common.security.scram.ScramLoginModule required username=%q password=%q;", s.User, s.Password)
	p := map[string]string{
		"listeners":                            fmt.Sprintf(listener+"://127.0.0.1:%d,CONTROLLER://127.0.0.1:%d", n.port, n.controllerPort),
		"advertised.listeners":                 listener + "://" + n.addr(),
		"listener.security.protocol.map":       "CONTROLLER:SSL," + listener + ":" + listener,
		"inter.broker.listener.name":           listener,
		"sasl.enabled.mechanisms":              "SCRAM-SHA-512,SCRAM-SHA-256",
		"sasl.mechanism.inter.broker.protocol": "SCRAM-SHA-512",
		"ssl.keystore.type":                    "PEM",
		"ssl.keystore.location":                s.KeyStore,
		"ssl.truststore.type":                  "PEM",
		"ssl.truststore.location":              s.CA,
		"ssl.client.auth":                      "required",
		"ssl.enabled.protocols":                "TLSv1.3",
		// With SASL_SSL Kafka heeds ssl.client.auth of the listener only.
		"listener.name.sasl_ssl.ssl.client.auth": "required",
	}
	for _, mechanism := range []string{"scram-sha-256", "scram-sha-512"} {
		p["listener.name.sasl_ssl."+mechanism+".sasl.jaas.config"] = login
	}
	return p
}

// users are arguments of the tool that formats a node.
func (s *Secure) users() []string {
	if s == nil {
		return nil
	}
	var args []string
	for _, mechanism := range []stream.Mechanism{stream.SCRAMSHA256, stream.SCRAMSHA512} {
		args = append(args, "--add-scram", fmt.Sprintf("%s=[name=%s,password=%s]", mechanism, s.User, s.Password))
	}
	return args
}

func (o Options) secure(n *node, p map[string]string) {
	if o.Secure != nil {
		maps.Copy(p, o.Secure.properties(n))
	}
}
