-- Pages by which sessions begin, added up day by day: the list of how pages do is a sum of some ten
-- thousand rows then, instead of a look at every session of two periods.
--
-- A trigger on sessions keeps it, so that it is right whoever writes there, in the same transaction.

-- The address of a page without what varies from view to view: as before (0014_answers.sql), without a
-- regular expression, which took longer than reading the row.
CREATE OR REPLACE FUNCTION data.page_of(p_location text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN left(split_part(split_part(p_location, '?', 1), '#', 1), 1024);

CREATE TABLE data.entrances (
    tenant_id    uuid NOT NULL,
    day          date NOT NULL,                 -- on which the sessions began
    -- '': none known. No text: an erasure changes texts wherever they are, and the sessions, which this
    -- follows, have been changed as well.
    page         varchar NOT NULL,
    sessions     integer NOT NULL,
    bounces      integer NOT NULL,              -- of these, not engaged
    conversions  integer NOT NULL,              -- with a purchase
    PRIMARY KEY (tenant_id, day, page)
);
ALTER TABLE data.entrances ENABLE ROW LEVEL SECURITY;
ALTER TABLE data.entrances FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON data.entrances USING (tenant_id = platform.current_tenant())
    WITH CHECK (tenant_id = platform.current_tenant());
GRANT SELECT, INSERT, UPDATE, DELETE ON data.entrances TO troupe_runtime;

-- After a statement on sessions: what it took away and what it added. Runs with the writer's rights.
CREATE FUNCTION data.follow_entrances() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    moved text := concat_ws(' UNION ALL ',
        CASE WHEN TG_OP IN ('INSERT', 'UPDATE') THEN 'SELECT 1 AS n, * FROM added' END,
        CASE WHEN TG_OP IN ('DELETE', 'UPDATE') THEN 'SELECT -1 AS n, * FROM removed' END);
BEGIN
    EXECUTE format($statement$
        WITH difference AS (
            SELECT m.tenant_id, m.day, coalesce(data.page_of(m.landing_page), '') AS page,
                   sum(m.n) AS sessions,
                   coalesce(sum(m.n) FILTER (WHERE NOT m.engaged), 0) AS bounces,
                   coalesce(sum(m.n) FILTER (WHERE m.purchases > 0), 0) AS conversions
            FROM (%s) AS m
            GROUP BY 1, 2, 3
        )
        MERGE INTO data.entrances AS t
        USING (SELECT * FROM difference d
               WHERE d.sessions <> 0 OR d.bounces <> 0 OR d.conversions <> 0) AS d
           ON t.tenant_id = d.tenant_id AND t.day = d.day AND t.page = d.page
        WHEN MATCHED AND t.sessions + d.sessions = 0 THEN DELETE
        WHEN MATCHED THEN UPDATE SET
            sessions = t.sessions + d.sessions, bounces = t.bounces + d.bounces,
            conversions = t.conversions + d.conversions
        -- What is to be taken away from nothing: the tenant is being erased, table by table.
        WHEN NOT MATCHED AND d.sessions > 0 THEN
            INSERT (tenant_id, day, page, sessions, bounces, conversions)
            VALUES (d.tenant_id, d.day, d.page, d.sessions, d.bounces, d.conversions)
        $statement$, moved);
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION data.follow_entrances() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION data.follow_entrances() TO troupe_runtime;

CREATE TRIGGER entrances_added AFTER INSERT ON data.sessions
    REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION data.follow_entrances();
CREATE TRIGGER entrances_removed AFTER DELETE ON data.sessions
    REFERENCING OLD TABLE AS removed
    FOR EACH STATEMENT EXECUTE FUNCTION data.follow_entrances();
CREATE TRIGGER entrances_changed AFTER UPDATE ON data.sessions
    REFERENCING OLD TABLE AS removed NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION data.follow_entrances();

-- What was loaded before. Row-level security binds the owner too, so it is lifted for this transaction.
ALTER TABLE data.sessions NO FORCE ROW LEVEL SECURITY;
ALTER TABLE data.entrances NO FORCE ROW LEVEL SECURITY;
INSERT INTO data.entrances
SELECT s.tenant_id, s.day, coalesce(data.page_of(s.landing_page), ''), count(*),
       count(*) FILTER (WHERE NOT s.engaged), count(*) FILTER (WHERE s.purchases > 0)
FROM data.sessions s
GROUP BY 1, 2, 3;
ALTER TABLE data.sessions FORCE ROW LEVEL SECURITY;
ALTER TABLE data.entrances FORCE ROW LEVEL SECURITY;

-- ---- searching tasks

-- As in 0015_tasks.sql, but within the days of the list: a word that is common costs what these hold,
-- not what was ever a task. Planned for the values: a rare word goes through the trigrams, a common one
-- through the days.
DROP FUNCTION analytics.search_tasks(text, text, text[]);
CREATE FUNCTION analytics.search_tasks(
    p_kind text, p_from timestamptz, p_before timestamptz, p_pattern text, p_patterns text[])
    RETURNS SETOF uuid
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_custom_plan
AS $$
DECLARE
    tenant uuid := platform.current_tenant();
    pattern text := lower(p_pattern);
    patterns text[] := ARRAY(SELECT lower(p.pattern) FROM unnest(p_patterns) AS p (pattern));
BEGIN
    RETURN QUERY
        SELECT t.task_id FROM analytics.tasks t
        WHERE t.tenant_id = tenant AND t.kind = p_kind
          AND t.happened_at >= p_from AND t.happened_at < p_before
          AND t.search LIKE pattern AND t.search LIKE ALL (patterns);
END
$$;
GRANT SELECT (happened_at) ON analytics.tasks TO troupe_system;
REVOKE ALL ON FUNCTION analytics.search_tasks(text, timestamptz, timestamptz, text, text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION analytics.search_tasks(text, timestamptz, timestamptz, text, text[])
    TO troupe_runtime;
ALTER FUNCTION analytics.search_tasks(text, timestamptz, timestamptz, text, text[])
    OWNER TO troupe_system;
