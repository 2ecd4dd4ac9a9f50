-- Several days of a tenant take effect in one transaction: neighbours are rolled up once, not once for
-- each of them. docs/adr/0030-several-days-at-once.md tells why.

-- As before for any number of staged tables, and without the days' digests: events_after shows the rows
-- of all of them in their days' places (of none: what is published).
DROP FUNCTION data.open_workbench(uuid, text);
CREATE FUNCTION data.open_workbench(p_tenant uuid, p_tables text[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    others text;
    staged text;
    known bigint;
BEGIN
    PERFORM data.demand_tenant(p_tenant);
    -- By bounds that partitions can be left out by, before they are opened.
    SELECT count(*),
           string_agg(format(' AND (source_day < %L OR source_day >= %L)',
                             d.source_day, d.source_day + 1), ''),
           string_agg(format(' UNION ALL SELECT * FROM staging.%I', d.table_name), '')
    INTO known, others, staged
    FROM data.staged_days AS d
    WHERE d.tenant_id = p_tenant AND d.table_name = ANY (p_tables);
    IF known <> cardinality(p_tables) THEN
        RAISE EXCEPTION 'there is no staged table of that name' USING ERRCODE = 'undefined_table';
    END IF;
    EXECUTE concat('CREATE TEMP VIEW events_after WITH (security_invoker) AS'
                   ' SELECT * FROM data.events WHERE true', others, staged);
    GRANT SELECT ON pg_temp.events_after TO troupe_runtime;
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

-- Puts one day's digest on the open workbench, in the place of the last one's: pg_temp.day_* are views of
-- the staged table's digest, which is made here if it is not there yet, or (p_table NULL) empty tables for
-- this transaction. What was noted of the last day's sessions and transactions goes; changed days stay.
CREATE FUNCTION data.open_digest(p_tenant uuid, p_table text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    part record;
    part_table text;
BEGIN
    PERFORM data.demand_tenant(p_tenant);
    IF p_table IS NOT NULL THEN
        PERFORM FROM data.staged_days WHERE tenant_id = p_tenant AND table_name = p_table;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'there is no staged table of that name' USING ERRCODE = 'undefined_table';
        END IF;
    END IF;
    TRUNCATE pg_temp.changed_transactions, pg_temp.changed_sessions, pg_temp.known_sessions,
        pg_temp.spanning_sessions;
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
            EXECUTE format('CREATE OR REPLACE TEMP VIEW %I WITH (security_invoker) AS'
                           ' SELECT * FROM staging.%I', part.name, part_table);
        END IF;
        EXECUTE format('GRANT SELECT, INSERT, DELETE ON pg_temp.%I TO troupe_runtime', part.name);
    END LOOP;
END
$$;

-- As before, and of tables that have multiplied since somebody looked: the planner takes what a table's
-- statistics do not know of for nothing. A table that was looked at when it was empty, or held another,
-- small tenant, is no better than a new one.
CREATE OR REPLACE FUNCTION data.measure_new_tables() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET default_statistics_target = 20
AS $$
DECLARE
    name text;
BEGIN
    FOR name IN
        SELECT c.relname FROM pg_class c
        WHERE c.relnamespace = 'data'::regnamespace AND c.relkind = 'r'
          AND c.relname IN ('sessions', 'activity', 'purchases', 'cart_events', 'searches')
          AND pg_relation_size(c.oid) > CASE WHEN c.reltuples < 0 THEN 0
              ELSE 4 * c.relpages::bigint * current_setting('block_size')::integer END
        ORDER BY c.relname
    LOOP
        EXECUTE format('ANALYZE data.%I', name);
    END LOOP;
END
$$;

DO $$
DECLARE
    door text;
BEGIN
    FOREACH door IN ARRAY ARRAY['open_workbench(uuid, text[])', 'open_digest(uuid, text)'] LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION data.%s FROM PUBLIC', door);
        EXECUTE format('GRANT EXECUTE ON FUNCTION data.%s TO troupe_runtime', door);
    END LOOP;
END
$$;
