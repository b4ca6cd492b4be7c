-- Rollups: how many events a bundle holds, by minute of occurrence, source, action and outcome. The sink appends them in the transaction
-- that completes the bundle and never changes them, so they are a function of the log, as the segment is; what is in open bundles (the tail) is
-- counted from the tail. A leaf holds what was stored on a day, as of `segments`, and goes with it.

-- +goose Up
CREATE TABLE audittrail.rollups (
  day          int2 NOT NULL, -- day of the bundle, as in segments; the partition key
  occurred_day int2 NOT NULL, -- day on which the counted events occurred (UTC, audittrail.day_number). A bundle has one row for each
  log_id       int2 NOT NULL,
  bundle       int8 NOT NULL,
  records      int2 NOT NULL CHECK (records BETWEEN 1 AND 256), -- sum of the counts
  counts       bytea NOT NULL, -- (minute of the day, source_id, action_id, outcome, count), ascending: internal/rollup has the format
  PRIMARY KEY (occurred_day, log_id, bundle, day)
) PARTITION BY RANGE (day);
ALTER TABLE audittrail.rollups ALTER counts SET STORAGE MAIN; -- some hundred bytes, always read

-- Where the rollups of a log begin: bundles before have none, they were stored by a program that did not make them. No row: at 0.
CREATE TABLE audittrail.rollup_starts (
  log_id int2 PRIMARY KEY,
  bundle int8 NOT NULL
);
INSERT INTO audittrail.rollup_starts SELECT log_id, size / 256 FROM audittrail.heads WHERE size >= 256;

ALTER TABLE audittrail.leaves DROP CONSTRAINT leaves_parent_check;
ALTER TABLE audittrail.leaves ADD CONSTRAINT leaves_parent_check CHECK (parent IN ('events', 'segments', 'rollups'));

-- +goose StatementBegin
DO $$
DECLARE
  t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['rollups', 'rollup_starts'] LOOP
    EXECUTE format('CREATE TRIGGER no_change BEFORE UPDATE OR DELETE ON audittrail.%I FOR EACH ROW EXECUTE FUNCTION audittrail.forbid()', t);
    EXECUTE format('ALTER TABLE audittrail.%I ENABLE ALWAYS TRIGGER no_change', t);
    EXECUTE format('CREATE TRIGGER no_truncate BEFORE TRUNCATE ON audittrail.%I FOR EACH STATEMENT EXECUTE FUNCTION audittrail.forbid()', t);
    EXECUTE format('ALTER TABLE audittrail.%I ENABLE ALWAYS TRIGGER no_truncate', t);
  END LOOP;
END $$;
-- +goose StatementEnd
GRANT SELECT, INSERT ON audittrail.rollups TO audittrail_writer;
GRANT SELECT ON audittrail.rollup_starts TO audittrail_writer;
GRANT SELECT ON audittrail.rollups, audittrail.rollup_starts TO audittrail_reader;

-- As in 0003, with the leaves of rollups.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION audittrail.add_leaf(p_parent text, p_leaf text, p_from date, p_to date) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  lower text;
  upper text;
  options text;
BEGIN
  IF p_parent = 'events' THEN
    lower := CASE WHEN p_from IS NULL THEN 'MINVALUE' ELSE quote_literal(audittrail.id_at(p_from::timestamp AT TIME ZONE 'UTC')) END;
    upper := quote_literal(audittrail.id_at(p_to::timestamp AT TIME ZONE 'UTC'));
    options := 'autovacuum_vacuum_insert_threshold = 200000, autovacuum_vacuum_insert_scale_factor = 0, autovacuum_freeze_min_age = 0';
  ELSE
    lower := audittrail.day_number(p_from);
    upper := audittrail.day_number(p_to);
    options := 'autovacuum_vacuum_insert_threshold = 2000, autovacuum_vacuum_insert_scale_factor = 0, autovacuum_freeze_min_age = 0';
    IF p_parent = 'segments' THEN
      -- The data goes out of line, the filter of up to 2 kB stays in the row: it is read without the data.
      options := options || ', toast_tuple_target = 4096, toast.autovacuum_vacuum_insert_threshold = 20000, '
        'toast.autovacuum_vacuum_insert_scale_factor = 0, toast.autovacuum_freeze_min_age = 0';
    END IF;
  END IF;
  EXECUTE format('CREATE TABLE audittrail.%I (LIKE audittrail.%I INCLUDING ALL) WITH (%s)', p_leaf, p_parent, options);
  EXECUTE format('CREATE TRIGGER no_truncate BEFORE TRUNCATE ON audittrail.%I FOR EACH STATEMENT EXECUTE FUNCTION audittrail.forbid()', p_leaf);
  EXECUTE format('ALTER TABLE audittrail.%I ENABLE ALWAYS TRIGGER no_truncate', p_leaf);
  EXECUTE format('ALTER TABLE audittrail.%I ATTACH PARTITION audittrail.%I FOR VALUES FROM (%s) TO (%s)', p_parent, p_leaf, lower, upper);
  INSERT INTO audittrail.leaves VALUES (p_parent, p_leaf, p_from, p_to);
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION audittrail.extend_leaves(p_until timestamptz) RETURNS int4
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  today date := (now() AT TIME ZONE 'UTC')::date;
  goal date;
  d date;
  made int4 := 0;
  p text;
BEGIN
  FOREACH p IN ARRAY ARRAY['events', 'segments', 'rollups'] LOOP
    goal := today + 2;
    IF p = 'events' THEN
      goal := greatest(goal, least((p_until AT TIME ZONE 'UTC')::date + 1, today + 35));
    END IF;
    SELECT max(to_day) INTO d FROM audittrail.leaves WHERE parent = p;
    CONTINUE WHEN d >= goal;
    PERFORM pg_advisory_xact_lock(hashtext('audittrail.leaves')); -- one maker at a time; the loser finds nothing left to do
    SELECT max(to_day) INTO d FROM audittrail.leaves WHERE parent = p;
    WHILE d < goal LOOP
      PERFORM audittrail.add_leaf(p, format('%s_%s', p, to_char(d, 'YYYYMMDD')), d, d + 1);
      d := d + 1;
      made := made + 1;
    END LOOP;
  END LOOP;
  RETURN made;
END $$;
-- +goose StatementEnd

-- The days that segments has leaves for.
-- +goose StatementBegin
DO $$
DECLARE
  l record;
BEGIN
  FOR l IN SELECT from_day, to_day FROM audittrail.leaves WHERE parent = 'segments' ORDER BY to_day LOOP
    PERFORM audittrail.add_leaf('rollups', format('rollups_%s', to_char(l.from_day, 'YYYYMMDD')), l.from_day, l.to_day);
  END LOOP;
END $$;
-- +goose StatementEnd
