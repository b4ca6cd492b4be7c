-- The layout of the logs. Each Kafka partition is one log, a dense array of entries (records, gaps, dead letters); 256
-- entries are a bundle. Everything is owned by audittrail_owner, which cannot log in.

-- +goose Up

-- Days are numbered from 2000-01-01 UTC, so that they fit an int2 until 2089.
CREATE FUNCTION audittrail.day_number(d date) RETURNS int2
  LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$ SELECT (d - date '2000-01-01')::int2 $$;
CREATE FUNCTION audittrail.date_of_day(day int2) RETURNS date
  LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$ SELECT date '2000-01-01' + day::int4 $$;

-- The leading 48 bits of an event's id are its time of occurrence in milliseconds: the smallest id of a moment, and back.
CREATE FUNCTION audittrail.id_at(t timestamptz) RETURNS uuid
  LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS
  $$ SELECT (lpad(to_hex(floor(extract(epoch FROM t) * 1000)::int8), 12, '0') || repeat('0', 20))::uuid $$;
CREATE FUNCTION audittrail.occurred_at(id uuid) RETURNS timestamptz
  LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS
  $$ SELECT timestamptz 'epoch' + ('x' || lpad(left(replace(id::text, '-', ''), 12), 16, '0'))::bit(64)::int8 * interval '1 millisecond' $$;

-- One row a log: what the sink has stored, locked and compared in every transaction.
CREATE TABLE audittrail.heads (
  log_id           int2 PRIMARY KEY CHECK (log_id >= 0), -- the partition
  owner            uuid NOT NULL,          -- the session that claimed the log last
  events_topic_id  bytea NOT NULL CHECK (octet_length(events_topic_id) = 16),
  records_topic_id bytea NOT NULL CHECK (octet_length(records_topic_id) = 16),
  partitions       int4 NOT NULL CHECK (partitions > log_id),
  next_offset      int8 NOT NULL DEFAULT 0, -- first slot of audit-events that is not covered: offset,
  next_index       int4 NOT NULL DEFAULT 0, -- and index in the message
  records_position int8 NOT NULL DEFAULT 0, -- first message of audit-records that is not stored
  size             int8 NOT NULL DEFAULT 0, -- entries in the log
  open_day         int2 NOT NULL DEFAULT 0, -- day of the bundle that entry size-1 belongs to, while it is incomplete
  frontier         bytea NOT NULL DEFAULT '', -- RFC 6962: roots of the full subtrees of `size` leaves, largest first, 32 bytes each
  records          int8 NOT NULL DEFAULT 0, -- events stored
  drops            int8 NOT NULL DEFAULT 0, -- duplicates dropped by the enricher
  duplicates       int8 NOT NULL DEFAULT 0, -- duplicates found here
  dead_letters     int8 NOT NULL DEFAULT 0,
  gaps             int8 NOT NULL DEFAULT 0,
  stored_at        timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0);

-- One narrow row an event, in the order of occurrence: uniqueness, order, and SQL for people. The record itself is entry
-- log_index of the log: in segments (day, log_id, log_index / 256), or in the tail while that bundle is open.
CREATE TABLE audittrail.events (
  log_index   int8 NOT NULL,
  fingerprint int8 NOT NULL, -- first 8 bytes of SHA-256 of the canonical form of the producer's content
  source_id   int4 NOT NULL, -- audittrail.sources
  action_id   int4 NOT NULL, -- audittrail.actions; 0: not in the dictionary
  log_id      int2 NOT NULL,
  outcome     int2 NOT NULL, -- number of audittrail.v1.Outcome
  day         int2 NOT NULL, -- day of the bundle
  id          uuid PRIMARY KEY
) PARTITION BY RANGE (id);

-- Entries of open bundles. A row holds n entries from first_index on, all of one bundle, encoded as in a segment.
CREATE TABLE audittrail.tail (
  log_id      int2 NOT NULL,
  first_index int8 NOT NULL,
  n           int2 NOT NULL CHECK (n BETWEEN 1 AND 256),
  data        bytea NOT NULL,
  PRIMARY KEY (log_id, first_index)
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);

-- Complete bundles: entries 256 * bundle to 256 * bundle + 255 of a log. See docs/segment-format.md.
CREATE TABLE audittrail.segments (
  day    int2 NOT NULL, -- when the first entry was appended
  log_id int2 NOT NULL,
  bundle int8 NOT NULL,
  min_id uuid,          -- smallest and greatest id of its records; null when it has none
  max_id uuid,
  filter bytea,         -- Bloom filter of its terms; null: no filter
  data   bytea NOT NULL,
  PRIMARY KEY (day, log_id, bundle)
) PARTITION BY RANGE (day);
ALTER TABLE audittrail.segments ALTER filter SET STORAGE MAIN, ALTER data SET STORAGE EXTERNAL;

-- Level 0 of each log's Merkle tree: the 256 leaf hashes of each complete bundle. Outlives retention; also the way from a
-- log index to the day of its segment.
CREATE TABLE audittrail.tiles0 (
  log_id int2 NOT NULL,
  bundle int8 NOT NULL,
  day    int2 NOT NULL,
  hashes bytea NOT NULL CHECK (octet_length(hashes) = 8192),
  PRIMARY KEY (log_id, bundle)
) WITH (autovacuum_vacuum_insert_threshold = 2000, autovacuum_vacuum_insert_scale_factor = 0, autovacuum_freeze_min_age = 0,
        toast.autovacuum_vacuum_insert_threshold = 20000, toast.autovacuum_vacuum_insert_scale_factor = 0,
        toast.autovacuum_freeze_min_age = 0);
ALTER TABLE audittrail.tiles0 ALTER hashes SET STORAGE EXTERNAL;

-- Dictionaries. COLLATE "C": a prefix of a path is a range.
CREATE TABLE audittrail.sources (
  source_id int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  path      text COLLATE "C" NOT NULL UNIQUE
);
CREATE TABLE audittrail.actions (
  action_id int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- at most 100,000, then events have 0
  name      text COLLATE "C" NOT NULL UNIQUE
);

-- What could not be processed. Each is also entry log_index of its log (slot, reason, SHA-256).
CREATE TABLE audittrail.deadletters (
  deadletter_id   int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  log_id          int2 NOT NULL,
  log_index       int8 NOT NULL,
  input_offset    int8 NOT NULL, -- slot of audit-events
  input_index     int4 NOT NULL,
  whole_message   bool NOT NULL,
  reason          text COLLATE "C" NOT NULL,
  detail          text NOT NULL,
  source          text COLLATE "C" NOT NULL, -- the key as text; not always the path of a source
  key             bytea NOT NULL,            -- the key as it came
  original        bytea NOT NULL,            -- at most the first 64 KiB
  original_size   int8 NOT NULL,
  original_sha256 bytea NOT NULL,
  stored_at       timestamptz NOT NULL DEFAULT now(),
  redriven_at     timestamptz,
  UNIQUE (log_id, log_index)
);
CREATE INDEX deadletters_pending ON audittrail.deadletters (deadletter_id) WHERE redriven_at IS NULL;

-- The gap ledger: slots of audit-events whose content was lost before it could be stored. Each is also an entry of its log.
CREATE TABLE audittrail.gaps (
  gap_id          int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  log_id          int2 NOT NULL,
  log_index       int8 NOT NULL,
  events_topic_id bytea NOT NULL,
  from_offset     int8 NOT NULL,
  from_index      int4 NOT NULL,
  end_offset      int8 NOT NULL,
  end_index       int4 NOT NULL,
  reason          text COLLATE "C" NOT NULL, -- EXPIRED_INPUT, DROP_WITHOUT_FIRST_COPY
  recorded_at     timestamptz NOT NULL DEFAULT now(),
  filled_at       timestamptz, -- when the last of its slots was filled after all
  UNIQUE (log_id, log_index)
);
CREATE INDEX gaps_open ON audittrail.gaps (log_id, gap_id) WHERE filled_at IS NULL;

-- Parts of gaps that were filled late.
CREATE TABLE audittrail.gap_fills (
  gap_id      int8 NOT NULL REFERENCES audittrail.gaps,
  from_offset int8 NOT NULL,
  from_index  int4 NOT NULL,
  end_offset  int8 NOT NULL,
  end_index   int4 NOT NULL,
  filled_at   timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (gap_id, from_offset, from_index)
);

-- What retention has removed: an event with a smaller id is not stored again, but a dead letter EXPIRED. The bound is an
-- entry of the log, so that a log that is built again takes the same decisions.
CREATE TABLE audittrail.retention_bounds (
  log_id         int2 NOT NULL,
  log_index      int8 NOT NULL,
  removed_before uuid NOT NULL,
  PRIMARY KEY (log_id, log_index)
);

-- The leaves of the partitioned tables: days [from_day, to_day); from_day is null for everything before.
CREATE TABLE audittrail.leaves (
  parent   text NOT NULL CHECK (parent IN ('events', 'segments')),
  leaf     text NOT NULL UNIQUE,
  from_day date,
  to_day   date NOT NULL,
  PRIMARY KEY (parent, to_day)
);
