-- Term runs: which of some thousand complete segments hold a term. They are made in the background from the segments (processors/indexer),
-- read by internal/termindex, and can be made again at any time: they are not part of the log.

-- +goose Up

-- The directory. A run covers the segments of its spans: span i is the bundles [firsts[i], ends[i]) of log log_ids[i], all of day days[i]. The
-- ordinal of a segment is its number in the order of spans and bundles, from 0. No segment is in two runs; of each log the runs cover what lies
-- between bundle 0 and some end without holes. Newer segments are found by their filters.
CREATE TABLE audittrail.term_runs (
  run_id    int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  level     int2 NOT NULL,  -- 0: made from segments; n: merged from runs of level n-1
  segments  int4 NOT NULL CHECK (segments > 0),
  log_ids   int2[] NOT NULL,
  days      int2[] NOT NULL,
  firsts    int8[] NOT NULL,
  ends      int8[] NOT NULL,
  min_id    uuid,           -- smallest and greatest id of the records in its segments; null when there are none
  max_id    uuid,
  pairs     int8 NOT NULL,  -- (hash, ordinal) pairs in the blocks
  bytes     int8 NOT NULL,  -- of the blocks' data
  made_at   timestamptz NOT NULL DEFAULT now(),
  CHECK (cardinality(log_ids) > 0 AND cardinality(log_ids) = cardinality(days) AND cardinality(log_ids) = cardinality(firsts)
    AND cardinality(log_ids) = cardinality(ends))
);

-- The blocks of a run: pairs (hash, ordinal) in ascending order, where hash is the upper 32 bits of a term (proto/segment). The ordinals of one hash
-- are all in one block. The block that may have hash h is the one with the greatest first_hash <= h.
CREATE TABLE audittrail.term_blocks (
  run_id     int8 NOT NULL,
  first_hash int8 NOT NULL, -- 0 to 2^32-1: the smallest hash in the block
  data       bytea NOT NULL, -- internal/termindex has the format; some 1,900 bytes, more only for hashes with very many ordinals
  PRIMARY KEY (run_id, first_hash)
) WITH (autovacuum_vacuum_insert_threshold = 20000, autovacuum_vacuum_insert_scale_factor = 0, autovacuum_freeze_min_age = 0);
ALTER TABLE audittrail.term_blocks ALTER data SET STORAGE EXTERNAL;

-- Derived, but what they hide is not found: a run may go only when others cover its segments, or these are gone.
-- +goose StatementBegin
CREATE FUNCTION audittrail.run_is_covered() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  s record;
BEGIN
  SELECT g.log_id, g.first INTO s
    FROM (SELECT u.* FROM gone, unnest(log_ids, days, firsts, ends) AS u (log_id, day, first, past)) g
    WHERE NOT EXISTS (SELECT FROM audittrail.term_runs r, unnest(r.log_ids, r.days, r.firsts, r.ends) AS u (log_id, day, first, past)
                      WHERE u.log_id = g.log_id AND u.day = g.day AND u.first <= g.first AND u.past >= g.past)
      AND EXISTS (SELECT FROM audittrail.leaves WHERE parent = 'segments' AND to_day > audittrail.date_of_day(g.day)
                  AND from_day <= audittrail.date_of_day(g.day))
    LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'no other run covers bundle % of log %', s.first, s.log_id USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN NULL;
END $$;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE FUNCTION audittrail.run_is_gone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT FROM (SELECT DISTINCT run_id FROM gone) g JOIN audittrail.term_runs USING (run_id)) THEN
    RAISE EXCEPTION 'blocks of a term run that is there must stay' USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER covered AFTER DELETE ON audittrail.term_runs REFERENCING OLD TABLE AS gone
  FOR EACH STATEMENT EXECUTE FUNCTION audittrail.run_is_covered();
ALTER TABLE audittrail.term_runs ENABLE ALWAYS TRIGGER covered;
CREATE TRIGGER run_gone AFTER DELETE ON audittrail.term_blocks REFERENCING OLD TABLE AS gone
  FOR EACH STATEMENT EXECUTE FUNCTION audittrail.run_is_gone();
ALTER TABLE audittrail.term_blocks ENABLE ALWAYS TRIGGER run_gone;
-- +goose StatementBegin
DO $$
DECLARE
  t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['term_runs', 'term_blocks'] LOOP
    EXECUTE format('CREATE TRIGGER no_update BEFORE UPDATE ON audittrail.%I FOR EACH ROW EXECUTE FUNCTION audittrail.forbid()', t);
    EXECUTE format('ALTER TABLE audittrail.%I ENABLE ALWAYS TRIGGER no_update', t);
    EXECUTE format('CREATE TRIGGER no_truncate BEFORE TRUNCATE ON audittrail.%I FOR EACH STATEMENT EXECUTE FUNCTION audittrail.forbid()', t);
    EXECUTE format('ALTER TABLE audittrail.%I ENABLE ALWAYS TRIGGER no_truncate', t);
  END LOOP;
END $$;
-- +goose StatementEnd
GRANT SELECT, INSERT, DELETE ON audittrail.term_runs, audittrail.term_blocks TO audittrail_writer;
GRANT SELECT ON audittrail.term_runs, audittrail.term_blocks TO audittrail_reader;
