-- What was written stays: triggers that fire for every role and in every replication mode, and narrow grants. They stop
-- accidents and the writer; a superuser can remove them, and is found out by the hashes. (An event trigger that refuses DDL
-- outside the functions below needs a superuser and comes with the security issue.)

-- +goose Up
-- +goose StatementBegin
CREATE FUNCTION audittrail.forbid() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'append only: % on %', lower(TG_OP), TG_RELID::regclass USING ERRCODE = 'insufficient_privilege';
END $$;
-- +goose StatementEnd

-- Only the column named by the trigger's argument may change.
-- +goose StatementBegin
CREATE FUNCTION audittrail.only_mark() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF to_jsonb(NEW) - TG_ARGV[0] IS DISTINCT FROM to_jsonb(OLD) - TG_ARGV[0] THEN
    RAISE EXCEPTION 'append only: of % only % may change', TG_RELID::regclass, TG_ARGV[0] USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN NEW;
END $$;
-- +goose StatementEnd

-- A log only grows, and its input position goes back only when the input topic is another one.
-- +goose StatementBegin
CREATE FUNCTION audittrail.only_forward() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.log_id <> OLD.log_id OR NEW.size < OLD.size
    OR (NEW.events_topic_id = OLD.events_topic_id AND (NEW.next_offset, NEW.next_index) < (OLD.next_offset, OLD.next_index))
    OR (NEW.records_topic_id = OLD.records_topic_id AND NEW.records_position < OLD.records_position) THEN
    RAISE EXCEPTION 'append only: log % would go back', OLD.log_id USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN NEW;
END $$;
-- +goose StatementEnd

-- Tail rows may go only when the segment of their bundle is there.
-- +goose StatementBegin
CREATE FUNCTION audittrail.tail_has_segment() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  b record;
  found_it bool;
BEGIN
  FOR b IN SELECT g.log_id, g.first_index / 256 AS bundle, t.day
           FROM (SELECT DISTINCT log_id, first_index / 256 * 256 AS first_index FROM gone) g
           LEFT JOIN audittrail.tiles0 t ON t.log_id = g.log_id AND t.bundle = g.first_index / 256 LOOP
    -- EXECUTE plans with the values, so that one leaf is opened and not all of them.
    EXECUTE 'SELECT EXISTS (SELECT 1 FROM audittrail.segments WHERE day = $1 AND log_id = $2 AND bundle = $3)'
      INTO found_it USING b.day, b.log_id, b.bundle;
    IF NOT found_it THEN
      RAISE EXCEPTION 'append only: bundle % of log % has no segment, its tail must stay', b.bundle, b.log_id
        USING ERRCODE = 'insufficient_privilege';
    END IF;
  END LOOP;
  RETURN NULL;
END $$;
-- +goose StatementEnd

-- Row triggers of a partitioned table are cloned to its leaves; TRUNCATE triggers are not, leaves get theirs when made.
-- +goose StatementBegin
DO $$
DECLARE
  t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['events', 'segments', 'tiles0', 'sources', 'actions', 'gap_fills', 'retention_bounds'] LOOP
    EXECUTE format('CREATE TRIGGER no_change BEFORE UPDATE OR DELETE ON audittrail.%I FOR EACH ROW EXECUTE FUNCTION audittrail.forbid()', t);
    EXECUTE format('ALTER TABLE audittrail.%I ENABLE ALWAYS TRIGGER no_change', t);
  END LOOP;
  FOREACH t IN ARRAY ARRAY['heads', 'deadletters', 'gaps'] LOOP
    EXECUTE format('CREATE TRIGGER no_delete BEFORE DELETE ON audittrail.%I FOR EACH ROW EXECUTE FUNCTION audittrail.forbid()', t);
    EXECUTE format('ALTER TABLE audittrail.%I ENABLE ALWAYS TRIGGER no_delete', t);
  END LOOP;
  FOREACH t IN ARRAY ARRAY['heads', 'events', 'tail', 'segments', 'tiles0', 'sources', 'actions', 'deadletters', 'gaps', 'gap_fills',
                           'retention_bounds', 'leaves'] LOOP
    EXECUTE format('CREATE TRIGGER no_truncate BEFORE TRUNCATE ON audittrail.%I FOR EACH STATEMENT EXECUTE FUNCTION audittrail.forbid()', t);
    EXECUTE format('ALTER TABLE audittrail.%I ENABLE ALWAYS TRIGGER no_truncate', t);
  END LOOP;
END $$;
-- +goose StatementEnd

CREATE TRIGGER forward BEFORE UPDATE ON audittrail.heads FOR EACH ROW EXECUTE FUNCTION audittrail.only_forward();
ALTER TABLE audittrail.heads ENABLE ALWAYS TRIGGER forward;
CREATE TRIGGER mark BEFORE UPDATE ON audittrail.deadletters FOR EACH ROW EXECUTE FUNCTION audittrail.only_mark('redriven_at');
ALTER TABLE audittrail.deadletters ENABLE ALWAYS TRIGGER mark;
CREATE TRIGGER mark BEFORE UPDATE ON audittrail.gaps FOR EACH ROW EXECUTE FUNCTION audittrail.only_mark('filled_at');
ALTER TABLE audittrail.gaps ENABLE ALWAYS TRIGGER mark;
CREATE TRIGGER no_update BEFORE UPDATE ON audittrail.tail FOR EACH ROW EXECUTE FUNCTION audittrail.forbid();
ALTER TABLE audittrail.tail ENABLE ALWAYS TRIGGER no_update;
CREATE TRIGGER has_segment AFTER DELETE ON audittrail.tail REFERENCING OLD TABLE AS gone
  FOR EACH STATEMENT EXECUTE FUNCTION audittrail.tail_has_segment();
ALTER TABLE audittrail.tail ENABLE ALWAYS TRIGGER has_segment;

-- What the sink needs, and no more.
GRANT SELECT, INSERT ON audittrail.heads, audittrail.events, audittrail.tail, audittrail.segments, audittrail.tiles0, audittrail.sources,
  audittrail.actions, audittrail.deadletters, audittrail.gaps, audittrail.gap_fills TO audittrail_writer;
GRANT SELECT ON audittrail.retention_bounds, audittrail.leaves, audittrail.schema_version TO audittrail_writer;
GRANT UPDATE ON audittrail.heads TO audittrail_writer;
GRANT UPDATE (filled_at) ON audittrail.gaps TO audittrail_writer;
GRANT DELETE ON audittrail.tail TO audittrail_writer;
GRANT SELECT ON ALL TABLES IN SCHEMA audittrail TO audittrail_reader;

-- The one mark that operators set, through the gateway: these dead letters were sent again. Returns how many there are.
-- +goose StatementBegin
CREATE FUNCTION audittrail.mark_redriven(ids int8[]) RETURNS int8
  LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  WITH marked AS (UPDATE audittrail.deadletters SET redriven_at = now() WHERE deadletter_id = ANY (ids) RETURNING 1)
  SELECT count(*) FROM marked
$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION audittrail.mark_redriven(int8[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audittrail.mark_redriven(int8[]) TO audittrail_reader, audittrail_writer;
