-- Retention removes days of segments and rollups, and leaves of events that point to nothing any more. Only a member of audittrail_owner can
-- (DETACH and DROP are the owner's), and `audittrail retention apply` is the one that does. What it did stands in the ledger.

-- +goose Up

-- One row for each step that is done. A run that was killed goes on with the first that is not.
CREATE TABLE audittrail.retention_ledger (
  entry_id   int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  parent     text COLLATE "C" NOT NULL CHECK (parent IN ('events', 'segments')),
  leaf       text COLLATE "C" NOT NULL, -- what is removed; with a leaf of segments goes the one of rollups of the same day
  step       text COLLATE "C" NOT NULL CHECK (step IN ('copied', 'bounded', 'dropped', 'audited')),
  -- copied:  what must stay longer stands in a leaf of its own, not attached yet. Of events: nothing is copied, all it points to is gone.
  -- bounded: retention_bounds has the bound; sinks make dead letters of older events from here on.
  -- dropped: the leaf is gone, and the copy, if there is one, stands in its place.
  -- audited: the removal was emitted as an event (event_id), or cannot be and stands here only (null).
  day        int2,          -- of segments: the day
  kept_leaf  text,          -- copied: the leaf with what stays; null: nothing does
  kept_until int2,          -- copied: the day from which something of it is due; null: nothing is kept
  kept       int8,          -- copied: records that stay
  removed    int8,          -- copied: records that go
  event_id   uuid,
  at         timestamptz NOT NULL DEFAULT now(),
  UNIQUE (leaf, step)
);
CREATE TRIGGER no_change BEFORE UPDATE OR DELETE ON audittrail.retention_ledger FOR EACH ROW EXECUTE FUNCTION audittrail.forbid();
ALTER TABLE audittrail.retention_ledger ENABLE ALWAYS TRIGGER no_change;
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON audittrail.retention_ledger FOR EACH STATEMENT EXECUTE FUNCTION audittrail.forbid();
ALTER TABLE audittrail.retention_ledger ENABLE ALWAYS TRIGGER no_truncate;
GRANT SELECT ON audittrail.retention_ledger TO audittrail_reader;

-- A log that stands still may get several bounds at one place.
ALTER TABLE audittrail.retention_bounds DROP CONSTRAINT retention_bounds_pkey;
ALTER TABLE audittrail.retention_bounds ADD PRIMARY KEY (log_id, log_index, removed_before);
