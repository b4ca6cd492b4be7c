//go:build mutations

package schema

import "os"

var mutation = map[string]string{
	// Without a unique key a second copy is a second record (the backstop of R6, R16).
	"no-unique-key": `ALTER TABLE audittrail.events DROP CONSTRAINT events_pkey`,
	// Triggers that are not ALWAYS do not fire for a session in replication mode, as a subscription and some tools have.
	"plain-triggers": `DO $$ DECLARE r record; BEGIN
		FOR r IN SELECT t.tgrelid::regclass AS tbl, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
			WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND c.relnamespace = 'audittrail'::regnamespace LOOP
			EXECUTE format('ALTER TABLE %s ENABLE TRIGGER %I', r.tbl, r.tgname);
		END LOOP; END $$`,
}[os.Getenv("AUDITTRAIL_MUTATION")]
