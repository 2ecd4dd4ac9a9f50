-- name: tenant
-- $1 tenant. What an ingestion needs to know of whom it works for.
SELECT state, reporting_time_zone, reporting_currency, settings
FROM platform.tenants
WHERE tenant_id = $1
