-- A run's blocks are written before its row of the directory, whose number they carry.

-- +goose Up
GRANT USAGE ON SEQUENCE audittrail.term_runs_run_id_seq TO audittrail_writer;

-- A run may be replaced by several: their spans together must cover each of its spans. (Spans of different runs do not overlap.)
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION audittrail.run_is_covered() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  s record;
BEGIN
  SELECT g.log_id, g.first INTO s
    FROM (SELECT u.* FROM gone, unnest(log_ids, days, firsts, ends) AS u (log_id, day, first, past)) g
    WHERE EXISTS (SELECT FROM audittrail.leaves WHERE parent = 'segments' AND to_day > audittrail.date_of_day(g.day)
                  AND from_day <= audittrail.date_of_day(g.day))
      AND g.past - g.first > (SELECT coalesce(sum(least(u.past, g.past) - greatest(u.first, g.first)), 0)
        FROM audittrail.term_runs r, unnest(r.log_ids, r.days, r.firsts, r.ends) AS u (log_id, day, first, past)
        WHERE u.log_id = g.log_id AND u.day = g.day AND u.first < g.past AND u.past > g.first)
    LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'no other run covers bundle % of log %', s.first, s.log_id USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN NULL;
END $$;
-- +goose StatementEnd
