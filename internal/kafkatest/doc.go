// Package kafkatest runs a real Apache Kafka for tests and benchmarks, without containers: the broker's
// jars come through Maven once and stay in the user's cache directory; one or three nodes run in KRaft
// combined mode on free loopback ports.
//
// Guarantees: every broker listens on 127.0.0.1 only. A node keeps its ports and its data over Kill9
// and Restart. On Linux no broker outlives the process that started it, also after kill -9 of that
// process.
//
// It needs Java 17 or later and, the first time, Maven (`mvn`) and about 60 MB. Start skips the test
// where they are missing, and fails it when CI=true. What it does not do: separate controllers.
package kafkatest
