-- name: active_tenants
-- Every active tenant, in no order that means anything.
SELECT platform.active_tenants() AS tenant_id
