-- What is known of the days of a tenant's export.

-- name: tenant
-- $1 tenant. How it reports, and how far its data reaches.
SELECT t.reporting_time_zone, t.reporting_currency, t.settings,
       coalesce(v.data_version, 0) AS data_version, v.first_day, v.data_until
FROM platform.tenants t
LEFT JOIN data.versions v ON v.tenant_id = t.tenant_id
WHERE t.tenant_id = $1

-- name: days
-- $1 tenant, $2 and $3 first and last day, or NULL for as far as is known; $4 days at most. Every day
-- of the range, from its first one on.
SELECT calendar.day::date AS day, coalesce(d.state, 'unknown') AS state, d.family, d.source_rows,
       d.loaded_rows, d.source_rows - d.loaded_rows AS difference, d.loaded_at, d.checked_at,
       d.problem
FROM (
    SELECT coalesce($2::date, min(source_day)) AS first, coalesce($3::date, max(source_day)) AS last
    FROM data.source_days WHERE tenant_id = $1
) AS bounds
CROSS JOIN LATERAL generate_series(
    bounds.first, least(bounds.last, bounds.first + $4::integer - 1), interval '1 day')
    AS calendar (day)
LEFT JOIN data.source_days d ON d.tenant_id = $1 AND d.source_day = calendar.day::date
ORDER BY calendar.day

-- name: reconciled_days
-- $1 tenant, $2 first day, $3 last day, $4 reporting currency. Every day of the range, with what is
-- odd about its purchases.
SELECT calendar.day::date AS day, coalesce(d.state, 'unknown') AS state, d.source_rows, d.loaded_rows,
       d.source_rows - d.loaded_rows AS difference, d.counted_at,
       d.counted_at IS NOT NULL AND d.counted_modified IS DISTINCT FROM d.source_modified
           AS source_changed,
       money.*
FROM generate_series($2::date, $3::date, interval '1 day') AS calendar (day)
LEFT JOIN data.source_days d ON d.tenant_id = $1 AND d.source_day = calendar.day::date
CROSS JOIN LATERAL (
    SELECT count(*) AS purchases,
           count(*) FILTER (WHERE NOT p.counted) AS duplicates,
           count(*) FILTER (WHERE p.transaction_id IS NULL OR p.user_pseudo_id IS NULL)
               AS without_key,
           count(*) FILTER (WHERE p.currency_missing) AS currency_missing,
           count(*) FILTER (WHERE p.currency <> $4) AS other_currency,
           count(*) FILTER (WHERE p.value_mismatch) AS value_mismatch
    FROM data.purchases p
    WHERE p.tenant_id = $1 AND p.source_day = calendar.day::date
) AS money
ORDER BY calendar.day

-- name: reconciled_events
-- $1 tenant, $2 first day, $3 last day. What was loaded beside what the source has; an event that is
-- on one side only is there too. Where the source was not counted its number is NULL.
SELECT source_day, event_name,
       CASE WHEN d.counted_at IS NOT NULL THEN coalesce(s.source_rows, 0) END AS source_rows,
       coalesce(l.loaded_rows, 0) AS loaded_rows,
       CASE WHEN d.counted_at IS NOT NULL
            THEN coalesce(s.source_rows, 0) - coalesce(l.loaded_rows, 0) END AS difference,
       coalesce(l.without_visitor, 0) AS without_visitor,
       coalesce(l.without_session, 0) AS without_session, coalesce(l.duplicates, 0) AS duplicates
FROM (
    SELECT * FROM data.event_counts WHERE tenant_id = $1 AND source_day BETWEEN $2 AND $3
) AS l
FULL JOIN (
    SELECT * FROM data.source_event_counts WHERE tenant_id = $1 AND source_day BETWEEN $2 AND $3
) AS s USING (source_day, event_name)
JOIN data.source_days d USING (source_day)
WHERE d.tenant_id = $1
ORDER BY source_day, event_name

-- name: note_counted
-- $1 tenant, $2 source day, $3 event names and $4 their rows, side by side; $5 when the table had
-- last been written.
WITH forgotten AS (
    DELETE FROM data.source_event_counts c
    WHERE c.tenant_id = $1 AND c.source_day = $2 AND c.event_name <> ALL ($3::text[])
), counted AS (
    INSERT INTO data.source_event_counts (tenant_id, source_day, event_name, source_rows)
    SELECT $1, $2, n.event_name, n.source_rows
    FROM unnest($3::text[], $4::bigint[]) AS n (event_name, source_rows)
    ON CONFLICT (tenant_id, source_day, event_name) DO UPDATE SET source_rows = excluded.source_rows
)
INSERT INTO data.source_days AS d (
    tenant_id, source_day, state, problem, counted_at, counted_modified)
VALUES ($1, $2, 'failed', 'The day has not been loaded yet.', now(), $5)
ON CONFLICT (tenant_id, source_day) DO UPDATE SET counted_at = now(), counted_modified = $5
