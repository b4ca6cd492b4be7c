-- Leaves are made ahead of the writing. CREATE TABLE (LIKE ...) and ATTACH block nobody; CREATE TABLE ... PARTITION OF would wait
-- for, and hold up, every reader. There is no DEFAULT partition: it would spoil both ATTACH and DETACH CONCURRENTLY.

-- +goose Up
-- +goose StatementBegin
CREATE FUNCTION audittrail.add_leaf(p_parent text, p_leaf text, p_from date, p_to date) RETURNS void
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
    -- The data goes out of line, the filter of up to 2 kB stays in the row: it is read without the data.
    options := 'toast_tuple_target = 4096, autovacuum_vacuum_insert_threshold = 2000, autovacuum_vacuum_insert_scale_factor = 0, autovacuum_freeze_min_age = 0, '
      'toast.autovacuum_vacuum_insert_threshold = 20000, toast.autovacuum_vacuum_insert_scale_factor = 0, toast.autovacuum_freeze_min_age = 0';
  END IF;
  EXECUTE format('CREATE TABLE audittrail.%I (LIKE audittrail.%I INCLUDING ALL) WITH (%s)', p_leaf, p_parent, options);
  EXECUTE format('CREATE TRIGGER no_truncate BEFORE TRUNCATE ON audittrail.%I FOR EACH STATEMENT EXECUTE FUNCTION audittrail.forbid()', p_leaf);
  EXECUTE format('ALTER TABLE audittrail.%I ENABLE ALWAYS TRIGGER no_truncate', p_leaf);
  EXECUTE format('ALTER TABLE audittrail.%I ATTACH PARTITION audittrail.%I FOR VALUES FROM (%s) TO (%s)', p_parent, p_leaf, lower, upper);
  INSERT INTO audittrail.leaves VALUES (p_parent, p_leaf, p_from, p_to);
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION audittrail.add_leaf(text, text, date, date) FROM PUBLIC;

-- Makes what is missing: daily leaves of both tables to the end of tomorrow, of events to the end of p_until's day as well, but not
-- further than 35 days from now. Returns how many it made. The writer may call it and cannot choose anything else.
-- +goose StatementBegin
CREATE FUNCTION audittrail.extend_leaves(p_until timestamptz) RETURNS int4
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  today date := (now() AT TIME ZONE 'UTC')::date;
  goal date;
  d date;
  made int4 := 0;
  p text;
BEGIN
  FOREACH p IN ARRAY ARRAY['events', 'segments'] LOOP
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
REVOKE ALL ON FUNCTION audittrail.extend_leaves(timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audittrail.extend_leaves(timestamptz) TO audittrail_writer;

-- The first leaves: one for everything older than a year, months until today, days from today on.
-- +goose StatementBegin
DO $$
DECLARE
  today date := (now() AT TIME ZONE 'UTC')::date;
  month date := date_trunc('month', (now() AT TIME ZONE 'UTC') - interval '1 year')::date;
BEGIN
  PERFORM audittrail.add_leaf('events', 'events_old', NULL, month);
  WHILE month < date_trunc('month', today) LOOP
    PERFORM audittrail.add_leaf('events', format('events_%s', to_char(month, 'YYYYMM')), month, (month + interval '1 month')::date);
    month := (month + interval '1 month')::date;
  END LOOP;
  IF month < today THEN -- what has passed of this month
    PERFORM audittrail.add_leaf('events', format('events_%s', to_char(month, 'YYYYMM')), month, today);
  END IF;
  PERFORM audittrail.add_leaf('events', format('events_%s', to_char(today, 'YYYYMMDD')), today, today + 1);
  PERFORM audittrail.add_leaf('segments', format('segments_%s', to_char(today - 1, 'YYYYMMDD')), today - 1, today); -- for a clock that is behind
  PERFORM audittrail.extend_leaves(now());
END $$;
-- +goose StatementEnd
