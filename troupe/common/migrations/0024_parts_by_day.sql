-- Channels, devices and countries, added up by day, with how visitors come back to each: what
-- `daily_rollup`, `money_rollup`, `user_day` and `location_returns` are to branches (0014_answers.sql says why
-- visitors are a sum then). What happened outside of sessions stands under the empty part.

-- A visitor of a day, by what their sessions were: mostly one row.
CREATE TABLE data.visitor_parts (
    tenant_id       uuid NOT NULL,
    day             date NOT NULL,
    user_pseudo_id  text NOT NULL,
    channel         varchar NOT NULL,           -- the first 128 characters, of each: keys have an end
    device          varchar NOT NULL,
    country         varchar NOT NULL,
    active          boolean NOT NULL,
    new             boolean NOT NULL,
    "returning"     boolean NOT NULL,
    purchaser       boolean NOT NULL,
    PRIMARY KEY (tenant_id, day, user_pseudo_id, channel, device, country)
);
CREATE INDEX visitor_parts_by_visitor ON data.visitor_parts (tenant_id, user_pseudo_id, day);

CREATE TABLE data.part_returns (
    tenant_id     uuid NOT NULL,
    dimension     varchar NOT NULL,             -- 'channel', 'device', 'country'
    part          varchar NOT NULL,             -- '': not known, or outside of sessions
    day           date NOT NULL,
    previous_day  date NOT NULL,                -- -infinity: never before
    total         integer NOT NULL,
    active        integer NOT NULL,
    new           integer NOT NULL,
    "returning"   integer NOT NULL,
    purchasers    integer NOT NULL,
    PRIMARY KEY (tenant_id, dimension, part, day, previous_day)
);
CREATE INDEX part_returns_by_day ON data.part_returns (tenant_id, dimension, day, previous_day);

CREATE TABLE data.part_rollup (
    tenant_id                            uuid NOT NULL,
    dimension                            varchar NOT NULL,
    day                                  date NOT NULL,
    part                                 varchar NOT NULL,
    events                               bigint NOT NULL,
    events_without_consent               bigint NOT NULL,
    page_views                           bigint NOT NULL,
    sessions                             bigint NOT NULL,
    engaged_sessions                     bigint NOT NULL,
    sessions_with_cart                   bigint NOT NULL,
    sessions_with_checkout               bigint NOT NULL,
    sessions_with_purchase               bigint NOT NULL,
    sessions_with_cart_without_purchase  bigint NOT NULL,
    searches                             bigint NOT NULL,
    failed_searches                      bigint NOT NULL,
    PRIMARY KEY (tenant_id, dimension, day, part)
);

CREATE TABLE data.part_money (
    tenant_id      uuid NOT NULL,
    dimension      varchar NOT NULL,
    day            date NOT NULL,
    part           varchar NOT NULL,
    currency       text NOT NULL,
    purchases      bigint NOT NULL,
    gross_revenue  numeric NOT NULL,
    refund_value   numeric NOT NULL,
    PRIMARY KEY (tenant_id, dimension, day, part, currency)
);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['visitor_parts', 'part_returns', 'part_rollup', 'part_money'] LOOP
        EXECUTE format('ALTER TABLE data.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE data.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY tenant ON data.%I USING (tenant_id = platform.current_tenant())'
            ' WITH CHECK (tenant_id = (SELECT platform.current_tenant()))', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON data.%I TO troupe_runtime', name);
    END LOOP;
END
$$;

-- After a statement on visitor_parts: as data.follow_visitors (0019_digests.sql), for each dimension.
CREATE FUNCTION data.follow_visitor_parts() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    has_added boolean := TG_OP IN ('INSERT', 'UPDATE');
    has_removed boolean := TG_OP IN ('DELETE', 'UPDATE');
    moved text := concat_ws(' UNION ALL ',
        CASE WHEN has_added THEN 'SELECT * FROM added' END,
        CASE WHEN has_removed THEN 'SELECT * FROM removed' END);
    since text := CASE WHEN has_added THEN ' UNION ALL SELECT a.*, true FROM added a' ELSE '' END;
    gone text := CASE WHEN has_removed
        THEN ' UNION ALL SELECT r.*, true, false FROM removed r' ELSE '' END;
BEGIN
    EXECUTE format($statement$
        WITH touched AS MATERIALIZED (
            -- Of a visitor only the parts that the statement touched: the others' chains stay as they are.
            SELECT DISTINCT m.tenant_id, m.user_pseudo_id, d.dimension, d.part
            FROM (%1$s) AS m
            CROSS JOIN LATERAL (VALUES
                ('channel', m.channel), ('device', m.device), ('country', m.country)
            ) AS d (dimension, part)
        ), rows AS (
            -- What is there, and since when: a row that stands here twice has just come.
            SELECT tenant_id, day, user_pseudo_id, channel, device, country, active, new, "returning",
                   purchaser, NOT bool_or(since) AS was, bool_or(NOT since) AS is_now
            FROM (
                SELECT u.*, false AS since
                FROM (SELECT DISTINCT tenant_id, user_pseudo_id FROM touched) AS t
                JOIN data.visitor_parts u USING (tenant_id, user_pseudo_id)
                %2$s
            ) AS present (tenant_id, day, user_pseudo_id, channel, device, country, active, new,
                          "returning", purchaser, since)
            GROUP BY tenant_id, day, user_pseudo_id, channel, device, country, active, new,
                     "returning", purchaser
            %3$s
        ), days AS (
            -- Of each day: which flags held before and which hold now.
            SELECT r.tenant_id, d.dimension, d.part, r.user_pseudo_id, r.day,
                   bool_or(was) AS t0, bool_or(was AND active) AS a0, bool_or(was AND new) AS n0,
                   bool_or(was AND "returning") AS r0, bool_or(was AND purchaser) AS p0,
                   bool_or(is_now) AS t1, bool_or(is_now AND active) AS a1,
                   bool_or(is_now AND new) AS n1, bool_or(is_now AND "returning") AS r1,
                   bool_or(is_now AND purchaser) AS p1
            FROM rows r
            CROSS JOIN LATERAL (VALUES
                ('channel', r.channel), ('device', r.device), ('country', r.country)
            ) AS d (dimension, part)
            JOIN touched t
              ON t.tenant_id = r.tenant_id AND t.user_pseudo_id = r.user_pseudo_id
             AND t.dimension = d.dimension AND t.part = d.part
            GROUP BY r.tenant_id, d.dimension, d.part, r.user_pseudo_id, r.day
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
            WINDOW before AS (PARTITION BY tenant_id, dimension, part, user_pseudo_id ORDER BY day
                              ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
        ), difference AS (
            SELECT tenant_id, dimension, part, day, coalesce(link.last, '-infinity') AS previous_day,
                   sum(link.t)::integer AS total, sum(link.a)::integer AS active,
                   sum(link.n)::integer AS new, sum(link.r)::integer AS "returning",
                   sum(link.p)::integer AS purchasers
            FROM (
                -- Where nothing is different, what is taken away is added again.
                SELECT * FROM chained
                WHERE (t0, a0, n0, r0, p0, t0_last, a0_last, n0_last, r0_last, p0_last)
                      IS DISTINCT FROM
                      (t1, a1, n1, r1, p1, t1_last, a1_last, n1_last, r1_last, p1_last)
            ) AS changed
            CROSS JOIN LATERAL (VALUES
                (t0, t0_last, -1, 0, 0, 0, 0), (t1, t1_last, 1, 0, 0, 0, 0),
                (a0, a0_last, 0, -1, 0, 0, 0), (a1, a1_last, 0, 1, 0, 0, 0),
                (n0, n0_last, 0, 0, -1, 0, 0), (n1, n1_last, 0, 0, 1, 0, 0),
                (r0, r0_last, 0, 0, 0, -1, 0), (r1, r1_last, 0, 0, 0, 1, 0),
                (p0, p0_last, 0, 0, 0, 0, -1), (p1, p1_last, 0, 0, 0, 0, 1)
            ) AS link (holds, last, t, a, n, r, p)
            WHERE link.holds
            GROUP BY tenant_id, dimension, part, day, link.last
            HAVING sum(link.t) <> 0 OR sum(link.a) <> 0 OR sum(link.n) <> 0
                OR sum(link.r) <> 0 OR sum(link.p) <> 0
        )
        MERGE INTO data.part_returns AS t
        USING difference d
           ON t.tenant_id = d.tenant_id AND t.dimension = d.dimension AND t.part = d.part
          AND t.day = d.day AND t.previous_day = d.previous_day
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
            INSERT (tenant_id, dimension, part, day, previous_day, total, active, new, "returning",
                    purchasers)
            VALUES (d.tenant_id, d.dimension, d.part, d.day, d.previous_day, d.total, d.active, d.new,
                    d."returning", d.purchasers)
        $statement$, moved, since, gone);
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION data.follow_visitor_parts() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION data.follow_visitor_parts() TO troupe_runtime;

CREATE TRIGGER follow_added AFTER INSERT ON data.visitor_parts
    REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION data.follow_visitor_parts();
CREATE TRIGGER follow_removed AFTER DELETE ON data.visitor_parts
    REFERENCING OLD TABLE AS removed
    FOR EACH STATEMENT EXECUTE FUNCTION data.follow_visitor_parts();
CREATE TRIGGER follow_changed AFTER UPDATE ON data.visitor_parts
    REFERENCING OLD TABLE AS removed NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION data.follow_visitor_parts();

-- As before (0019_digests.sql), but only what is different goes on to be added up: of a visitor who has come
-- often, hardly any day is.
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
                FROM (
                    -- Where nothing is different, what is taken away is added again.
                    SELECT * FROM chained
                    WHERE (t0, a0, n0, r0, p0, t0_last, a0_last, n0_last, r0_last, p0_last)
                          IS DISTINCT FROM
                          (t1, a1, n1, r1, p1, t1_last, a1_last, n1_last, r1_last, p1_last)
                ) AS changed
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

-- As before, with what an activity's session was, and the deals of the changed days, by what theirs were.
CREATE OR REPLACE FUNCTION data.open_roll_bench() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    CREATE TEMP TABLE placed_activity (
        day date NOT NULL, hour_start timestamptz NOT NULL, location_id text NOT NULL,
        user_pseudo_id text, complete boolean NOT NULL, events bigint NOT NULL,
        page_views bigint NOT NULL, searches bigint NOT NULL, failed_searches bigint NOT NULL,
        active boolean NOT NULL, new boolean NOT NULL, "returning" boolean NOT NULL,
        channel varchar NOT NULL DEFAULT '', device varchar NOT NULL DEFAULT '',
        country varchar NOT NULL DEFAULT ''
    ) ON COMMIT DROP;
    CREATE TEMP TABLE placed_deals (
        day date NOT NULL, user_pseudo_id text, channel varchar NOT NULL, device varchar NOT NULL,
        country varchar NOT NULL, currency text NOT NULL, purchases bigint NOT NULL,
        revenue numeric NOT NULL, refund_value numeric NOT NULL
    ) ON COMMIT DROP;
    GRANT SELECT, INSERT ON pg_temp.placed_activity, pg_temp.placed_deals TO troupe_runtime;
END
$$;

-- What was loaded before. Row-level security binds the owner too, so it is lifted for this transaction.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['sessions', 'activity', 'purchases', 'refunds', 'visitor_parts',
                                'part_returns', 'part_rollup', 'part_money'] LOOP
        EXECUTE format('ALTER TABLE data.%I NO FORCE ROW LEVEL SECURITY', name);
    END LOOP;
END
$$;
CREATE TEMP TABLE deals ON COMMIT DROP AS
SELECT t.tenant_id, t.day, t.user_pseudo_id, t.currency, t.purchases, t.revenue, t.refund_value,
       coalesce(left(s.channel, 128), '')::varchar AS channel, coalesce(left(s.device_category, 128), '')::varchar AS device,
       coalesce(left(s.country, 128), '')::varchar AS country
FROM (
    SELECT tenant_id, day, stream_id, user_pseudo_id, ga_session_id, currency, 1 AS purchases, revenue,
           0::numeric AS refund_value
    FROM data.purchases WHERE counted
    UNION ALL
    SELECT tenant_id, day, stream_id, user_pseudo_id, ga_session_id, currency, 0, 0, refund_value
    FROM data.refunds
) AS t
LEFT JOIN data.sessions s
  ON s.tenant_id = t.tenant_id AND s.user_pseudo_id = t.user_pseudo_id
 AND s.ga_session_id = t.ga_session_id AND s.stream_id = coalesce(t.stream_id, '');

INSERT INTO data.part_money
SELECT t.tenant_id, d.dimension, t.day, d.part, t.currency, sum(t.purchases), sum(t.revenue),
       sum(t.refund_value)
FROM deals t
CROSS JOIN LATERAL (VALUES
    ('channel', t.channel), ('device', t.device), ('country', t.country)) AS d (dimension, part)
GROUP BY t.tenant_id, d.dimension, t.day, d.part, t.currency;

CREATE TEMP TABLE placed ON COMMIT DROP AS
SELECT a.tenant_id, a.day, a.user_pseudo_id, a.events,
       CASE WHEN a.ga_session_id IS NULL THEN a.events ELSE 0 END AS events_without_consent,
       a.page_views, a.searches, a.failed_searches, a.active OR s.engaged IS TRUE AS active, a.new,
       a."returning", coalesce(left(s.channel, 128), '')::varchar AS channel,
       coalesce(left(s.device_category, 128), '')::varchar AS device, coalesce(left(s.country, 128), '')::varchar AS country
FROM data.activity a
LEFT JOIN data.sessions s
  ON s.tenant_id = a.tenant_id AND s.user_pseudo_id = a.user_pseudo_id
 AND s.ga_session_id = a.ga_session_id AND s.stream_id = a.stream_id;

INSERT INTO data.part_rollup
SELECT u.tenant_id, d.dimension, u.day, d.part, sum(u.events), sum(u.events_without_consent),
       sum(u.page_views), sum(u.sessions), sum(u.engaged), sum(u.with_cart), sum(u.with_checkout),
       sum(u.with_purchase), sum(u.with_cart_without_purchase), sum(u.searches),
       sum(u.failed_searches)
FROM (
    SELECT tenant_id, day, channel, device, country, events, events_without_consent, page_views,
           0 AS sessions, 0 AS engaged, 0 AS with_cart, 0 AS with_checkout, 0 AS with_purchase,
           0 AS with_cart_without_purchase, searches, failed_searches
    FROM placed
    UNION ALL
    SELECT tenant_id, day, left(channel, 128), coalesce(left(device_category, 128), ''),
           coalesce(left(country, 128), ''), 0, 0, 0, 1,
           engaged::integer, (cart_additions > 0)::integer, (checkouts > 0)::integer,
           (purchases > 0)::integer, (cart_additions > 0 AND purchases = 0)::integer, 0, 0
    FROM data.sessions
) AS u
CROSS JOIN LATERAL (VALUES
    ('channel', u.channel), ('device', u.device), ('country', u.country)) AS d (dimension, part)
GROUP BY u.tenant_id, d.dimension, u.day, d.part;

-- The trigger makes the returns.
INSERT INTO data.visitor_parts
SELECT v.tenant_id, v.day, v.user_pseudo_id, v.channel, v.device, v.country, bool_or(v.active),
       bool_or(v.new), bool_or(v."returning"), bool_or(v.purchaser)
FROM (
    SELECT tenant_id, day, user_pseudo_id, channel, device, country, true AS seen, active, new,
           "returning", false AS purchaser
    FROM placed WHERE user_pseudo_id IS NOT NULL
    UNION ALL
    SELECT tenant_id, day, user_pseudo_id, channel, device, country, false, false, false, false, true
    FROM deals WHERE user_pseudo_id IS NOT NULL AND purchases > 0
) AS v
GROUP BY v.tenant_id, v.day, v.user_pseudo_id, v.channel, v.device, v.country
HAVING bool_or(v.seen);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['sessions', 'activity', 'purchases', 'refunds', 'visitor_parts',
                                'part_returns', 'part_rollup', 'part_money'] LOOP
        EXECUTE format('ALTER TABLE data.%I FORCE ROW LEVEL SECURITY', name);
    END LOOP;
END
$$;
