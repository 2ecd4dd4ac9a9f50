-- What answers read beside the rollups: how visitors come back, how sessions shop, what they were
-- interested in.
--
-- Exact distinct visitors of any range, without looking at visitors. A visitor who was seen on days
-- d1 < d2 < d3 is counted once in [a, b] if we count the days of theirs that lie in the range and
-- whose predecessor does not: exactly one does, their first day in the range. So what is kept is, for
-- every day, how many visitors of that day were seen last on which earlier day; the visitors of
-- [a, b] are the sum over day BETWEEN a AND b and previous_day < a. Ninety days are some 4,000 rows,
-- however many visitors. (user_day itself would take 100 ms for what takes 2 here, and needs all of
-- its rows; sketches are not exact.) Each flag has a chain of its own: the predecessor of an active
-- day is the last active day.
--
-- Triggers on user_day keep it, so that it is right whoever writes there, in the same transaction.

CREATE TABLE data.visitor_returns (
    tenant_id     uuid NOT NULL,
    day           date NOT NULL,
    previous_day  date NOT NULL,                -- -infinity: never before
    total         integer NOT NULL,
    active        integer NOT NULL,
    new           integer NOT NULL,
    "returning"   integer NOT NULL,
    purchasers    integer NOT NULL,
    PRIMARY KEY (tenant_id, day, previous_day)
);
-- The same within each branch. No more rows than user_day, and far fewer where there are many visitors.
CREATE TABLE data.location_returns (
    tenant_id     uuid NOT NULL,
    location_id   text NOT NULL,
    day           date NOT NULL,
    previous_day  date NOT NULL,
    total         integer NOT NULL,
    active        integer NOT NULL,
    new           integer NOT NULL,
    "returning"   integer NOT NULL,
    purchasers    integer NOT NULL,
    PRIMARY KEY (tenant_id, location_id, day, previous_day)
);
CREATE INDEX location_returns_by_day ON data.location_returns (tenant_id, day, previous_day);

-- What a session looked at within one clock hour of one source day: a page (its address without
-- query), a product (item id), a search term. Sessions are joined when it is read, as with
-- data.activity, because a later event may still change their branch.
CREATE TABLE data.interests (
    tenant_id        uuid NOT NULL,
    source_day       date NOT NULL,
    day              date NOT NULL,             -- reporting zone
    kind             text NOT NULL CHECK (kind IN ('page', 'product', 'term')),
    subject          text NOT NULL,
    label            text,                      -- product's name, page's title, term as typed
    stream_id        text,                      -- the session's key, or three times NULL
    user_pseudo_id   text,                      -- also known without a session
    ga_session_id    bigint,
    own_location_id  text,                      -- branch of events without a session
    first_at         timestamptz NOT NULL,      -- within the clock hour
    views            bigint NOT NULL,           -- page views, product views, searches
    cart_additions   bigint NOT NULL,           -- of a product
    failures         bigint NOT NULL            -- of a term: searches that found nothing
);
CREATE INDEX interests_by_source_day ON data.interests (tenant_id, source_day);
CREATE INDEX interests_by_day ON data.interests (tenant_id, kind, day);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['visitor_returns', 'location_returns', 'interests'] LOOP
        EXECUTE format('ALTER TABLE data.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE data.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY tenant ON data.%I USING (tenant_id = platform.current_tenant())'
            ' WITH CHECK (tenant_id = platform.current_tenant())', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON data.%I TO troupe_runtime', name);
    END LOOP;
END
$$;

-- The funnel: in how short a time a session gets from a product view to the step, through all steps
-- between, in microseconds; NULL when it never does. Any window is then a comparison.
ALTER TABLE data.sessions
    ADD COLUMN cart_within bigint,
    ADD COLUMN checkout_within bigint,
    ADD COLUMN purchase_within bigint;

-- What is filtered by more than a branch reads activity by day.
CREATE INDEX activity_by_day ON data.activity (tenant_id, day);

-- The history of a visitor; it takes the place of an index that only counting distinct visitors read.
DROP INDEX data.user_day_covering;
CREATE INDEX user_day_by_visitor ON data.user_day (tenant_id, user_pseudo_id, day);

-- The address of a page without what varies from view to view.
CREATE FUNCTION data.page_of(p_location text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN left(regexp_replace(p_location, '[?#].*$', ''), 1024);

-- A search term as it is compared: NFKC, small letters (with the two for which that is not enough),
-- single spaces, none around; NULL when nothing is left.
CREATE FUNCTION data.search_key(p_term text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN nullif(btrim(regexp_replace(
        translate(replace(lower(normalize(p_term, NFKC)), 'ß', 'ss'), 'ς', 'σ'),
        '\s+', ' ', 'g')), '');

-- After a statement on user_day: the chains of the visitors that it touched, as they were and as they
-- are; the difference is applied. `added` and `removed` are the statement's rows. Runs with the
-- writer's rights.
CREATE FUNCTION data.follow_visitors() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    has_added boolean := TG_OP IN ('INSERT', 'UPDATE');
    has_removed boolean := TG_OP IN ('DELETE', 'UPDATE');
    touched text := concat_ws(' UNION ',
        CASE WHEN has_added THEN 'SELECT tenant_id, user_pseudo_id FROM added' END,
        CASE WHEN has_removed THEN 'SELECT tenant_id, user_pseudo_id FROM removed' END);
    was text := CASE WHEN has_added
        THEN 'NOT EXISTS (SELECT FROM added a WHERE a.tenant_id = u.tenant_id AND a.day = u.day'
             ' AND a.location_id = u.location_id AND a.user_pseudo_id = u.user_pseudo_id)'
        ELSE 'true' END;
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
                SELECT u.tenant_id, u.day, u.location_id, u.user_pseudo_id, u.active, u.new,
                       u."returning", u.purchaser, %2$s AS was, true AS is_now
                FROM touched
                JOIN data.user_day u USING (tenant_id, user_pseudo_id)
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
            touched, was, gone, scope.branch, scope.target, scope.same_branch,
            CASE WHEN scope.branch = '' THEN '' ELSE 'd.location_id,' END);
    END LOOP;
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION data.follow_visitors() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION data.follow_visitors() TO troupe_runtime;

CREATE TRIGGER follow_added AFTER INSERT ON data.user_day
    REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION data.follow_visitors();
CREATE TRIGGER follow_removed AFTER DELETE ON data.user_day
    REFERENCING OLD TABLE AS removed
    FOR EACH STATEMENT EXECUTE FUNCTION data.follow_visitors();
CREATE TRIGGER follow_changed AFTER UPDATE ON data.user_day
    REFERENCING OLD TABLE AS removed NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION data.follow_visitors();

-- Settings decide what an answer says as much as data does: whoever keeps answers hears of both.
CREATE FUNCTION platform.announce_settings() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pg_notify('troupe_data_version', NEW.tenant_id::text);
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION platform.announce_settings() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION platform.announce_settings() TO troupe_runtime;
CREATE TRIGGER announce_settings AFTER UPDATE ON platform.tenants
    FOR EACH ROW EXECUTE FUNCTION platform.announce_settings();

-- What was loaded before: the returns must be there, because counting relies on them. Row-level
-- security binds the owner too, so it is lifted from it for this one transaction. Interests and funnels
-- of old days come when a day is loaded again.
ALTER TABLE data.user_day NO FORCE ROW LEVEL SECURITY;
ALTER TABLE data.visitor_returns NO FORCE ROW LEVEL SECURITY;
ALTER TABLE data.location_returns NO FORCE ROW LEVEL SECURITY;

INSERT INTO data.visitor_returns
SELECT tenant_id, day, coalesce(link.last, '-infinity'),
       sum(link.t), sum(link.a), sum(link.n), sum(link.r), sum(link.p)
FROM (
    SELECT *, max(day) OVER before AS t_last, max(day) FILTER (WHERE a) OVER before AS a_last,
           max(day) FILTER (WHERE n) OVER before AS n_last,
           max(day) FILTER (WHERE r) OVER before AS r_last,
           max(day) FILTER (WHERE p) OVER before AS p_last
    FROM (
        SELECT tenant_id, user_pseudo_id, day, bool_or(active) AS a, bool_or(new) AS n,
               bool_or("returning") AS r, bool_or(purchaser) AS p
        FROM data.user_day GROUP BY tenant_id, user_pseudo_id, day
    ) AS days
    WINDOW before AS (PARTITION BY tenant_id, user_pseudo_id ORDER BY day
                      ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
) AS chained
CROSS JOIN LATERAL (VALUES
    (true, t_last, 1, 0, 0, 0, 0), (a, a_last, 0, 1, 0, 0, 0), (n, n_last, 0, 0, 1, 0, 0),
    (r, r_last, 0, 0, 0, 1, 0), (p, p_last, 0, 0, 0, 0, 1)
) AS link (holds, last, t, a, n, r, p)
WHERE link.holds
GROUP BY tenant_id, day, link.last;

INSERT INTO data.location_returns
SELECT tenant_id, location_id, day, coalesce(link.last, '-infinity'),
       sum(link.t), sum(link.a), sum(link.n), sum(link.r), sum(link.p)
FROM (
    SELECT *, max(day) OVER before AS t_last, max(day) FILTER (WHERE active) OVER before AS a_last,
           max(day) FILTER (WHERE new) OVER before AS n_last,
           max(day) FILTER (WHERE "returning") OVER before AS r_last,
           max(day) FILTER (WHERE purchaser) OVER before AS p_last
    FROM data.user_day
    WINDOW before AS (PARTITION BY tenant_id, location_id, user_pseudo_id ORDER BY day
                      ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
) AS chained
CROSS JOIN LATERAL (VALUES
    (true, t_last, 1, 0, 0, 0, 0), (active, a_last, 0, 1, 0, 0, 0), (new, n_last, 0, 0, 1, 0, 0),
    ("returning", r_last, 0, 0, 0, 1, 0), (purchaser, p_last, 0, 0, 0, 0, 1)
) AS link (holds, last, t, a, n, r, p)
WHERE link.holds
GROUP BY tenant_id, location_id, day, link.last;

ALTER TABLE data.user_day FORCE ROW LEVEL SECURITY;
ALTER TABLE data.visitor_returns FORCE ROW LEVEL SECURITY;
ALTER TABLE data.location_returns FORCE ROW LEVEL SECURITY;
