// Package embeddedtest gives tests the real parts that AuditTrail talks to: Kafka's protocol by an in-process broker
// ([Kafka]), PostgreSQL ([Postgres], [PostgresServer]) and Redis ([Redis]). Everything listens on free loopback ports, lives in
// temporary directories, and goes away with the test process, also after kill -9.
//
// [Postgres] starts one server for the test process, at its first call, and gives each test a fresh database on it. Packages
// that use it call [Main] from TestMain, which stops that server:
//
//	func TestMain(m *testing.M) { os.Exit(embeddedtest.Main(m)) }
//
// AUDITTRAIL_TEST_PG chooses the version: 18 (default; binaries fetched once by the embedded-postgres library) or 15 (Debian's package).
package embeddedtest
