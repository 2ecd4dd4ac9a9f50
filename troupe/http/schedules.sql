-- name: reporting_zone
-- $1 tenant.
SELECT reporting_time_zone FROM platform.tenants WHERE tenant_id = $1
