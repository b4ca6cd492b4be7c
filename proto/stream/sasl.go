package stream

import (
	"fmt"

	"github.com/IBM/sarama"
	"github.com/xdg-go/scram"
)

// Mechanism is a way to prove to a broker who we are. All are SCRAM (RFC 5802): the password itself never goes over the network.
type Mechanism string

// The mechanisms.
const (
	SCRAMSHA256 Mechanism = sarama.SASLTypeSCRAMSHA256
	SCRAMSHA512 Mechanism = sarama.SASLTypeSCRAMSHA512
)

// SASL says who we are to the brokers.
type SASL struct {
	// Mechanism is SCRAM-SHA-256 or SCRAM-SHA-512.
	Mechanism Mechanism
	// Username is the user's name.
	Username string
	// Password returns the password of the moment; it is asked for each connection, so that a changed one needs no restart.
	Password func() (string, error)
}

func (s *SASL) apply(c *sarama.Config) {
	if s == nil {
		return
	}
	c.Net.SASL.Enable = true
	c.Net.SASL.Mechanism = sarama.SASLMechanism(s.Mechanism)
	c.Net.SASL.User = s.Username
	c.Net.SASL.Password = "-" // sarama wants one; the exchange asks for it
	c.Net.SASL.SCRAMClientGeneratorFunc = func() sarama.SCRAMClient { return &scramClient{sasl: s} }
}

// scramClient is one exchange.
type scramClient struct {
	sasl *SASL
	conv *scram.ClientConversation
}

// Begin implements sarama.SCRAMClient.
func (c *scramClient) Begin(username, _, authzID string) error {
	password, err := c.sasl.Password()
	if err != nil {
		return fmt.Errorf("password of kafka user %s: %w", username, err)
	}
	hash := scram.SHA512
	if c.sasl.Mechanism == SCRAMSHA256 {
		hash = scram.SHA256
	}
	client, err := hash.NewClient(username, password, authzID)
	if err != nil {
		return fmt.Errorf("authenticate kafka user %s: %w", username, err)
	}
	c.conv = client.NewConversation()
	return nil
}

// Step implements sarama.SCRAMClient. The last step verifies that the broker knows the password too.
func (c *scramClient) Step(challenge string) (string, error) { return c.conv.Step(challenge) }

// Done implements sarama.SCRAMClient.
func (c *scramClient) Done() bool { return c.conv.Done() }
