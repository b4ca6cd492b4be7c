package stream

import "fmt"

// CountChanged is the refusal of another number of partitions of the same topic (R18). Kafka lets anyone raise it, but it decides in which log a source
// is: `topics accept-new` cannot accept it.
func CountChanged(topic string, was, is int32) error {
	return fmt.Errorf("topic %s had %d partitions and has %d: the number cannot be changed in place, since it decides in which log a source is. Nothing is lost: what was "+
		"acknowledged stays in %s, and waits. Copy what is in %s by key to another place, delete the topics, make them with `audittrail topics apply` and the number wanted, "+
		"run `audittrail topics accept-new`, and copy it back by key", topic, was, is, Events, Events)
}
