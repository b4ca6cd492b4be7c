-- Roles belong to the server, not to the database: they are made before the first migration, and made again without
-- harm. None can log in; login users are members: GRANT audittrail_writer TO sink_1.
SELECT pg_advisory_xact_lock(7480748002); -- one at a time in this database, until the end of this script

DO $$
DECLARE
  r text;
BEGIN
  FOREACH r IN ARRAY ARRAY['audittrail_owner', 'audittrail_writer', 'audittrail_reader'] LOOP
    BEGIN
      IF to_regrole(r) IS NULL THEN
        EXECUTE format('CREATE ROLE %I NOLOGIN', r);
      END IF;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN
      NULL; -- somebody else made it at the same moment
    END;
  END LOOP;
  IF NOT pg_has_role(current_user, 'audittrail_owner', 'MEMBER') THEN
    EXECUTE format('GRANT audittrail_owner TO %I', current_user);
  END IF;
END $$;

CREATE SCHEMA IF NOT EXISTS audittrail AUTHORIZATION audittrail_owner;
GRANT USAGE ON SCHEMA audittrail TO audittrail_writer, audittrail_reader;
