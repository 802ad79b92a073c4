-- Coarser views, and what the worker and the dashboards may do. docs/schema.md has the queries and the rights.

-- The hours and days (UTC) are listed first and their counts looked up by key, so that a lower bound on the view's
-- bucket reads those days only: a plain GROUP BY on date_trunc would read them all.
CREATE VIEW counts_per_hour AS
SELECT h.bucket, c.service, c.level, sum(c.count)::bigint AS count, sum(c.bytes)::bigint AS bytes
FROM generate_series(
       (SELECT date_trunc('hour', min(bucket), 'UTC') FROM log_counts),
       (SELECT max(bucket) FROM log_counts),
       interval '1 hour'
     ) AS h (bucket)
JOIN log_counts AS c ON c.bucket >= h.bucket AND c.bucket < h.bucket + interval '1 hour'
GROUP BY h.bucket, c.service, c.level;

-- 24 hours, since a day of the session's time zone may have 23 or 25.
CREATE VIEW counts_per_day AS
SELECT d.bucket, c.service, c.level, sum(c.count)::bigint AS count, sum(c.bytes)::bigint AS bytes
FROM generate_series(
       (SELECT date_trunc('day', min(bucket), 'UTC') FROM log_counts),
       (SELECT max(bucket) FROM log_counts),
       interval '24 hours'
     ) AS d (bucket)
JOIN log_counts AS c ON c.bucket >= d.bucket AND c.bucket < d.bucket + interval '24 hours'
GROUP BY d.bucket, c.service, c.level;

COMMENT ON VIEW counts_per_hour IS 'log_counts by hour';
COMMENT ON VIEW counts_per_day IS 'log_counts by day (UTC)';

-- Only its owner may attach and drop partitions. These two run with the owner's rights and do nothing else, so the
-- worker needs neither ownership nor CREATE, and all partitions have one owner whoever had them made.
CREATE FUNCTION logweir_make_partition(day date) RETURNS boolean
LANGUAGE plpgsql STRICT SECURITY DEFINER AS $$
DECLARE
  name text := 'log_counts_' || to_char(day, 'YYYYMMDD');
BEGIN
  -- One after another: `lwpt` in ASCII.
  PERFORM pg_advisory_xact_lock(1819766900);
  IF EXISTS (SELECT FROM pg_inherits WHERE inhparent = 'log_counts'::regclass AND inhrelid = to_regclass(name)) THEN
    RETURN false;
  END IF;
  IF to_regclass(name) IS NOT NULL THEN
    RAISE EXCEPTION 'table % is in the way, being no partition of log_counts: attach it, or rename it', name
      USING ERRCODE = 'duplicate_table';
  END IF;
  -- Made on its own and then attached, since that doesn't wait for those who read the counts. The room left on each
  -- page keeps the counts' many updates within it (HOT).
  EXECUTE format('CREATE TABLE %I (LIKE log_counts INCLUDING ALL) WITH (fillfactor = 80)', name);
  EXECUTE format(
    'ALTER TABLE log_counts ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
    name, to_char(day, 'YYYY-MM-DD') || ' 00:00:00+00', to_char(day + 1, 'YYYY-MM-DD') || ' 00:00:00+00'
  );
  RETURN true;
END
$$;

CREATE FUNCTION logweir_drop_partition(day date) RETURNS boolean
LANGUAGE plpgsql STRICT SECURITY DEFINER AS $$
DECLARE
  name text := 'log_counts_' || to_char(day, 'YYYYMMDD');
BEGIN
  IF NOT EXISTS (SELECT FROM pg_inherits WHERE inhparent = 'log_counts'::regclass AND inhrelid = to_regclass(name)) THEN
    RETURN false;
  END IF;
  EXECUTE format('DROP TABLE %I', name);
  RETURN true;
END
$$;

COMMENT ON FUNCTION logweir_make_partition(date) IS 'makes the partition of a day (UTC); false when it is there';
COMMENT ON FUNCTION logweir_drop_partition(date) IS 'drops the partition of a day (UTC); false when there is none';

-- Roles belong to the whole server: another database may have made them. Where the user may not make roles, it warns and
-- goes on; once somebody has made them, the owner runs it again.
CREATE FUNCTION logweir_grant() RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
  role text;
  schema text := current_schema();
BEGIN
  FOREACH role IN ARRAY ARRAY['logweir_worker', 'logweir_reader'] LOOP
    IF to_regrole(role) IS NULL THEN
      BEGIN
        EXECUTE format('CREATE ROLE %I NOLOGIN', role);
      EXCEPTION
        WHEN duplicate_object OR unique_violation THEN
          NULL;
        WHEN insufficient_privilege THEN
          RAISE WARNING 'role % is missing, and % may not create it: where it is wanted, have it created, then run SELECT logweir_grant()',
            role, current_user;
          CONTINUE;
      END;
    END IF;
    IF NOT has_schema_privilege(role, schema, 'USAGE') THEN
      EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', schema, role);
    END IF;
  END LOOP;

  IF to_regrole('logweir_worker') IS NOT NULL THEN
    GRANT SELECT, INSERT, UPDATE (count, bytes) ON log_counts TO logweir_worker;
    GRANT SELECT, INSERT, UPDATE, DELETE ON batch_ledger TO logweir_worker;
    GRANT SELECT, INSERT, DELETE ON losses TO logweir_worker;
    GRANT SELECT ON refinery_schema_history TO logweir_worker;
    GRANT EXECUTE ON FUNCTION logweir_make_partition(date), logweir_drop_partition(date) TO logweir_worker;
  END IF;
  -- A producer's ID is a capability: who knows it can send under its numbers. So neither the ledger nor that column.
  IF to_regrole('logweir_reader') IS NOT NULL THEN
    GRANT SELECT ON log_counts, error_rate_per_minute, counts_per_hour, counts_per_day TO logweir_reader;
    GRANT SELECT (id, at, agent, bucket, reason, events, bytes, detail) ON losses TO logweir_reader;
  END IF;
END
$$;

COMMENT ON FUNCTION logweir_grant() IS 'makes logweir_worker and logweir_reader, if need be, and grants them what they need';

REVOKE EXECUTE ON FUNCTION logweir_make_partition(date), logweir_drop_partition(date), logweir_grant() FROM PUBLIC;

DO $$
DECLARE
  owner name := (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'log_counts'::regclass);
  made text;
BEGIN
  FOREACH made IN ARRAY ARRAY['logweir_make_partition(date)', 'logweir_drop_partition(date)', 'logweir_grant()'] LOOP
    -- Nobody's own tables or functions come before these, whatever the caller's search path.
    EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', made, current_schema());
    EXECUTE format('ALTER FUNCTION %s OWNER TO %I', made, owner);
  END LOOP;
  EXECUTE format('ALTER VIEW counts_per_hour OWNER TO %I', owner);
  EXECUTE format('ALTER VIEW counts_per_day OWNER TO %I', owner);
  PERFORM logweir_grant();
END
$$;
