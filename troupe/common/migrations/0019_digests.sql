-- A day's digest: what follows from the day's rows alone is worked out before anything is locked, so
-- that publications of a tenant, which come one after the other, take no longer than they must.
-- docs/adr/0024-digests.md tells why.

-- The tables of a digest: the ending of a name in schema staging beside the staged table's own (which
-- leaves eight characters), the name by which statements know it, and the columns.
CREATE FUNCTION data.digest_tables() RETURNS TABLE (ending text, name text, columns text)
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    VALUES ('_visits', 'day_sessions', 'SELECT * FROM data.sessions'),
           ('_hours', 'day_activity', 'SELECT * FROM data.activity'),
           ('_looks', 'day_interests', 'SELECT * FROM data.interests'),
           ('_acts', 'day_acts',
            'SELECT tenant_id, event_at, event_name, stream_id, user_pseudo_id, ga_session_id,'
            ' customer_id, location_id, search_term, currency, event_value, transaction_id,'
            ' purchase_revenue, refund_value, items, bundle_sequence_id, batch_event_index'
            ' FROM data.events')
$$;

-- Drops what a staged table's digest left; the caller has made sure whose it is.
CREATE FUNCTION data.drop_digest(p_table text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    ending text;
BEGIN
    FOR ending IN SELECT d.ending FROM data.digest_tables() AS d LOOP
        IF to_regclass(format('staging.%I', p_table || ending)) IS NOT NULL THEN
            EXECUTE format('DROP TABLE staging.%I', p_table || ending);
        END IF;
    END LOOP;
END
$$;

-- As before, and autovacuum leaves a staged table alone: it cannot help a table that is about to be
-- complete, and it would stand in the way of those who seal and publish it.
CREATE OR REPLACE FUNCTION data.stage_day(p_tenant uuid, p_source_day date, p_job uuid) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    parent text := data.tenant_partition(p_tenant);
    name text := format('%s_%s_%s', parent, to_char(p_source_day, 'YYYYMMDD'),
                        left(replace(gen_random_uuid()::text, '-', ''), 6));
BEGIN
    PERFORM data.demand_tenant(p_tenant);
    IF to_regclass(format('data.%I', parent)) IS NULL THEN
        -- Two days of a new tenant may come here at once. The lock is the one that attaching takes
        -- anyway; waiting for it also makes what the other one did visible.
        LOCK TABLE data.events IN SHARE UPDATE EXCLUSIVE MODE;
        IF to_regclass(format('data.%I', parent)) IS NULL THEN
            -- Made, guarded, then attached: CREATE … PARTITION OF would lock out every reader.
            EXECUTE format('CREATE TABLE data.%I (LIKE data.events INCLUDING ALL)'
                           ' PARTITION BY RANGE (source_day)', parent);
            PERFORM data.guard_table('data', parent);
            EXECUTE format('ALTER TABLE data.events ATTACH PARTITION data.%I FOR VALUES IN (%L)',
                           parent, p_tenant);
        END IF;
    END IF;
    EXECUTE format(
        'CREATE TABLE staging.%I (LIKE data.events INCLUDING ALL,'
        ' CONSTRAINT one_day CHECK (tenant_id = %L::uuid'
        ' AND source_day >= %L::date AND source_day < %L::date))'
        ' WITH (autovacuum_enabled = false, toast.autovacuum_enabled = false)',
        name, p_tenant, p_source_day, p_source_day + 1);
    EXECUTE format('GRANT INSERT ON staging.%I TO troupe_runtime', name);
    INSERT INTO data.staged_days (tenant_id, table_name, source_day, job_id)
    VALUES (p_tenant, name, p_source_day, p_job);
    RETURN name;
END
$$;

-- As before. The lock comes first: whoever changes a table's row in pg_class and only then waits for
-- those who are at the table (ANALYZE, VACUUM) waits for ever, because they want to write that row.
CREATE OR REPLACE FUNCTION data.seal_day(p_tenant uuid, p_table text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET default_statistics_target = 20
AS $$
BEGIN
    PERFORM data.demand_tenant(p_tenant);
    PERFORM FROM data.staged_days WHERE tenant_id = p_tenant AND table_name = p_table;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no staged table of that name' USING ERRCODE = 'undefined_table';
    END IF;
    EXECUTE format('LOCK TABLE staging.%I IN ACCESS EXCLUSIVE MODE', p_table);
    EXECUTE format('REVOKE INSERT ON staging.%I FROM troupe_runtime', p_table);
    PERFORM data.guard_table('staging', p_table);
    EXECUTE format('GRANT SELECT ON staging.%I TO troupe_runtime', p_table);
    EXECUTE format('CREATE INDEX %I ON staging.%I (user_pseudo_id, event_at)',
                   p_table || '_visitor', p_table);
    EXECUTE format('ANALYZE staging.%I (tenant_id, source_day, event_at, event_name, stream_id,'
                   ' user_pseudo_id, ga_session_id)', p_table);
END
$$;

-- As before, with the digest, the lock first, and autovacuum from now on.
CREATE OR REPLACE FUNCTION data.publish_day(p_tenant uuid, p_table text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET lock_timeout = '4s'
AS $$
DECLARE
    parent text := data.tenant_partition(p_tenant);
    live text;
    replaced date;
BEGIN
    PERFORM data.demand_tenant(p_tenant);
    DELETE FROM data.staged_days WHERE tenant_id = p_tenant AND table_name = p_table
        RETURNING source_day INTO replaced;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no staged table of that name' USING ERRCODE = 'undefined_table';
    END IF;
    live := format('%s_%s', parent, to_char(replaced, 'YYYYMMDD'));
    PERFORM data.drop_digest(p_table);
    EXECUTE format('LOCK TABLE staging.%I IN ACCESS EXCLUSIVE MODE', p_table);
    EXECUTE format('REVOKE ALL ON staging.%I FROM troupe_runtime', p_table);
    EXECUTE format('ALTER TABLE staging.%I RESET (autovacuum_enabled, toast.autovacuum_enabled)',
                   p_table);
    EXECUTE format('DROP TABLE IF EXISTS data.%I', live);
    EXECUTE format('ALTER TABLE staging.%I SET SCHEMA data', p_table);
    EXECUTE format('ALTER TABLE data.%I RENAME TO %I', p_table, live);
    EXECUTE format('ALTER INDEX data.%I RENAME TO %I', p_table || '_visitor', live || '_visitor');
    EXECUTE format('ALTER TABLE data.%I ATTACH PARTITION data.%I FOR VALUES FROM (%L) TO (%L)',
                   parent, live, replaced, replaced + 1);
END
$$;

-- As before, with the digests.
CREATE OR REPLACE FUNCTION data.discard_staged(p_tenant uuid, p_job uuid, p_table text DEFAULT NULL)
    RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET lock_timeout = '4s'
AS $$
DECLARE
    name text;
    dropped integer := 0;
BEGIN
    PERFORM data.demand_tenant(p_tenant);
    FOR name IN
        DELETE FROM data.staged_days
        WHERE tenant_id = p_tenant
          AND CASE WHEN p_table IS NULL THEN job_id = p_job OR staged_at < now() - interval '1 day'
                   ELSE table_name = p_table END
        RETURNING table_name
    LOOP
        PERFORM data.drop_digest(name);
        EXECUTE format('DROP TABLE IF EXISTS staging.%I', name);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END
$$;

CREATE OR REPLACE FUNCTION data.drop_events(p_tenant uuid, p_limit integer) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET lock_timeout = '4s'
AS $$
DECLARE
    name text;
    parent text := data.tenant_partition(p_tenant);
    dropped integer := 0;
BEGIN
    PERFORM data.demand_tenant(p_tenant);
    FOR name IN
        DELETE FROM data.staged_days WHERE tenant_id = p_tenant RETURNING table_name
    LOOP
        PERFORM data.drop_digest(name);
        EXECUTE format('DROP TABLE IF EXISTS staging.%I', name);
    END LOOP;
    FOR name IN
        SELECT i.inhrelid::regclass::text FROM pg_inherits AS i
        WHERE i.inhparent = to_regclass(format('data.%I', parent)) LIMIT p_limit
    LOOP
        EXECUTE format('DROP TABLE %s', name);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped = p_limit;
END
$$;

-- As before, and with the digest: pg_temp.day_* are views of the staged table's digest, which is made
-- here if it is not there yet, or (p_table NULL) empty tables for this transaction. A digest is not
-- logged: a crash empties it, and a publication looks whether it is whole.
CREATE OR REPLACE FUNCTION data.open_workbench(p_tenant uuid, p_table text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    replaced date;
    part record;
    part_table text;
BEGIN
    PERFORM data.demand_tenant(p_tenant);
    IF p_table IS NULL THEN
        CREATE TEMP VIEW events_after WITH (security_invoker) AS SELECT * FROM data.events;
    ELSE
        SELECT source_day INTO replaced FROM data.staged_days
        WHERE tenant_id = p_tenant AND table_name = p_table;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'there is no staged table of that name' USING ERRCODE = 'undefined_table';
        END IF;
        EXECUTE format(
            'CREATE TEMP VIEW events_after WITH (security_invoker) AS'
            ' SELECT * FROM data.events WHERE source_day < %L OR source_day >= %L'
            ' UNION ALL SELECT * FROM staging.%I',
            replaced, replaced + 1, p_table);
    END IF;
    GRANT SELECT ON pg_temp.events_after TO troupe_runtime;
    FOR part IN SELECT * FROM data.digest_tables() LOOP
        IF p_table IS NULL THEN
            EXECUTE format('CREATE TEMP TABLE %I ON COMMIT DROP AS %s WITH NO DATA',
                           part.name, part.columns);
        ELSE
            part_table := p_table || part.ending;
            IF to_regclass(format('staging.%I', part_table)) IS NULL THEN
                EXECUTE format('CREATE UNLOGGED TABLE staging.%I'
                               ' WITH (autovacuum_enabled = false, toast.autovacuum_enabled = false)'
                               ' AS %s WITH NO DATA', part_table, part.columns);
                PERFORM data.guard_table('staging', part_table);
                EXECUTE format('GRANT SELECT, INSERT, DELETE ON staging.%I TO troupe_runtime',
                               part_table);
            END IF;
            EXECUTE format('CREATE TEMP VIEW %I WITH (security_invoker) AS SELECT * FROM staging.%I',
                           part.name, part_table);
        END IF;
        EXECUTE format('GRANT SELECT, INSERT, DELETE ON pg_temp.%I TO troupe_runtime', part.name);
    END LOOP;
    CREATE TEMP TABLE changed_transactions (
        user_pseudo_id text NOT NULL, transaction_id text NOT NULL
    ) ON COMMIT DROP;
    CREATE TEMP TABLE changed_sessions (
        stream_id text NOT NULL, user_pseudo_id text NOT NULL, ga_session_id bigint NOT NULL,
        PRIMARY KEY (user_pseudo_id, ga_session_id, stream_id)
    ) ON COMMIT DROP;
    CREATE TEMP TABLE known_sessions (
        stream_id text NOT NULL, user_pseudo_id text NOT NULL, ga_session_id bigint NOT NULL,
        day date NOT NULL, last_day date NOT NULL, first_source_day date NOT NULL,
        last_source_day date NOT NULL
    ) ON COMMIT DROP;
    CREATE TEMP TABLE spanning_sessions (
        stream_id text NOT NULL, user_pseudo_id text NOT NULL, ga_session_id bigint NOT NULL
    ) ON COMMIT DROP;
    CREATE TEMP TABLE changed_days (day date PRIMARY KEY) ON COMMIT DROP;
    GRANT SELECT, INSERT ON pg_temp.changed_transactions, pg_temp.changed_sessions,
        pg_temp.known_sessions, pg_temp.spanning_sessions, pg_temp.changed_days TO troupe_runtime;
END
$$;

CREATE OR REPLACE FUNCTION data.measure_workbench() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET default_statistics_target = 20
AS $$
BEGIN
    ANALYZE pg_temp.changed_transactions, pg_temp.changed_sessions, pg_temp.known_sessions,
        pg_temp.spanning_sessions;
END
$$;

-- As before, of more tables, and only of those that hold something.
CREATE OR REPLACE FUNCTION data.measure_new_tables() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    name text;
BEGIN
    FOR name IN
        SELECT c.relname FROM pg_class c
        WHERE c.relnamespace = 'data'::regnamespace AND c.relkind = 'r' AND c.reltuples < 0
          AND c.relname IN ('sessions', 'activity', 'purchases', 'cart_events', 'searches')
          AND pg_relation_size(c.oid) > 0
        ORDER BY c.relname
    LOOP
        EXECUTE format('ANALYZE data.%I', name);
    END LOOP;
END
$$;

-- Statistics of a staged table's digest (NULL: of the workbench's own).
CREATE FUNCTION data.measure_digest(p_tenant uuid, p_table text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET default_statistics_target = 20
AS $$
DECLARE
    part record;
BEGIN
    PERFORM data.demand_tenant(p_tenant);
    IF p_table IS NOT NULL THEN
        PERFORM FROM data.staged_days WHERE tenant_id = p_tenant AND table_name = p_table;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'there is no staged table of that name' USING ERRCODE = 'undefined_table';
        END IF;
    END IF;
    FOR part IN
        SELECT d.ending, d.name, CASE d.name WHEN 'day_acts' THEN ', event_name' ELSE '' END AS more
        FROM data.digest_tables() AS d WHERE d.name IN ('day_sessions', 'day_acts')
    LOOP
        EXECUTE format('ANALYZE %I.%I (stream_id, user_pseudo_id, ga_session_id%s)',
                       CASE WHEN p_table IS NULL THEN 'pg_temp' ELSE 'staging' END,
                       coalesce(p_table || part.ending, part.name), part.more);
    END LOOP;
END
$$;

-- Takes the views away; the tables go by themselves when the transaction ends.
CREATE OR REPLACE FUNCTION data.close_workbench() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    name text;
BEGIN
    FOR name IN
        SELECT c.relname FROM pg_class AS c
        WHERE c.relnamespace = pg_my_temp_schema() AND c.relkind = 'v'
          AND (c.relname = 'events_after' OR c.relname IN (SELECT d.name FROM data.digest_tables() AS d))
    LOOP
        EXECUTE format('DROP VIEW pg_temp.%I', name);
    END LOOP;
END
$$;

-- What activity says of the changed days, each row under the branch of its session: what hours and
-- visitors are added up from. Gone when the transaction ends.
CREATE FUNCTION data.open_roll_bench() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    CREATE TEMP TABLE placed_activity (
        day date NOT NULL, hour_start timestamptz NOT NULL, location_id text NOT NULL,
        user_pseudo_id text, complete boolean NOT NULL, events bigint NOT NULL,
        page_views bigint NOT NULL, searches bigint NOT NULL, failed_searches bigint NOT NULL,
        active boolean NOT NULL, new boolean NOT NULL, "returning" boolean NOT NULL
    ) ON COMMIT DROP;
    GRANT SELECT, INSERT ON pg_temp.placed_activity TO troupe_runtime;
END
$$;

DO $$
DECLARE
    door text;
BEGIN
    FOREACH door IN ARRAY ARRAY[
        'digest_tables()', 'drop_digest(text)', 'measure_digest(uuid, text)', 'open_roll_bench()'
    ] LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION data.%s FROM PUBLIC', door);
    END LOOP;
    FOREACH door IN ARRAY ARRAY['measure_digest(uuid, text)', 'open_roll_bench()'] LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION data.%s TO troupe_runtime', door);
    END LOOP;
END
$$;

-- What a publication writes much of is checked against the tenant once per statement, not per row (as
-- in 0009); what is read is guarded as before.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['sessions', 'activity', 'interests', 'user_day', 'cart_events'] LOOP
        EXECUTE format('ALTER POLICY tenant ON data.%I'
                       ' WITH CHECK (tenant_id = (SELECT platform.current_tenant()))', name);
    END LOOP;
END
$$;

-- A source day's interests are found by the days on which they lie, which its activity knows. An index
-- less is a quarter of what writing them takes.
DROP INDEX data.interests_by_source_day;

-- As before, but each visitor is touched once, however many rows are; and what has just come is found
-- by grouping, not by looking for each row of a visitor among all new ones. Either could take a time that
-- grew by the square of the rows.
CREATE OR REPLACE FUNCTION data.follow_visitors() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    has_added boolean := TG_OP IN ('INSERT', 'UPDATE');
    has_removed boolean := TG_OP IN ('DELETE', 'UPDATE');
    touched text := concat_ws(' UNION ',
        CASE WHEN has_added THEN 'SELECT DISTINCT tenant_id, user_pseudo_id FROM added' END,
        CASE WHEN has_removed THEN 'SELECT DISTINCT tenant_id, user_pseudo_id FROM removed' END);
    since text := CASE WHEN has_added
        THEN ' UNION ALL SELECT a.tenant_id, a.day, a.location_id, a.user_pseudo_id, a.active, a.new,'
             ' a."returning", a.purchaser, true FROM added a'
        ELSE '' END;
    gone text := CASE WHEN has_removed
        THEN ' UNION ALL SELECT r.tenant_id, r.day, r.location_id, r.user_pseudo_id, r.active, r.new,'
             ' r."returning", r.purchaser, true, false FROM removed r'
        ELSE '' END;
    scope record;
BEGIN
    -- Either scope by the same statement: with the branch in the key, or without.
    FOR scope IN
        SELECT * FROM (VALUES
            ('visitor_returns', '', ''), ('location_returns', 'location_id,', 'AND t.location_id = d.location_id')
        ) AS s (target, branch, same_branch)
    LOOP
        EXECUTE format($statement$
            WITH touched AS (%1$s), rows AS (
                -- What is there, and since when: a row that stands here twice has just come.
                SELECT tenant_id, day, location_id, user_pseudo_id, active, new, "returning",
                       purchaser, NOT bool_or(since) AS was, bool_or(NOT since) AS is_now
                FROM (
                    SELECT u.tenant_id, u.day, u.location_id, u.user_pseudo_id, u.active, u.new,
                           u."returning", u.purchaser, false AS since
                    FROM touched
                    JOIN data.user_day u USING (tenant_id, user_pseudo_id)
                    %2$s
                ) AS present
                GROUP BY tenant_id, day, location_id, user_pseudo_id, active, new, "returning",
                         purchaser
                %3$s
            ), days AS (
                -- Of each day: which flags held before and which hold now.
                SELECT tenant_id, %4$s user_pseudo_id, day,
                       bool_or(was) AS t0, bool_or(was AND active) AS a0, bool_or(was AND new) AS n0,
                       bool_or(was AND "returning") AS r0, bool_or(was AND purchaser) AS p0,
                       bool_or(is_now) AS t1, bool_or(is_now AND active) AS a1,
                       bool_or(is_now AND new) AS n1, bool_or(is_now AND "returning") AS r1,
                       bool_or(is_now AND purchaser) AS p1
                FROM rows
                GROUP BY tenant_id, %4$s user_pseudo_id, day
            ), chained AS (
                SELECT *,
                       max(day) FILTER (WHERE t0) OVER before AS t0_last,
                       max(day) FILTER (WHERE a0) OVER before AS a0_last,
                       max(day) FILTER (WHERE n0) OVER before AS n0_last,
                       max(day) FILTER (WHERE r0) OVER before AS r0_last,
                       max(day) FILTER (WHERE p0) OVER before AS p0_last,
                       max(day) FILTER (WHERE t1) OVER before AS t1_last,
                       max(day) FILTER (WHERE a1) OVER before AS a1_last,
                       max(day) FILTER (WHERE n1) OVER before AS n1_last,
                       max(day) FILTER (WHERE r1) OVER before AS r1_last,
                       max(day) FILTER (WHERE p1) OVER before AS p1_last
                FROM days
                WINDOW before AS (PARTITION BY tenant_id, %4$s user_pseudo_id ORDER BY day
                                  ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
            ), difference AS (
                SELECT tenant_id, %4$s day, coalesce(link.last, '-infinity') AS previous_day,
                       sum(link.t)::integer AS total, sum(link.a)::integer AS active,
                       sum(link.n)::integer AS new, sum(link.r)::integer AS "returning",
                       sum(link.p)::integer AS purchasers
                FROM chained
                CROSS JOIN LATERAL (VALUES
                    (t0, t0_last, -1, 0, 0, 0, 0), (t1, t1_last, 1, 0, 0, 0, 0),
                    (a0, a0_last, 0, -1, 0, 0, 0), (a1, a1_last, 0, 1, 0, 0, 0),
                    (n0, n0_last, 0, 0, -1, 0, 0), (n1, n1_last, 0, 0, 1, 0, 0),
                    (r0, r0_last, 0, 0, 0, -1, 0), (r1, r1_last, 0, 0, 0, 1, 0),
                    (p0, p0_last, 0, 0, 0, 0, -1), (p1, p1_last, 0, 0, 0, 0, 1)
                ) AS link (holds, last, t, a, n, r, p)
                WHERE link.holds
                GROUP BY tenant_id, %4$s day, link.last
                HAVING sum(link.t) <> 0 OR sum(link.a) <> 0 OR sum(link.n) <> 0
                    OR sum(link.r) <> 0 OR sum(link.p) <> 0
            )
            MERGE INTO data.%5$I AS t
            USING difference d
               ON t.tenant_id = d.tenant_id AND t.day = d.day AND t.previous_day = d.previous_day
              %6$s
            WHEN MATCHED AND t.total + d.total = 0 AND t.active + d.active = 0
                     AND t.new + d.new = 0 AND t."returning" + d."returning" = 0
                     AND t.purchasers + d.purchasers = 0 THEN DELETE
            WHEN MATCHED THEN UPDATE SET
                total = t.total + d.total, active = t.active + d.active, new = t.new + d.new,
                "returning" = t."returning" + d."returning",
                purchasers = t.purchasers + d.purchasers
            -- What is to be taken away from nothing: the tenant is being erased, table by table.
            WHEN NOT MATCHED AND d.total >= 0 AND d.active >= 0 AND d.new >= 0
                 AND d."returning" >= 0 AND d.purchasers >= 0 THEN
                INSERT (tenant_id, %4$s day, previous_day, total, active, new, "returning", purchasers)
                VALUES (d.tenant_id, %7$s d.day, d.previous_day, d.total, d.active, d.new,
                        d."returning", d.purchasers)
            $statement$,
            touched, since, gone, scope.branch, scope.target, scope.same_branch,
            CASE WHEN scope.branch = '' THEN '' ELSE 'd.location_id,' END);
    END LOOP;
    RETURN NULL;
END
$$;
