-- What logweir keeps. docs/schema.md says how to query it.

-- One row for each minute, service and level. The worker makes the partitions, one a day (UTC), and drops them
-- when they are older than --retention.
CREATE TABLE log_counts (
  bucket  timestamptz NOT NULL,
  service text        NOT NULL,
  level   text        NOT NULL,
  count   bigint      NOT NULL,
  bytes   bigint      NOT NULL,
  PRIMARY KEY (bucket, service, level),
  CONSTRAINT log_counts_not_negative CHECK (count >= 0 AND bytes >= 0)
) PARTITION BY RANGE (bucket);

COMMENT ON TABLE log_counts IS 'events by minute, service and level; each event counts once';
COMMENT ON COLUMN log_counts.bucket IS 'the start of the minute';
COMMENT ON COLUMN log_counts.bytes IS 'the sum of the events'' lengths as JSON';

CREATE VIEW error_rate_per_minute AS
SELECT bucket,
       service,
       sum(count)::bigint AS total,
       coalesce(sum(count) FILTER (WHERE level IN ('error', 'fatal')), 0)::bigint AS errors,
       coalesce(sum(count) FILTER (WHERE level IN ('error', 'fatal')), 0)::double precision
         / nullif(sum(count), 0)::double precision AS error_rate
FROM log_counts
GROUP BY bucket, service;

COMMENT ON VIEW error_rate_per_minute IS 'errors are error and fatal; error_rate is errors / total';

-- Which event numbers of each producer are counted. Every batch updates its producer's row: the room left on each
-- page, and no index but the key, keep these updates within their page (HOT).
CREATE TABLE batch_ledger (
  producer   uuid           PRIMARY KEY,
  applied    int8multirange NOT NULL DEFAULT '{}',
  updated_at timestamptz    NOT NULL DEFAULT now()
) WITH (fillfactor = 80);

COMMENT ON TABLE batch_ledger IS 'the event numbers that are counted, by producer';

-- What is known to be missing from the counts.
CREATE TABLE losses (
  id       bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at       timestamptz NOT NULL DEFAULT now(),
  producer uuid,
  agent    text,
  bucket   timestamptz,
  reason   text        NOT NULL,
  events   bigint,
  bytes    bigint,
  detail   text
);

COMMENT ON TABLE losses IS 'what is known to be missing from the counts, and why';
COMMENT ON COLUMN losses.bucket IS 'the minute that the events would have counted for, where it is known';
