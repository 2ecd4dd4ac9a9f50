-- Derived tables only. The statements of one answer run in one REPEATABLE READ transaction
-- (answers.py), so `reporting` names the version of whatever is read beside it.
-- Money travels as text: exact on every road into Python.

-- name: reporting
-- $1 tenant. What a question needs to know before its dates mean anything.
SELECT t.name, t.reporting_time_zone, t.reporting_currency, t.week_start,
       coalesce(v.data_version, 0) AS data_version, v.first_day, v.data_until
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
    SELECT count(*) AS total_users,
           count(*) FILTER (WHERE visitor.active) AS active_users,
           count(*) FILTER (WHERE visitor.new) AS new_users,
           count(*) FILTER (WHERE visitor.is_returning) AS returning_users,
           count(*) FILTER (WHERE visitor.purchaser) AS purchasers
    FROM (
        SELECT bool_or(u.active) AS active, bool_or(u.new) AS new,
               bool_or(u.returning) AS is_returning, bool_or(u.purchaser) AS purchaser
        FROM data.user_day u
        WHERE u.tenant_id = $1
          AND u.day BETWEEN period.first_day AND period.last_day
          AND ($4::text[] IS NULL OR u.location_id = ANY ($4))
        GROUP BY u.user_pseudo_id
    ) visitor
) users
CROSS JOIN LATERAL (
    SELECT jsonb_agg(jsonb_build_object(
               'currency', m.currency, 'purchases', m.purchases,
               'gross_revenue', m.gross_revenue::text, 'refund_value', m.refund_value::text)
           ORDER BY m.currency) AS currencies
    FROM (
        SELECT r.currency, sum(r.purchases)::bigint AS purchases,
               sum(r.gross_revenue) AS gross_revenue, sum(r.refund_value) AS refund_value
        FROM data.money_rollup r
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
    SELECT visitor.position, visitor.location_id, count(*) AS total_users,
           count(*) FILTER (WHERE visitor.active) AS active_users,
           count(*) FILTER (WHERE visitor.new) AS new_users,
           count(*) FILTER (WHERE visitor.is_returning) AS returning_users,
           count(*) FILTER (WHERE visitor.purchaser) AS purchasers
    FROM (
        SELECT p.position, u.location_id, bool_or(u.active) AS active, bool_or(u.new) AS new,
               bool_or(u.returning) AS is_returning, bool_or(u.purchaser) AS purchaser
        FROM period p
        JOIN data.user_day u
          ON u.tenant_id = $1 AND u.day BETWEEN p.first_day AND p.last_day
         AND ($4::text[] IS NULL OR u.location_id = ANY ($4))
        GROUP BY p.position, u.location_id, u.user_pseudo_id
    ) visitor
    GROUP BY visitor.position, visitor.location_id
), per_currency AS (
    SELECT p.position, r.location_id, r.currency, sum(r.purchases)::bigint AS purchases,
           sum(r.gross_revenue) AS gross_revenue, sum(r.refund_value) AS refund_value
    FROM period p
    JOIN data.money_rollup r
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
