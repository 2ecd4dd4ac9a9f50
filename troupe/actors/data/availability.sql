-- What is known of the days of a tenant's export.

-- name: tenant
-- $1 tenant. How it reports, and how far its data reaches.
SELECT t.reporting_time_zone, coalesce(v.data_version, 0) AS data_version, v.first_day, v.data_until
FROM platform.tenants t
LEFT JOIN data.versions v ON v.tenant_id = t.tenant_id
WHERE t.tenant_id = $1

-- name: days
-- $1 tenant, $2 and $3 first and last day, or NULL for as far as is known. Every day of the range.
SELECT calendar.day::date AS day, coalesce(d.state, 'unknown') AS state, d.family, d.source_rows,
       d.loaded_rows, d.loaded_at, d.checked_at, d.problem
FROM (
    SELECT coalesce($2::date, min(source_day)) AS first, coalesce($3::date, max(source_day)) AS last
    FROM data.source_days WHERE tenant_id = $1
) AS bounds
CROSS JOIN LATERAL generate_series(bounds.first, bounds.last, interval '1 day') AS calendar (day)
LEFT JOIN data.source_days d ON d.tenant_id = $1 AND d.source_day = calendar.day::date
ORDER BY calendar.day
LIMIT $4
