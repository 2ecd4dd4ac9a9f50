-- Derived tables only. The statements of one answer run in one REPEATABLE READ transaction
-- (answers.py), so `reporting` names the version of whatever is read beside it.
-- Money travels as text: exact on every road into Python.
--
-- Two ways lead to the same figures. Rollups and returns answer what is asked of all sessions or of
-- branches, in the time of a few thousand rows; `measures_of_parts` answers every other question from
-- sessions and their activity. The tests put both beside a reading of the raw events.

-- name: reporting
-- $1 tenant. What a question needs to know before its dates mean anything.
SELECT t.name, t.reporting_time_zone, t.reporting_currency, t.week_start,
       coalesce(v.data_version, 0) AS data_version, v.first_day, v.data_until,
       (SELECT max(d.last_event_at) FROM data.source_days d
        WHERE d.tenant_id = $1 AND d.source_day >= coalesce(v.data_until, '-infinity') - 1
       ) AS last_event_at
FROM platform.tenants t
LEFT JOIN data.versions v ON v.tenant_id = t.tenant_id
WHERE t.tenant_id = $1

-- name: measures_by_period
-- $1 tenant, $2 first days, $3 last days (arrays of one length), $4 branches or NULL for all.
-- One row a period, in the order given.
SELECT counts.*, users.*, money.currencies
FROM unnest($2::date[], $3::date[]) WITH ORDINALITY AS period (first_day, last_day, position)
CROSS JOIN LATERAL (
    SELECT coalesce(sum(r.events), 0)::bigint AS events,
           coalesce(sum(r.events_without_consent), 0)::bigint AS events_without_consent,
           coalesce(sum(r.page_views), 0)::bigint AS page_views,
           coalesce(sum(r.sessions), 0)::bigint AS sessions,
           coalesce(sum(r.engaged_sessions), 0)::bigint AS engaged_sessions,
           coalesce(sum(r.sessions_with_cart), 0)::bigint AS sessions_with_cart,
           coalesce(sum(r.sessions_with_checkout), 0)::bigint AS sessions_with_checkout,
           coalesce(sum(r.sessions_with_purchase), 0)::bigint AS sessions_with_purchase,
           coalesce(sum(r.sessions_with_cart_without_purchase), 0)::bigint
               AS sessions_with_cart_without_purchase,
           coalesce(sum(r.searches), 0)::bigint AS searches,
           coalesce(sum(r.failed_searches), 0)::bigint AS failed_searches
    FROM data.daily_rollup r
    WHERE r.tenant_id = $1
      AND r.day BETWEEN period.first_day AND period.last_day
      AND ($4::text[] IS NULL OR r.location_id = ANY ($4))
) counts
CROSS JOIN LATERAL (
    -- One of the three is read: visitors of everything, of one branch, of several.
    SELECT sum(v.total)::bigint AS total_users, sum(v.active)::bigint AS active_users,
           sum(v.new)::bigint AS new_users, sum(v.is_returning)::bigint AS returning_users,
           sum(v.purchasers)::bigint AS purchasers
    FROM (
        SELECT r.total, r.active, r.new, r."returning" AS is_returning, r.purchasers
        FROM data.visitor_returns r
        WHERE $4::text[] IS NULL
          AND r.tenant_id = $1 AND r.day BETWEEN period.first_day AND period.last_day
          AND r.previous_day < period.first_day
        UNION ALL
        SELECT r.total, r.active, r.new, r."returning", r.purchasers
        FROM data.location_returns r
        WHERE cardinality($4::text[]) = 1
          AND r.tenant_id = $1 AND r.location_id = ($4::text[])[1]
          AND r.day BETWEEN period.first_day AND period.last_day
          AND r.previous_day < period.first_day
        UNION ALL
        SELECT count(*), count(*) FILTER (WHERE visitor.active),
               count(*) FILTER (WHERE visitor.new), count(*) FILTER (WHERE visitor.is_returning),
               count(*) FILTER (WHERE visitor.purchaser)
        FROM (
            SELECT bool_or(u.active) AS active, bool_or(u.new) AS new,
                   bool_or(u.returning) AS is_returning, bool_or(u.purchaser) AS purchaser
            FROM data.user_day u
            WHERE cardinality($4::text[]) > 1
              AND u.tenant_id = $1
              AND u.day BETWEEN period.first_day AND period.last_day
              AND u.location_id = ANY ($4)
            GROUP BY u.user_pseudo_id
        ) visitor
    ) v
) users
CROSS JOIN LATERAL (
    SELECT jsonb_agg(jsonb_build_object(
               'currency', m.currency, 'purchases', m.purchases,
               'gross_revenue', m.gross_revenue::text, 'refund_value', m.refund_value::text)
           ORDER BY m.currency) AS currencies
    FROM (
        SELECT r.currency, sum(r.purchases)::bigint AS purchases,
               sum(r.gross_revenue) AS gross_revenue, sum(r.refund_value) AS refund_value
        FROM data.daily_money r
        WHERE r.tenant_id = $1
          AND r.day BETWEEN period.first_day AND period.last_day
          AND ($4::text[] IS NULL OR r.location_id = ANY ($4))
        GROUP BY r.currency
    ) m
) money
ORDER BY period.position

-- name: measures_by_hour
-- $1 tenant, $2 first day, $3 last day, $4 branches or NULL. One row per clock hour with data.
-- Distinct users are kept per day, so none are here.
WITH counts AS (
    SELECT r.hour_start, sum(r.events)::bigint AS events,
           sum(r.events_without_consent)::bigint AS events_without_consent,
           sum(r.page_views)::bigint AS page_views,
           sum(r.sessions)::bigint AS sessions,
           sum(r.engaged_sessions)::bigint AS engaged_sessions,
           sum(r.sessions_with_cart)::bigint AS sessions_with_cart,
           sum(r.sessions_with_checkout)::bigint AS sessions_with_checkout,
           sum(r.sessions_with_purchase)::bigint AS sessions_with_purchase,
           sum(r.sessions_with_cart_without_purchase)::bigint
               AS sessions_with_cart_without_purchase,
           sum(r.searches)::bigint AS searches,
           sum(r.failed_searches)::bigint AS failed_searches
    FROM data.hourly_rollup r
    WHERE r.tenant_id = $1 AND r.day BETWEEN $2 AND $3
      AND ($4::text[] IS NULL OR r.location_id = ANY ($4))
    GROUP BY r.hour_start
), per_currency AS (
    SELECT r.hour_start, r.currency, sum(r.purchases)::bigint AS purchases,
           sum(r.gross_revenue) AS gross_revenue, sum(r.refund_value) AS refund_value
    FROM data.money_rollup r
    WHERE r.tenant_id = $1 AND r.day BETWEEN $2 AND $3
      AND ($4::text[] IS NULL OR r.location_id = ANY ($4))
    GROUP BY r.hour_start, r.currency
), money AS (
    SELECT m.hour_start, jsonb_agg(jsonb_build_object(
               'currency', m.currency, 'purchases', m.purchases,
               'gross_revenue', m.gross_revenue::text, 'refund_value', m.refund_value::text)
           ORDER BY m.currency) AS currencies
    FROM per_currency m
    GROUP BY m.hour_start
)
SELECT c.*, m.currencies, coalesce(c.hour_start, m.hour_start) AS hour
FROM counts c
FULL JOIN money m ON m.hour_start = c.hour_start
ORDER BY hour

-- name: measures_by_location
-- $1 tenant, $2 first days, $3 last days, $4 branches or NULL. One row per period and branch that
-- has data or stands in the master data; the empty branch is "no branch known".
WITH period AS (
    SELECT * FROM unnest($2::date[], $3::date[])
        WITH ORDINALITY AS p (first_day, last_day, position)
), counts AS (
    SELECT p.position, r.location_id, sum(r.events)::bigint AS events,
           sum(r.events_without_consent)::bigint AS events_without_consent,
           sum(r.page_views)::bigint AS page_views,
           sum(r.sessions)::bigint AS sessions,
           sum(r.engaged_sessions)::bigint AS engaged_sessions,
           sum(r.sessions_with_cart)::bigint AS sessions_with_cart,
           sum(r.sessions_with_checkout)::bigint AS sessions_with_checkout,
           sum(r.sessions_with_purchase)::bigint AS sessions_with_purchase,
           sum(r.sessions_with_cart_without_purchase)::bigint
               AS sessions_with_cart_without_purchase,
           sum(r.searches)::bigint AS searches,
           sum(r.failed_searches)::bigint AS failed_searches
    FROM period p
    JOIN data.daily_rollup r
      ON r.tenant_id = $1 AND r.day BETWEEN p.first_day AND p.last_day
     AND ($4::text[] IS NULL OR r.location_id = ANY ($4))
    GROUP BY p.position, r.location_id
), users AS (
    SELECT p.position, r.location_id, sum(r.total)::bigint AS total_users,
           sum(r.active)::bigint AS active_users, sum(r.new)::bigint AS new_users,
           sum(r."returning")::bigint AS returning_users, sum(r.purchasers)::bigint AS purchasers
    FROM period p
    JOIN data.location_returns r
      ON r.tenant_id = $1 AND r.day BETWEEN p.first_day AND p.last_day
     AND r.previous_day < p.first_day
     AND ($4::text[] IS NULL OR r.location_id = ANY ($4))
    GROUP BY p.position, r.location_id
), per_currency AS (
    SELECT p.position, r.location_id, r.currency, sum(r.purchases)::bigint AS purchases,
           sum(r.gross_revenue) AS gross_revenue, sum(r.refund_value) AS refund_value
    FROM period p
    JOIN data.daily_money r
      ON r.tenant_id = $1 AND r.day BETWEEN p.first_day AND p.last_day
     AND ($4::text[] IS NULL OR r.location_id = ANY ($4))
    GROUP BY p.position, r.location_id, r.currency
), money AS (
    SELECT m.position, m.location_id, jsonb_agg(jsonb_build_object(
               'currency', m.currency, 'purchases', m.purchases,
               'gross_revenue', m.gross_revenue::text, 'refund_value', m.refund_value::text)
           ORDER BY m.currency) AS currencies
    FROM per_currency m
    GROUP BY m.position, m.location_id
), branch AS (
    SELECT l.location_id FROM data.locations l
    WHERE l.tenant_id = $1 AND ($4::text[] IS NULL OR l.location_id = ANY ($4))
    UNION
    SELECT location_id FROM counts
    UNION
    SELECT location_id FROM users
    UNION
    SELECT location_id FROM per_currency
)
SELECT c.*, u.*, m.currencies, p.position AS period, b.location_id AS branch_id, l.name, l.city
FROM period p
CROSS JOIN branch b
LEFT JOIN data.locations l ON l.tenant_id = $1 AND l.location_id = b.location_id
LEFT JOIN counts c ON c.position = p.position AND c.location_id = b.location_id
LEFT JOIN users u ON u.position = p.position AND u.location_id = b.location_id
LEFT JOIN money m ON m.position = p.position AND m.location_id = b.location_id
ORDER BY p.position, b.location_id

-- name: measures_by_part
-- $1 tenant, $2 first days, $3 last days, $4 'channel', 'device' or 'country', $5 parts or NULL. One row per
-- period and part with data, from what is added up by day; the empty part is "not known", and holds what
-- happened outside of sessions.
WITH period AS (
    SELECT * FROM unnest($2::date[], $3::date[])
        WITH ORDINALITY AS p (first_day, last_day, position)
), counts AS (
    SELECT p.position, r.part, sum(r.events)::bigint AS events,
           sum(r.events_without_consent)::bigint AS events_without_consent,
           sum(r.page_views)::bigint AS page_views,
           sum(r.sessions)::bigint AS sessions,
           sum(r.engaged_sessions)::bigint AS engaged_sessions,
           sum(r.sessions_with_cart)::bigint AS sessions_with_cart,
           sum(r.sessions_with_checkout)::bigint AS sessions_with_checkout,
           sum(r.sessions_with_purchase)::bigint AS sessions_with_purchase,
           sum(r.sessions_with_cart_without_purchase)::bigint
               AS sessions_with_cart_without_purchase,
           sum(r.searches)::bigint AS searches,
           sum(r.failed_searches)::bigint AS failed_searches
    FROM period p
    JOIN data.part_rollup r
      ON r.tenant_id = $1 AND r.dimension = $4::text AND r.day BETWEEN p.first_day AND p.last_day
     AND ($5::text[] IS NULL OR r.part = ANY ($5))
    GROUP BY p.position, r.part
), users AS (
    SELECT p.position, r.part, sum(r.total)::bigint AS total_users,
           sum(r.active)::bigint AS active_users, sum(r.new)::bigint AS new_users,
           sum(r."returning")::bigint AS returning_users, sum(r.purchasers)::bigint AS purchasers
    FROM period p
    JOIN data.part_returns r
      ON r.tenant_id = $1 AND r.dimension = $4 AND r.day BETWEEN p.first_day AND p.last_day
     AND r.previous_day < p.first_day
     AND ($5::text[] IS NULL OR r.part = ANY ($5))
    GROUP BY p.position, r.part
), per_currency AS (
    SELECT p.position, r.part, r.currency, sum(r.purchases)::bigint AS purchases,
           sum(r.gross_revenue) AS gross_revenue, sum(r.refund_value) AS refund_value
    FROM period p
    JOIN data.part_money r
      ON r.tenant_id = $1 AND r.dimension = $4 AND r.day BETWEEN p.first_day AND p.last_day
     AND ($5::text[] IS NULL OR r.part = ANY ($5))
    GROUP BY p.position, r.part, r.currency
), money AS (
    SELECT m.position, m.part, jsonb_agg(jsonb_build_object(
               'currency', m.currency, 'purchases', m.purchases,
               'gross_revenue', m.gross_revenue::text, 'refund_value', m.refund_value::text)
           ORDER BY m.currency) AS currencies
    FROM per_currency m
    GROUP BY m.position, m.part
), found AS (
    SELECT position, part FROM counts
    UNION SELECT position, part FROM money
)
SELECT f.position AS period, f.part::text AS part_name, c.*, u.*, m.currencies
FROM found f
LEFT JOIN counts c ON c.position = f.position AND c.part = f.part
LEFT JOIN users u ON u.position = f.position AND u.part = f.part
LEFT JOIN money m ON m.position = f.position AND m.part = f.part
ORDER BY f.position, f.part

-- name: plan_for_joins
-- Around statements that join sessions. What is read in ranges of days goes into CTEs, whose sizes the
-- planner cannot know; it would take them for tiny, and join them row by row.
SET LOCAL enable_nestloop = off;
SET LOCAL work_mem = '32MB';

-- name: plan_for_groups
-- Around `subjects_by_day`, which looks rows up one by one, and groups them in memory.
SET LOCAL work_mem = '32MB';

-- name: plan_as_usual
SET LOCAL enable_nestloop = on;
SET LOCAL work_mem TO DEFAULT;

-- name: measures_of_parts
-- $1 tenant, $2 first days, $3 last days, $4 ends (an instant at which a clock hour begins, or NULL
-- for the whole of the last day); the filters, each NULL for all: $5 branches, $6 channels,
-- $7 devices, $8 countries, $9 customers, where the empty text is "not known", $10 kinds and $11 subjects
-- side by side, of which a session must have one of each kind; $12 what is told apart: '', 'location',
-- 'channel', 'device', 'country' or 'hour'; $13 reporting zone.
-- One row per period and part with data; a clock hour is named by its seconds since 1970.
-- Filters but the branch's choose sessions: what happened outside of sessions matches none of them.
WITH period AS (
    -- `earliest`: the first day on which a session begins that reaches into the period.
    SELECT p.*, least(p.first_day, (
               SELECT min(s.day) FROM data.sessions s
               WHERE s.tenant_id = $1 AND s.last_day > s.day AND s.last_day >= p.first_day
                 AND s.day < p.first_day)) AS earliest
    FROM unnest($2::date[], $3::date[], $4::timestamptz[])
        WITH ORDINALITY AS p (first_day, last_day, until, position)
), visit AS MATERIALIZED (
    SELECT p.position, s.day, s.stream_id, s.user_pseudo_id, s.ga_session_id, s.started_at,
           s.engaged, s.cart_additions > 0 AS with_cart, s.checkouts > 0 AS with_checkout,
           s.purchases > 0 AS with_purchase,
           CASE $12::text WHEN 'location' THEN s.location_id WHEN 'channel' THEN s.channel
               WHEN 'device' THEN coalesce(s.device_category, '')
               WHEN 'country' THEN coalesce(s.country, '') ELSE '' END AS part
    FROM period p
    JOIN data.sessions s
      ON s.tenant_id = $1 AND s.day BETWEEN p.earliest AND p.last_day AND s.last_day >= p.first_day
    WHERE true
      AND ($5::text[] IS NULL OR s.location_id = ANY ($5))
      AND ($6::text[] IS NULL OR s.channel = ANY ($6))
      AND ($7::text[] IS NULL OR coalesce(s.device_category, '') = ANY ($7))
      AND ($8::text[] IS NULL OR coalesce(s.country, '') = ANY ($8))
      AND ($9::text[] IS NULL OR coalesce(s.customer_id, '') = ANY ($9))
      AND ($10::text[] IS NULL
           OR (s.stream_id, s.user_pseudo_id, s.ga_session_id) IN (
               SELECT w.* FROM data.sessions_with($1, $2, $3, $10, $11) AS w))
), begun AS (
    SELECT v.position, coalesce(hour.part, v.part) AS part, count(*) AS sessions,
           count(*) FILTER (WHERE v.engaged) AS engaged_sessions,
           count(*) FILTER (WHERE v.with_cart) AS sessions_with_cart,
           count(*) FILTER (WHERE v.with_checkout) AS sessions_with_checkout,
           count(*) FILTER (WHERE v.with_purchase) AS sessions_with_purchase,
           count(*) FILTER (WHERE v.with_cart AND NOT v.with_purchase)
               AS sessions_with_cart_without_purchase
    FROM visit v
    JOIN period p ON p.position = v.position
    CROSS JOIN LATERAL (
        SELECT CASE $12 WHEN 'hour'
               THEN extract(epoch FROM date_trunc('hour', v.started_at, $13))::bigint::text END AS part
    ) AS hour
    WHERE v.day >= p.first_day AND (p.until IS NULL OR v.started_at < p.until)
    GROUP BY 1, 2
), act AS MATERIALIZED (
    SELECT p.position, a.hour_start, a.stream_id, a.user_pseudo_id, a.ga_session_id,
           a.own_location_id, a.events, a.page_views, a.searches, a.failed_searches, a.active,
           a.new, a."returning"
    FROM period p
    JOIN data.activity a
      ON a.tenant_id = $1 AND a.day BETWEEN p.first_day AND p.last_day
     AND (p.until IS NULL OR a.hour_start < p.until)
), visitor AS (
    SELECT a.position, a.user_pseudo_id,
           CASE WHEN $12 = 'hour' THEN extract(epoch FROM a.hour_start)::bigint::text
                WHEN v.position IS NOT NULL THEN v.part
                WHEN $12 = 'location' THEN coalesce(a.own_location_id, '') ELSE '' END AS part,
           sum(a.events) AS events,
           sum(a.events) FILTER (WHERE a.ga_session_id IS NULL) AS events_without_consent,
           sum(a.page_views) AS page_views, sum(a.searches) AS searches,
           sum(a.failed_searches) AS failed_searches,
           bool_or(a.active OR v.engaged IS TRUE) AS active, bool_or(a.new) AS new,
           bool_or(a."returning") AS is_returning
    FROM act a
    LEFT JOIN visit v
      ON v.position = a.position AND v.user_pseudo_id = a.user_pseudo_id
     AND v.ga_session_id = a.ga_session_id AND v.stream_id = a.stream_id
    WHERE v.position IS NOT NULL
       OR (a.ga_session_id IS NULL AND $6 IS NULL AND $7 IS NULL AND $8 IS NULL AND $9 IS NULL
           AND $10 IS NULL AND ($5 IS NULL OR coalesce(a.own_location_id, '') = ANY ($5)))
    GROUP BY 1, 2, 3
), happened AS (
    SELECT position, part, sum(events)::bigint AS events,
           coalesce(sum(events_without_consent), 0)::bigint AS events_without_consent,
           sum(page_views)::bigint AS page_views, sum(searches)::bigint AS searches,
           sum(failed_searches)::bigint AS failed_searches,
           count(user_pseudo_id) AS total_users,
           count(user_pseudo_id) FILTER (WHERE active) AS active_users,
           count(user_pseudo_id) FILTER (WHERE new) AS new_users,
           count(user_pseudo_id) FILTER (WHERE is_returning) AS returning_users
    FROM visitor
    GROUP BY position, part
), deal AS MATERIALIZED (
    SELECT p.position, t.*
    FROM period p
    CROSS JOIN LATERAL (
        SELECT b.purchased_at AS at, b.stream_id, b.user_pseudo_id, b.ga_session_id,
               b.location_id, b.currency, 1 AS bought, b.revenue, 0 AS refund_value
        FROM data.purchases b
        WHERE b.tenant_id = $1 AND b.day BETWEEN p.first_day AND p.last_day AND b.counted
        UNION ALL
        SELECT r.refunded_at, r.stream_id, r.user_pseudo_id, r.ga_session_id,
               r.location_id, r.currency, 0, 0, r.refund_value
        FROM data.refunds r
        WHERE r.tenant_id = $1 AND r.day BETWEEN p.first_day AND p.last_day
    ) AS t
    WHERE p.until IS NULL OR t.at < p.until
), trade AS (
    SELECT t.position, t.currency, t.user_pseudo_id, t.bought, t.revenue, t.refund_value,
           CASE WHEN $12 = 'hour'
                    THEN extract(epoch FROM date_trunc('hour', t.at, $13))::bigint::text
                WHEN v.position IS NOT NULL THEN v.part
                WHEN $12 = 'location' THEN t.location_id ELSE '' END AS part
    FROM deal t
    LEFT JOIN visit v
      ON v.position = t.position AND v.user_pseudo_id = t.user_pseudo_id
     AND v.ga_session_id = t.ga_session_id AND v.stream_id = coalesce(t.stream_id, '')
    WHERE v.position IS NOT NULL
       OR ((t.user_pseudo_id IS NULL OR t.ga_session_id IS NULL)
           AND $6 IS NULL AND $7 IS NULL AND $8 IS NULL AND $9 IS NULL AND $10 IS NULL
           AND ($5 IS NULL OR t.location_id = ANY ($5)))
), buyers AS (
    SELECT position, part, count(DISTINCT user_pseudo_id) AS purchasers
    FROM trade WHERE bought = 1
    GROUP BY position, part
), per_currency AS (
    SELECT position, part, currency, sum(bought)::bigint AS purchases,
           sum(revenue) AS gross_revenue, sum(refund_value) AS refund_value
    FROM trade
    GROUP BY position, part, currency
), money AS (
    SELECT m.position, m.part, jsonb_agg(jsonb_build_object(
               'currency', m.currency, 'purchases', m.purchases,
               'gross_revenue', m.gross_revenue::text, 'refund_value', m.refund_value::text)
           ORDER BY m.currency) AS currencies
    FROM per_currency m
    GROUP BY m.position, m.part
), found AS (
    SELECT position, part FROM begun
    UNION SELECT position, part FROM happened
    UNION SELECT position, part FROM money
)
SELECT f.position AS period, f.part AS part_name, h.*, b.*, y.purchasers, m.currencies
FROM found f
LEFT JOIN begun b ON b.position = f.position AND b.part = f.part
LEFT JOIN happened h ON h.position = f.position AND h.part = f.part
LEFT JOIN buyers y ON y.position = f.position AND y.part = f.part
LEFT JOIN money m ON m.position = f.position AND m.part = f.part
ORDER BY f.position, f.part

-- name: measures_of_sessions
-- The same for whole days, where nothing is told apart by the hour: $1 to $12 as above, $4 of no use. What
-- a session did stands beside it, so activity is read only of the sessions that reach over the edge of a
-- period ("straddling"), and of nobody's.
WITH period AS (
    SELECT * FROM unnest($2::date[], $3::date[], $4::timestamptz[])
        WITH ORDINALITY AS p (first_day, last_day, until, position)
), straddling AS MATERIALIZED (
    SELECT p.position, s.stream_id, s.user_pseudo_id, s.ga_session_id, s.engaged,
           greatest(s.day, p.first_day) AS from_day, least(s.last_day, p.last_day) AS to_day,
           CASE $12::text WHEN 'location' THEN s.location_id WHEN 'channel' THEN s.channel
               WHEN 'device' THEN coalesce(s.device_category, '')
               WHEN 'country' THEN coalesce(s.country, '') ELSE '' END AS part
    FROM period p
    JOIN data.sessions s
      ON s.tenant_id = $1 AND s.last_day > s.day AND s.day <= p.last_day AND s.last_day >= p.first_day
     AND (s.day < p.first_day OR s.last_day > p.last_day)
    WHERE true
      AND ($5::text[] IS NULL OR s.location_id = ANY ($5))
      AND ($6::text[] IS NULL OR s.channel = ANY ($6))
      AND ($7::text[] IS NULL OR coalesce(s.device_category, '') = ANY ($7))
      AND ($8::text[] IS NULL OR coalesce(s.country, '') = ANY ($8))
      AND ($9::text[] IS NULL OR coalesce(s.customer_id, '') = ANY ($9))
      AND ($10::text[] IS NULL
           OR (s.stream_id, s.user_pseudo_id, s.ga_session_id) IN (
               SELECT w.* FROM data.sessions_with($1, $2, $3, $10, $11) AS w))
), edge AS (
    -- Days of which some straddling session's activity is wanted.
    SELECT DISTINCT d.position, day::date
    FROM (SELECT DISTINCT position, from_day, to_day FROM straddling) d
    CROSS JOIN LATERAL generate_series(d.from_day, d.to_day, interval '1 day') AS day
), did AS MATERIALIZED (
    SELECT p.position,
           CASE $12 WHEN 'location' THEN s.location_id WHEN 'channel' THEN s.channel
               WHEN 'device' THEN coalesce(s.device_category, '')
               WHEN 'country' THEN coalesce(s.country, '') ELSE '' END AS part,
           CASE WHEN s.last_day <= p.last_day THEN s.user_pseudo_id END AS user_pseudo_id,
           CASE WHEN s.last_day <= p.last_day THEN s.events ELSE 0 END AS events,
           0 AS events_without_consent,
           CASE WHEN s.last_day <= p.last_day THEN s.page_views ELSE 0 END AS page_views,
           CASE WHEN s.last_day <= p.last_day THEN s.searches ELSE 0 END AS searches,
           CASE WHEN s.last_day <= p.last_day THEN s.failed_searches ELSE 0 END AS failed_searches,
           -- Of visitors: 1 active, 2 new, 4 returning; one aggregate instead of three.
           (s.active OR s.engaged)::integer + 2 * s.new::integer
               + CASE WHEN s.session_number > 1 THEN 4 ELSE 0 END AS roles,
           true AS begun, s.engaged, s.cart_additions > 0 AS with_cart,
           s.checkouts > 0 AS with_checkout, s.purchases > 0 AS with_purchase
    FROM period p
    JOIN data.sessions s ON s.tenant_id = $1 AND s.day BETWEEN p.first_day AND p.last_day
    WHERE true
      AND ($5::text[] IS NULL OR s.location_id = ANY ($5))
      AND ($6::text[] IS NULL OR s.channel = ANY ($6))
      AND ($7::text[] IS NULL OR coalesce(s.device_category, '') = ANY ($7))
      AND ($8::text[] IS NULL OR coalesce(s.country, '') = ANY ($8))
      AND ($9::text[] IS NULL OR coalesce(s.customer_id, '') = ANY ($9))
      AND ($10::text[] IS NULL
           OR (s.stream_id, s.user_pseudo_id, s.ga_session_id) IN (
               SELECT w.* FROM data.sessions_with($1, $2, $3, $10, $11) AS w))
    UNION ALL
    SELECT v.position, v.part, v.user_pseudo_id, a.events::integer, 0, a.page_views::integer,
           a.searches::integer, a.failed_searches::integer,
           (a.active OR v.engaged)::integer + 2 * a.new::integer + 4 * a."returning"::integer,
           false, false, false, false, false
    FROM straddling v
    JOIN (
        SELECT e.position, a.*
        FROM edge e
        JOIN data.activity a ON a.tenant_id = $1 AND a.day = e.day
    ) AS a
      ON a.position = v.position AND a.user_pseudo_id = v.user_pseudo_id
     AND a.ga_session_id = v.ga_session_id AND a.stream_id = v.stream_id
    UNION ALL
    SELECT p.position, CASE $12 WHEN 'location' THEN coalesce(a.own_location_id, '') ELSE '' END,
           a.user_pseudo_id, a.events::integer, a.events::integer, a.page_views::integer,
           a.searches::integer, a.failed_searches::integer,
           a.active::integer + 2 * a.new::integer + 4 * a."returning"::integer,
           false, false, false, false, false
    FROM period p
    JOIN data.activity a
      ON a.tenant_id = $1 AND a.day BETWEEN p.first_day AND p.last_day AND a.ga_session_id IS NULL
    WHERE $6::text[] IS NULL AND $7::text[] IS NULL AND $8::text[] IS NULL AND $9::text[] IS NULL
      AND $10::text[] IS NULL AND ($5::text[] IS NULL OR coalesce(a.own_location_id, '') = ANY ($5))
), counts AS (
    SELECT position, part, sum(events) AS events,
           sum(events_without_consent) AS events_without_consent, sum(page_views) AS page_views,
           sum(searches) AS searches, sum(failed_searches) AS failed_searches,
           count(*) FILTER (WHERE begun) AS sessions,
           count(*) FILTER (WHERE begun AND engaged) AS engaged_sessions,
           count(*) FILTER (WHERE with_cart) AS sessions_with_cart,
           count(*) FILTER (WHERE with_checkout) AS sessions_with_checkout,
           count(*) FILTER (WHERE with_purchase) AS sessions_with_purchase,
           count(*) FILTER (WHERE with_cart AND NOT with_purchase)
               AS sessions_with_cart_without_purchase
    FROM did
    GROUP BY position, part
), users AS (
    SELECT position, part, count(*) AS total_users,
           count(*) FILTER (WHERE roles & 1 > 0) AS active_users,
           count(*) FILTER (WHERE roles & 2 > 0) AS new_users,
           count(*) FILTER (WHERE roles & 4 > 0) AS returning_users
    FROM (
        SELECT position, part, bit_or(roles) AS roles
        FROM did
        WHERE user_pseudo_id IS NOT NULL
        GROUP BY position, part, user_pseudo_id
    ) AS visitor
    GROUP BY position, part
), deal AS (
    SELECT p.position, t.*
    FROM period p
    CROSS JOIN LATERAL (
        SELECT b.stream_id, b.user_pseudo_id, b.ga_session_id,
               b.location_id, b.currency, 1 AS bought, b.revenue, 0 AS refund_value
        FROM data.purchases b
        WHERE b.tenant_id = $1 AND b.day BETWEEN p.first_day AND p.last_day AND b.counted
        UNION ALL
        SELECT r.stream_id, r.user_pseudo_id, r.ga_session_id,
               r.location_id, r.currency, 0, 0, r.refund_value
        FROM data.refunds r
        WHERE r.tenant_id = $1 AND r.day BETWEEN p.first_day AND p.last_day
    ) AS t
), trade AS (
    SELECT t.position, t.currency, t.user_pseudo_id, t.bought, t.revenue, t.refund_value,
           CASE WHEN v.part IS NOT NULL THEN v.part
                WHEN $12 = 'location' THEN t.location_id ELSE '' END AS part
    FROM deal t
    LEFT JOIN LATERAL (
        -- One at a time, by key: deals are few, and a session of theirs may have begun on any day.
        SELECT CASE $12 WHEN 'location' THEN s.location_id WHEN 'channel' THEN s.channel
                   WHEN 'device' THEN coalesce(s.device_category, '')
                   WHEN 'country' THEN coalesce(s.country, '') ELSE '' END AS part
        FROM data.sessions s
        WHERE s.tenant_id = $1 AND s.user_pseudo_id = t.user_pseudo_id
          AND s.ga_session_id = t.ga_session_id AND s.stream_id = coalesce(t.stream_id, '')
          AND ($5::text[] IS NULL OR s.location_id = ANY ($5))
          AND ($6::text[] IS NULL OR s.channel = ANY ($6))
          AND ($7::text[] IS NULL OR coalesce(s.device_category, '') = ANY ($7))
          AND ($8::text[] IS NULL OR coalesce(s.country, '') = ANY ($8))
          AND ($9::text[] IS NULL OR coalesce(s.customer_id, '') = ANY ($9))
          AND ($10::text[] IS NULL
               OR (s.stream_id, s.user_pseudo_id, s.ga_session_id) IN (
                   SELECT w.* FROM data.sessions_with($1, $2, $3, $10, $11) AS w))
        LIMIT 1
    ) v ON true
    WHERE v.part IS NOT NULL
       OR ((t.user_pseudo_id IS NULL OR t.ga_session_id IS NULL)
           AND $6 IS NULL AND $7 IS NULL AND $8 IS NULL AND $9 IS NULL AND $10 IS NULL
           AND ($5 IS NULL OR t.location_id = ANY ($5)))
), buyers AS (
    SELECT position, part, count(DISTINCT user_pseudo_id) AS purchasers
    FROM trade WHERE bought = 1
    GROUP BY position, part
), per_currency AS (
    SELECT position, part, currency, sum(bought)::bigint AS purchases,
           sum(revenue) AS gross_revenue, sum(refund_value) AS refund_value
    FROM trade
    GROUP BY position, part, currency
), money AS (
    SELECT m.position, m.part, jsonb_agg(jsonb_build_object(
               'currency', m.currency, 'purchases', m.purchases,
               'gross_revenue', m.gross_revenue::text, 'refund_value', m.refund_value::text)
           ORDER BY m.currency) AS currencies
    FROM per_currency m
    GROUP BY m.position, m.part
), found AS (
    SELECT position, part FROM counts
    UNION SELECT position, part FROM money
)
SELECT f.position AS period, f.part AS part_name, c.*, u.*, y.purchasers, m.currencies
FROM found f
LEFT JOIN counts c ON c.position = f.position AND c.part = f.part
LEFT JOIN users u ON u.position = f.position AND u.part = f.part
LEFT JOIN buyers y ON y.position = f.position AND y.part = f.part
LEFT JOIN money m ON m.position = f.position AND m.part = f.part
ORDER BY f.position, f.part

-- name: funnel
-- $1 to $11 as for `measures_of_parts`, $12 window in microseconds. One row a period: sessions that
-- begin in it, and how many of them get to each step within the window after a product view.
SELECT count(s.day) AS sessions,
       count(s.day) FILTER (WHERE s.item_views > 0) AS viewed,
       count(s.day) FILTER (WHERE s.cart_within <= $12::bigint) AS carted,
       count(s.day) FILTER (WHERE s.checkout_within <= $12) AS checked_out,
       count(s.day) FILTER (WHERE s.purchase_within <= $12) AS purchased
FROM unnest($2::date[], $3::date[], $4::timestamptz[])
    WITH ORDINALITY AS p (first_day, last_day, until, position)
LEFT JOIN LATERAL (
    SELECT *
    FROM data.sessions s
    WHERE s.tenant_id = $1 AND s.day BETWEEN p.first_day AND p.last_day
      AND (p.until IS NULL OR s.started_at < p.until)
      AND ($5::text[] IS NULL OR s.location_id = ANY ($5))
      AND ($6::text[] IS NULL OR s.channel = ANY ($6))
      AND ($7::text[] IS NULL OR coalesce(s.device_category, '') = ANY ($7))
      AND ($8::text[] IS NULL OR coalesce(s.country, '') = ANY ($8))
      AND ($9::text[] IS NULL OR coalesce(s.customer_id, '') = ANY ($9))
      AND ($10::text[] IS NULL
           OR (s.stream_id, s.user_pseudo_id, s.ga_session_id) IN (
               SELECT w.* FROM data.sessions_with($1, $2, $3, $10, $11) AS w))
) s ON true
GROUP BY p.position
ORDER BY p.position

-- name: subjects
-- $1 to $11 as for `measures_of_parts` (one period, or two: the second is what the first is compared
-- with); $12 kind: 'page', 'product' or 'term'; $13 reporting currency; $14 the figure to sort by;
-- $15 and $16 figure and subject of the last row seen, or NULL; $17 rows wanted. Subjects of the
-- first period, greatest figure first, with the figures of the second beside (zero when it has none).
-- `total` stands in every row.
WITH period AS (
    -- `earliest`: the first day on which a session begins that reaches into the period.
    SELECT p.*, least(p.first_day, (
               SELECT min(s.day) FROM data.sessions s
               WHERE s.tenant_id = $1 AND s.last_day > s.day AND s.last_day >= p.first_day
                 AND s.day < p.first_day)) AS earliest
    FROM unnest($2::date[], $3::date[], $4::timestamptz[])
        WITH ORDINALITY AS p (first_day, last_day, until, position)
), visit AS MATERIALIZED (
    SELECT p.position, row_number() OVER () AS number, s.day, s.stream_id, s.user_pseudo_id,
           s.ga_session_id, s.started_at, s.engaged, s.landing_page,
           CASE WHEN $12::text = 'term' AND s.purchases > 0 THEN (
               SELECT max(b.purchased_at) FROM data.purchases b
               WHERE b.tenant_id = $1 AND b.user_pseudo_id = s.user_pseudo_id
                 AND b.ga_session_id = s.ga_session_id AND coalesce(b.stream_id, '') = s.stream_id
                 AND b.counted) END AS last_purchase_at
    FROM period p
    JOIN data.sessions s
      ON s.tenant_id = $1 AND s.day BETWEEN p.earliest AND p.last_day AND s.last_day >= p.first_day
    WHERE true
      AND ($5::text[] IS NULL OR s.location_id = ANY ($5))
      AND ($6::text[] IS NULL OR s.channel = ANY ($6))
      AND ($7::text[] IS NULL OR coalesce(s.device_category, '') = ANY ($7))
      AND ($8::text[] IS NULL OR coalesce(s.country, '') = ANY ($8))
      AND ($9::text[] IS NULL OR coalesce(s.customer_id, '') = ANY ($9))
      AND ($10::text[] IS NULL
           OR (s.stream_id, s.user_pseudo_id, s.ga_session_id) IN (
               SELECT w.* FROM data.sessions_with($1, $2, $3, $10, $11) AS w))
), interest AS MATERIALIZED (
    SELECT p.position, i.subject, i.label, i.stream_id, i.user_pseudo_id, i.ga_session_id,
           i.own_location_id, i.first_at, i.views, i.cart_additions, i.failures
    FROM period p
    JOIN data.interests i
      ON i.tenant_id = $1 AND i.kind = $12 AND i.day BETWEEN p.first_day AND p.last_day
     AND (p.until IS NULL OR i.first_at < p.until)
), met AS (
    -- One row per period, subject and session, or visitor without one.
    SELECT i.position, i.subject, v.number, i.user_pseudo_id, max(i.label) AS label,
           sum(i.views) AS views, sum(i.cart_additions) AS cart_additions,
           sum(i.failures) AS failures, min(i.first_at) < max(v.last_purchase_at) AS converted
    FROM interest i
    LEFT JOIN visit v
      ON v.position = i.position AND v.user_pseudo_id = i.user_pseudo_id
     AND v.ga_session_id = i.ga_session_id AND v.stream_id = i.stream_id
    WHERE v.position IS NOT NULL
       OR (i.ga_session_id IS NULL AND $6 IS NULL AND $7 IS NULL AND $8 IS NULL AND $9 IS NULL
           AND $10 IS NULL AND ($5 IS NULL OR coalesce(i.own_location_id, '') = ANY ($5)))
    GROUP BY i.position, i.subject, v.number, i.user_pseudo_id
), per_visitor AS (
    SELECT position, subject, user_pseudo_id, max(label) AS label, sum(views) AS views,
           sum(cart_additions) AS cart_additions, sum(failures) AS failures,
           count(number) AS sessions, count(*) FILTER (WHERE converted) AS conversions
    FROM met
    GROUP BY position, subject, user_pseudo_id
), looked AS (
    SELECT position, subject, max(label) AS label, sum(views)::bigint AS views,
           sum(cart_additions)::bigint AS cart_additions, sum(failures)::bigint AS failures,
           sum(sessions)::bigint AS sessions, count(user_pseudo_id) AS visitors,
           sum(conversions)::bigint AS conversions
    FROM per_visitor
    GROUP BY position, subject
), entered AS (
    SELECT v.position, data.page_of(v.landing_page) AS subject, count(*) AS entrances,
           count(*) FILTER (WHERE NOT v.engaged) AS bounces
    FROM visit v
    JOIN period p ON p.position = v.position
    WHERE $12 = 'page' AND v.day >= p.first_day AND (p.until IS NULL OR v.started_at < p.until)
      AND data.page_of(v.landing_page) NOT IN ('', '(not set)')
    GROUP BY 1, 2
), deal AS MATERIALIZED (
    SELECT p.position, b.stream_id, b.user_pseudo_id, b.ga_session_id, b.location_id, b.currency,
           b.sold
    FROM period p
    JOIN data.purchases b
      ON $12 = 'product' AND b.tenant_id = $1 AND b.day BETWEEN p.first_day AND p.last_day
     AND b.counted AND (p.until IS NULL OR b.purchased_at < p.until)
), sold AS (
    SELECT b.position, item.product AS subject, max(item.label) AS label, count(*) AS purchases,
           sum(item.quantity) AS quantity,
           coalesce(sum(item.revenue) FILTER (WHERE b.currency = $13), 0) AS revenue
    FROM deal b
    LEFT JOIN visit v
      ON v.position = b.position AND v.user_pseudo_id = b.user_pseudo_id
     AND v.ga_session_id = b.ga_session_id AND v.stream_id = coalesce(b.stream_id, '')
    CROSS JOIN LATERAL unnest(b.sold) AS item
    WHERE v.position IS NOT NULL
       OR ((b.user_pseudo_id IS NULL OR b.ga_session_id IS NULL)
           AND $6 IS NULL AND $7 IS NULL AND $8 IS NULL AND $9 IS NULL AND $10 IS NULL
           AND ($5 IS NULL OR b.location_id = ANY ($5)))
    GROUP BY b.position, item.product
), every AS (
    SELECT position, subject, greatest(l.label, left(s.label, 256)) AS label,
           coalesce(l.views, 0) AS views, coalesce(l.cart_additions, 0) AS cart_additions,
           coalesce(l.failures, 0) AS failures, coalesce(l.sessions, 0) AS sessions,
           coalesce(l.visitors, 0) AS visitors, coalesce(l.conversions, 0) AS conversions,
           coalesce(e.entrances, 0) AS entrances, coalesce(e.bounces, 0) AS bounces,
           coalesce(s.purchases, 0) AS purchases, coalesce(s.quantity, 0) AS quantity,
           coalesce(s.revenue, 0) AS revenue
    FROM looked l
    FULL JOIN entered e USING (position, subject)
    FULL JOIN sold s USING (position, subject)
), ranked AS (
    SELECT *, count(*) OVER () AS total,
           CASE $14::text WHEN 'views' THEN views WHEN 'cart_additions' THEN cart_additions
               WHEN 'failures' THEN failures WHEN 'sessions' THEN sessions
               WHEN 'visitors' THEN visitors WHEN 'conversions' THEN conversions
               WHEN 'entrances' THEN entrances WHEN 'purchases' THEN purchases
               WHEN 'quantity' THEN quantity WHEN 'revenue' THEN revenue END::numeric AS figure
    FROM every
    WHERE position = 1
), page AS (
    SELECT * FROM ranked
    WHERE $15::numeric IS NULL OR figure < $15 OR (figure = $15 AND subject > $16::text)
    ORDER BY figure DESC, subject
    LIMIT $17
)
SELECT n.subject, n.label, n.total, n.figure::text AS figure,
       n.views, n.cart_additions, n.failures, n.sessions, n.visitors, n.conversions, n.entrances,
       n.bounces, n.purchases, n.quantity::text AS quantity, n.revenue::text AS revenue,
       b.views AS views_before, b.cart_additions AS cart_additions_before,
       b.failures AS failures_before, b.sessions AS sessions_before,
       b.visitors AS visitors_before, b.conversions AS conversions_before,
       b.entrances AS entrances_before, b.bounces AS bounces_before,
       b.purchases AS purchases_before, b.quantity::text AS quantity_before,
       b.revenue::text AS revenue_before
FROM page n
LEFT JOIN every b ON b.position = 2 AND b.subject = n.subject
ORDER BY n.figure DESC, n.subject

-- name: subjects_by_day
-- The same without filters, for whole days, by a figure that is a sum: what stands at the top is known from
-- what is added up by day, and visitors and sessions are counted of what is shown only. $1 tenant, $2 first
-- days, $3 last days, $4 kind, $5 reporting currency, $6 the figure to sort by, $7 and $8 figure and subject
-- of the last row seen, or NULL, $9 rows wanted.
WITH period AS (
    SELECT * FROM unnest($2::date[], $3::date[])
        WITH ORDINALITY AS p (first_day, last_day, position)
), looked AS (
    SELECT p.position, d.subject::text AS subject, sum(d.views)::bigint AS views,
           sum(d.cart_additions)::bigint AS cart_additions, sum(d.failures)::bigint AS failures
    FROM period p
    JOIN data.subject_days d
      ON d.tenant_id = $1 AND d.kind = $4::text AND d.day BETWEEN p.first_day AND p.last_day
    GROUP BY p.position, d.subject
), entered AS (
    SELECT p.position, e.page::text AS subject, sum(e.sessions) AS entrances, sum(e.bounces) AS bounces
    FROM period p
    JOIN data.entrances e
      ON $4 = 'page' AND e.tenant_id = $1 AND e.day BETWEEN p.first_day AND p.last_day
    WHERE e.page NOT IN ('', '(not set)')
    GROUP BY p.position, e.page
), sold AS (
    SELECT p.position, item.product AS subject, max(item.label) AS label, count(*) AS purchases,
           sum(item.quantity) AS quantity,
           coalesce(sum(item.revenue) FILTER (WHERE b.currency = $5), 0) AS revenue
    FROM period p
    JOIN data.purchases b
      ON $4 = 'product' AND b.tenant_id = $1 AND b.day BETWEEN p.first_day AND p.last_day AND b.counted
    CROSS JOIN LATERAL unnest(b.sold) AS item
    GROUP BY p.position, item.product
), every AS (
    SELECT position, subject, s.label, coalesce(l.views, 0) AS views,
           coalesce(l.cart_additions, 0) AS cart_additions, coalesce(l.failures, 0) AS failures,
           coalesce(e.entrances, 0) AS entrances, coalesce(e.bounces, 0) AS bounces,
           coalesce(s.purchases, 0) AS purchases, coalesce(s.quantity, 0) AS quantity,
           coalesce(s.revenue, 0) AS revenue
    FROM looked l
    FULL JOIN entered e USING (position, subject)
    FULL JOIN sold s USING (position, subject)
), ranked AS (
    SELECT *, count(*) OVER () AS total,
           CASE $6::text WHEN 'views' THEN views WHEN 'cart_additions' THEN cart_additions
               WHEN 'failures' THEN failures WHEN 'entrances' THEN entrances
               WHEN 'purchases' THEN purchases WHEN 'quantity' THEN quantity
               WHEN 'revenue' THEN revenue END::numeric AS figure
    FROM every
    WHERE position = 1
), page AS MATERIALIZED (
    SELECT * FROM ranked
    WHERE $7::numeric IS NULL OR figure < $7 OR (figure = $7 AND subject > $8::text)
    ORDER BY figure DESC, subject
    LIMIT $9
), met AS (
    -- One row per period, subject and session, or visitor without one. Looked for where there is something,
    -- one subject and day at a time, which is what the index knows.
    SELECT p.position, d.subject, i.stream_id, i.user_pseudo_id, i.ga_session_id,
           max(i.label) AS label, min(i.first_at) AS first_at
    FROM period p
    JOIN data.subject_days d
      ON d.tenant_id = $1 AND d.kind = $4 AND d.day BETWEEN p.first_day AND p.last_day
    CROSS JOIN LATERAL (
        SELECT * FROM data.interests i
        WHERE i.tenant_id = $1 AND i.kind = $4 AND i.day = d.day AND i.subject = d.subject
        OFFSET 0
    ) AS i
    WHERE d.subject IN (SELECT g.subject FROM page g)
    GROUP BY p.position, d.subject, i.stream_id, i.user_pseudo_id, i.ga_session_id
), bought AS (
    SELECT coalesce(b.stream_id, '') AS stream_id, b.user_pseudo_id, b.ga_session_id,
           max(b.purchased_at) AS last_purchase_at
    FROM data.purchases b
    WHERE $4 = 'term' AND b.tenant_id = $1 AND b.counted
      AND b.day >= (SELECT min(p.first_day) FROM period p)
    GROUP BY 1, 2, 3
), per_visitor AS (
    SELECT m.position, m.subject, m.user_pseudo_id, max(m.label) AS label,
           count(m.ga_session_id) AS sessions,
           count(*) FILTER (WHERE m.first_at < b.last_purchase_at) AS conversions
    FROM met m
    LEFT JOIN bought b
      ON b.user_pseudo_id = m.user_pseudo_id AND b.ga_session_id = m.ga_session_id
     AND b.stream_id = m.stream_id
    GROUP BY m.position, m.subject, m.user_pseudo_id
), people AS (
    SELECT position, subject, max(label) AS label, count(user_pseudo_id) AS visitors,
           sum(sessions)::bigint AS sessions, sum(conversions)::bigint AS conversions
    FROM per_visitor
    GROUP BY position, subject
)
SELECT n.subject, greatest(l.label, left(n.label, 256)) AS label, n.total, n.figure::text AS figure,
       n.views, n.cart_additions, n.failures, coalesce(l.sessions, 0) AS sessions,
       coalesce(l.visitors, 0) AS visitors, coalesce(l.conversions, 0) AS conversions, n.entrances,
       n.bounces, n.purchases, n.quantity::text AS quantity, n.revenue::text AS revenue,
       b.views AS views_before, b.cart_additions AS cart_additions_before,
       b.failures AS failures_before, e.sessions AS sessions_before,
       e.visitors AS visitors_before, e.conversions AS conversions_before,
       b.entrances AS entrances_before, b.bounces AS bounces_before,
       b.purchases AS purchases_before, b.quantity::text AS quantity_before,
       b.revenue::text AS revenue_before
FROM page n
LEFT JOIN people l ON l.position = 1 AND l.subject = n.subject
LEFT JOIN every b ON b.position = 2 AND b.subject = n.subject
LEFT JOIN people e ON e.position = 2 AND e.subject = n.subject
ORDER BY n.figure DESC, n.subject

-- name: branches_known
-- $1 tenant, $2 branches or NULL. The branches of the master data.
SELECT l.location_id, l.name, l.city
FROM data.locations l
WHERE l.tenant_id = $1 AND ($2::text[] IS NULL OR l.location_id = ANY ($2))

-- name: locations
-- $1 tenant, $2 and $3 sort name and id of the last row seen or NULL, $4 rows wanted. The branches
-- of the master data by name, in small letters; how many there are stands in every row, and in the
-- only row when there is nothing to list.
SELECT counted.total, page.*
FROM (SELECT count(*) AS total FROM data.locations WHERE tenant_id = $1) counted
LEFT JOIN LATERAL (
    SELECT l.location_id, l.name, l.city, l.email, l.manager, lower(l.name) AS sort_name
    FROM data.locations l
    WHERE l.tenant_id = $1
      AND ($2::text IS NULL OR (lower(l.name), l.location_id) > ($2, $3))
    ORDER BY lower(l.name), l.location_id
    LIMIT $4
) page ON true
ORDER BY page.sort_name, page.location_id

-- name: entry_pages
-- $1 to $11 as for `measures_of_parts` (one period, or two: the second is what the first is compared
-- with); $12 fewest sessions; $13 and $14 excess and page of the last row seen, or NULL; $15 rows
-- wanted. METRICS "Page performance": pages by which sessions begin, with those that were not engaged,
-- beside the whole site's. `excess` says how many more bounced than if the page were like the site.
WITH visit AS (
    SELECT p.position, data.page_of(s.landing_page) AS page, s.engaged, s.purchases > 0 AS bought
    FROM unnest($2::date[], $3::date[], $4::timestamptz[])
        WITH ORDINALITY AS p (first_day, last_day, until, position)
    JOIN data.sessions s
      ON s.tenant_id = $1 AND s.day BETWEEN p.first_day AND p.last_day
     AND (p.until IS NULL OR s.started_at < p.until)
     AND ($5::text[] IS NULL OR s.location_id = ANY ($5))
     AND ($6::text[] IS NULL OR s.channel = ANY ($6))
     AND ($7::text[] IS NULL OR coalesce(s.device_category, '') = ANY ($7))
     AND ($8::text[] IS NULL OR coalesce(s.country, '') = ANY ($8))
     AND ($9::text[] IS NULL OR coalesce(s.customer_id, '') = ANY ($9))
     AND ($10::text[] IS NULL
          OR (s.stream_id, s.user_pseudo_id, s.ga_session_id) IN (
              SELECT w.* FROM data.sessions_with($1, $2, $3, $10, $11) AS w))
), site AS (
    SELECT count(*) FILTER (WHERE v.position = 1) AS sessions,
           count(*) FILTER (WHERE v.position = 1 AND NOT v.engaged) AS bounces,
           count(*) FILTER (WHERE v.position = 2) AS sessions_before,
           count(*) FILTER (WHERE v.position = 2 AND NOT v.engaged) AS bounces_before
    FROM visit v
), pages AS (
    SELECT v.page, count(*) FILTER (WHERE v.position = 1) AS sessions,
           count(*) FILTER (WHERE v.position = 1 AND NOT v.engaged) AS bounces,
           count(*) FILTER (WHERE v.position = 1 AND v.bought) AS conversions,
           count(*) FILTER (WHERE v.position = 2) AS sessions_before,
           count(*) FILTER (WHERE v.position = 2 AND NOT v.engaged) AS bounces_before,
           count(*) FILTER (WHERE v.position = 2 AND v.bought) AS conversions_before
    FROM visit v
    WHERE v.page <> ''
    GROUP BY v.page
    HAVING count(*) FILTER (WHERE v.position = 1) >= $12
), compared AS (
    SELECT g.*, round(g.bounces - g.sessions::numeric * s.bounces / s.sessions, 6) AS excess,
           s.sessions AS site_sessions, s.bounces AS site_bounces,
           s.sessions_before AS site_sessions_before, s.bounces_before AS site_bounces_before,
           count(*) OVER () AS total
    FROM pages g CROSS JOIN site s
)
SELECT * FROM compared c
WHERE $14::text IS NULL OR (c.excess, c.page) < ($13::numeric, $14)
ORDER BY c.excess DESC, c.page DESC
LIMIT $15

-- name: entry_pages_by_day
-- The same without filters and for whole days, from what is added up by day. $1 tenant, $2 first days,
-- $3 last days, $4 fewest sessions, $5 and $6 excess and page of the last row seen, or NULL, $7 rows. The
-- two periods are put side by side by grouping: joined, they would be planned as if they were a few rows.
WITH added AS (
    SELECT p.position, e.page, sum(e.sessions)::bigint AS sessions, sum(e.bounces)::bigint AS bounces,
           sum(e.conversions)::bigint AS conversions
    FROM unnest($2::date[], $3::date[]) WITH ORDINALITY AS p (first_day, last_day, position)
    JOIN data.entrances e ON e.tenant_id = $1 AND e.day BETWEEN p.first_day AND p.last_day
    GROUP BY p.position, e.page
), counted AS (
    SELECT a.page, coalesce(max(a.sessions) FILTER (WHERE a.position = 1), 0) AS sessions,
           coalesce(max(a.bounces) FILTER (WHERE a.position = 1), 0) AS bounces,
           coalesce(max(a.conversions) FILTER (WHERE a.position = 1), 0) AS conversions,
           coalesce(max(a.sessions) FILTER (WHERE a.position = 2), 0) AS sessions_before,
           coalesce(max(a.bounces) FILTER (WHERE a.position = 2), 0) AS bounces_before,
           coalesce(max(a.conversions) FILTER (WHERE a.position = 2), 0) AS conversions_before
    FROM added a
    GROUP BY a.page
), site AS (
    SELECT sum(c.sessions)::bigint AS sessions, sum(c.bounces)::bigint AS bounces,
           sum(c.sessions_before)::bigint AS sessions_before,
           sum(c.bounces_before)::bigint AS bounces_before
    FROM counted c
), compared AS (
    SELECT n.*, round(n.bounces - n.sessions::numeric * s.bounces / s.sessions, 6) AS excess,
           s.sessions AS site_sessions, s.bounces AS site_bounces,
           s.sessions_before AS site_sessions_before, s.bounces_before AS site_bounces_before,
           count(*) OVER () AS total
    FROM counted n CROSS JOIN site s
    WHERE n.page <> '' AND n.sessions >= $4
)
SELECT * FROM compared c
WHERE $6::text IS NULL OR (c.excess, c.page) < ($5::numeric, $6)
ORDER BY c.excess DESC, c.page DESC
LIMIT $7

-- name: sold_by_branch
-- $1 to $11 as for `measures_of_parts` (one period); $12 reporting currency, $13 branches, $14 products
-- of each. What the branches sold most, by revenue.
WITH sale AS (
    SELECT b.location_id, b.currency, b.sold
    FROM unnest($2::date[], $3::date[], $4::timestamptz[]) AS p (first_day, last_day, until)
    JOIN data.purchases b
      ON b.tenant_id = $1 AND b.day BETWEEN p.first_day AND p.last_day AND b.counted
     AND (p.until IS NULL OR b.purchased_at < p.until)
    WHERE b.location_id = ANY ($13::text[]) AND ($5::text[] IS NULL OR b.location_id = ANY ($5))
      AND (($6::text[] IS NULL AND $7::text[] IS NULL AND $8::text[] IS NULL AND $9::text[] IS NULL
            AND $10::text[] IS NULL)
           OR EXISTS (
               SELECT FROM data.sessions s
               WHERE s.tenant_id = $1 AND s.user_pseudo_id = b.user_pseudo_id
                 AND s.ga_session_id = b.ga_session_id AND s.stream_id = coalesce(b.stream_id, '')
                 AND ($6 IS NULL OR s.channel = ANY ($6))
                 AND ($7 IS NULL OR coalesce(s.device_category, '') = ANY ($7))
                 AND ($8 IS NULL OR coalesce(s.country, '') = ANY ($8))
                 AND ($9 IS NULL OR coalesce(s.customer_id, '') = ANY ($9))
                 AND ($10 IS NULL
                      OR (s.stream_id, s.user_pseudo_id, s.ga_session_id) IN (
                          SELECT w.* FROM data.sessions_with($1, $2, $3, $10, $11) AS w))))
), product AS (
    SELECT l.location_id, item.product, max(item.label) AS label, sum(item.quantity) AS quantity,
           coalesce(sum(item.revenue) FILTER (WHERE l.currency = $12), 0) AS revenue
    FROM sale l
    CROSS JOIN LATERAL unnest(l.sold) AS item
    GROUP BY l.location_id, item.product
)
SELECT r.location_id, r.product, r.label, r.quantity, r.revenue
FROM (
    SELECT d.*, row_number() OVER (PARTITION BY d.location_id
                                   ORDER BY d.revenue DESC, d.product) AS place
    FROM product d
) AS r
WHERE r.place <= $14
ORDER BY r.location_id, r.place
