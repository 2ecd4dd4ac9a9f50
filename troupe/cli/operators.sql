-- name: active_tenants
SELECT platform.active_tenants() AS tenant_id
