-- How visitors come back, for less: of most visitors of a load there is one row, which has just come. What
-- that adds needs no looking back, no chain of days and no difference between what was and what is.

-- As before (0019_digests.sql), and visitors who are there once are counted together.
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
             ' WHERE (a.tenant_id, a.user_pseudo_id) NOT IN (SELECT tenant_id, user_pseudo_id FROM once)'
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
            WITH touched AS (%1$s), present AS MATERIALIZED (
                SELECT u.* FROM touched JOIN data.user_day u USING (tenant_id, user_pseudo_id)
            ), once AS MATERIALIZED (
                -- Most visitors: of whom there is one row, which has just come.
                SELECT tenant_id, user_pseudo_id, min(day) AS day, min(location_id) AS location_id,
                       bool_or(active) AS active, bool_or(new) AS new,
                       bool_or("returning") AS "returning", bool_or(purchaser) AS purchaser
                FROM present
                GROUP BY tenant_id, user_pseudo_id HAVING %8$s AND count(*) = 1
            ), rows AS (
                -- What is there, and since when: a row that stands here twice has just come.
                SELECT tenant_id, day, location_id, user_pseudo_id, active, new, "returning",
                       purchaser, NOT bool_or(since) AS was, bool_or(NOT since) AS is_now
                FROM (
                    SELECT u.tenant_id, u.day, u.location_id, u.user_pseudo_id, u.active, u.new,
                           u."returning", u.purchaser, false AS since
                    FROM present u
                    WHERE (u.tenant_id, u.user_pseudo_id)
                          NOT IN (SELECT tenant_id, user_pseudo_id FROM once)
                    %2$s
                ) AS several
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
            ), links AS (
                SELECT tenant_id, %4$s day, coalesce(link.last, '-infinity') AS previous_day,
                       sum(link.t) AS total, sum(link.a) AS active, sum(link.n) AS new,
                       sum(link.r) AS "returning", sum(link.p) AS purchasers
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
                UNION ALL
                SELECT tenant_id, %4$s day, '-infinity', count(*), count(*) FILTER (WHERE active),
                       count(*) FILTER (WHERE new), count(*) FILTER (WHERE "returning"),
                       count(*) FILTER (WHERE purchaser)
                FROM once
                GROUP BY tenant_id, %4$s day
            ), difference AS (
                SELECT tenant_id, %4$s day, previous_day, sum(total)::integer AS total,
                       sum(active)::integer AS active, sum(new)::integer AS new,
                       sum("returning")::integer AS "returning", sum(purchasers)::integer AS purchasers
                FROM links
                GROUP BY tenant_id, %4$s day, previous_day
                HAVING sum(total) <> 0 OR sum(active) <> 0 OR sum(new) <> 0
                    OR sum("returning") <> 0 OR sum(purchasers) <> 0
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
            CASE WHEN scope.branch = '' THEN '' ELSE 'd.location_id,' END, (TG_OP = 'INSERT')::text);
    END LOOP;
    RETURN NULL;
END
$$;

-- As before (0024_parts_by_day.sql), likewise.
CREATE OR REPLACE FUNCTION data.follow_visitor_parts() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    has_added boolean := TG_OP IN ('INSERT', 'UPDATE');
    has_removed boolean := TG_OP IN ('DELETE', 'UPDATE');
    moved text := concat_ws(' UNION ALL ',
        CASE WHEN has_added THEN 'SELECT * FROM added' END,
        CASE WHEN has_removed THEN 'SELECT * FROM removed' END);
    since text := CASE WHEN has_added
        THEN ' UNION ALL SELECT a.*, true FROM added a'
             ' WHERE (a.tenant_id, a.user_pseudo_id) NOT IN (SELECT tenant_id, user_pseudo_id FROM once)'
        ELSE '' END;
    gone text := CASE WHEN has_removed
        THEN ' UNION ALL SELECT r.*, true, false FROM removed r' ELSE '' END;
BEGIN
    EXECUTE format($statement$
        WITH moved AS (%1$s), present AS MATERIALIZED (
            SELECT u.*
            FROM (SELECT DISTINCT tenant_id, user_pseudo_id FROM moved) AS m
            JOIN data.visitor_parts u USING (tenant_id, user_pseudo_id)
        ), once AS MATERIALIZED (
            -- Most visitors: of whom there is one row, which has just come.
            SELECT tenant_id, user_pseudo_id, min(day) AS day, min(channel) AS channel,
                   min(device) AS device, min(country) AS country, bool_or(active) AS active,
                   bool_or(new) AS new, bool_or("returning") AS "returning",
                   bool_or(purchaser) AS purchaser
            FROM present
            GROUP BY tenant_id, user_pseudo_id HAVING %4$s AND count(*) = 1
        ), touched AS MATERIALIZED (
            -- Of the others only the parts that the statement touched: other chains stay as they are.
            SELECT DISTINCT m.tenant_id, m.user_pseudo_id, d.dimension, d.part
            FROM moved m
            CROSS JOIN LATERAL (VALUES
                ('channel', m.channel), ('device', m.device), ('country', m.country)
            ) AS d (dimension, part)
            WHERE (m.tenant_id, m.user_pseudo_id) NOT IN (SELECT tenant_id, user_pseudo_id FROM once)
        ), rows AS (
            -- What is there, and since when: a row that stands here twice has just come.
            SELECT tenant_id, day, user_pseudo_id, channel, device, country, active, new, "returning",
                   purchaser, NOT bool_or(since) AS was, bool_or(NOT since) AS is_now
            FROM (
                SELECT u.*, false AS since
                FROM present u
                WHERE (u.tenant_id, u.user_pseudo_id)
                      NOT IN (SELECT tenant_id, user_pseudo_id FROM once)
                %2$s
            ) AS several (tenant_id, day, user_pseudo_id, channel, device, country, active, new,
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
        ), links AS (
            SELECT tenant_id, dimension, part, day, coalesce(link.last, '-infinity') AS previous_day,
                   sum(link.t) AS total, sum(link.a) AS active, sum(link.n) AS new,
                   sum(link.r) AS "returning", sum(link.p) AS purchasers
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
            UNION ALL
            SELECT s.tenant_id, d.dimension, d.part, s.day, '-infinity', s.total, s.active, s.new,
                   s."returning", s.purchasers
            FROM (
                SELECT tenant_id, day, channel, device, country, count(*) AS total,
                       count(*) FILTER (WHERE active) AS active, count(*) FILTER (WHERE new) AS new,
                       count(*) FILTER (WHERE "returning") AS "returning",
                       count(*) FILTER (WHERE purchaser) AS purchasers
                FROM once
                GROUP BY tenant_id, day, channel, device, country
            ) AS s
            CROSS JOIN LATERAL (VALUES
                ('channel', s.channel), ('device', s.device), ('country', s.country)
            ) AS d (dimension, part)
        ), difference AS (
            SELECT tenant_id, dimension, part, day, previous_day, sum(total)::integer AS total,
                   sum(active)::integer AS active, sum(new)::integer AS new,
                   sum("returning")::integer AS "returning", sum(purchasers)::integer AS purchasers
            FROM links
            GROUP BY tenant_id, dimension, part, day, previous_day
            HAVING sum(total) <> 0 OR sum(active) <> 0 OR sum(new) <> 0
                OR sum("returning") <> 0 OR sum(purchasers) <> 0
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
        $statement$, moved, since, gone, (TG_OP = 'INSERT')::text);
    RETURN NULL;
END
$$;
