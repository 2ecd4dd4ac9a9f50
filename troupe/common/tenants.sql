-- name: active_tenants
-- Every active tenant, in no order that means anything.
SELECT platform.active_tenants() AS tenant_id
;

-- name: all_tenants
-- Every tenant with its state, for the operator.
SELECT tenant_id, state FROM platform.all_tenants();
