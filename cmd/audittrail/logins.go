package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"

	"github.com/jackc/pgx/v5"

	"github.com/maxviazov/audittrail/processors/sink/schema"
)

// makeLogins makes the users that the sink and the gateway of `all` log in as, each a member of one role: also in the embedded database the
// program cannot change what it stored. Their passwords are new at each start and nowhere on disk.
func makeLogins(ctx context.Context, superuserDSN string) (sinkDSN, readDSN string, err error) {
	conn, err := pgx.Connect(ctx, superuserDSN)
	if err != nil {
		return "", "", fmt.Errorf("make database users: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	login := func(user, role string) string {
		if err != nil {
			return ""
		}
		password := rand.Text()
		// Names are ours and the password is letters and digits: nothing to quote.
		_, err = conn.Exec(ctx, fmt.Sprintf(`DO $$ BEGIN
			IF to_regrole('%[1]s') IS NULL THEN CREATE ROLE %[1]s LOGIN; END IF;
			ALTER ROLE %[1]s LOGIN PASSWORD '%[2]s';
			GRANT %[3]s TO %[1]s;
		END $$`, user, password, role))
		if err != nil {
			err = fmt.Errorf("make database user %s: %w", user, err)
			return ""
		}
		u := &url.URL{
			Scheme: "postgres", User: url.UserPassword(user, password), Host: fmt.Sprintf("%s:%d", conn.Config().Host, conn.Config().Port),
			Path: "/" + conn.Config().Database, RawQuery: "sslmode=disable",
		}
		return u.String()
	}
	sinkDSN = login("audittrail_embedded_sink", schema.Writer)
	readDSN = login("audittrail_embedded_gateway", schema.Reader)
	return sinkDSN, readDSN, err
}
