-- name: active_key
-- The data key that new secrets of a tenant are sealed with. $1 tenant.
SELECT key_id, wrapped_key FROM auth.data_keys WHERE tenant_id = $1 AND state = 'active';

-- name: create_key
-- A tenant's first data key, unless somebody was faster. $1 tenant, $2 key id, $3 wrapped key.
INSERT INTO auth.data_keys (tenant_id, key_id, wrapped_key) VALUES ($1, $2, $3)
ON CONFLICT (tenant_id) WHERE state = 'active' DO NOTHING;

-- name: key
-- A data key, active or retired, by the id in a sealed value's header. $1 tenant, $2 key id.
SELECT wrapped_key FROM auth.data_keys WHERE tenant_id = $1 AND key_id = $2;
