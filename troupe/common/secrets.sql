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

-- name: keys
-- All data keys of a tenant, kept as they are until the end of the transaction. $1 tenant.
SELECT key_id, wrapped_key, state, retired_at FROM auth.data_keys WHERE tenant_id = $1
ORDER BY key_id FOR UPDATE;

-- name: put_wrapped
-- $1 tenant, $2 key id, $3 the same key, wrapped by another.
UPDATE auth.data_keys SET wrapped_key = $3 WHERE tenant_id = $1 AND key_id = $2;

-- name: retire_key
-- $1 tenant.
UPDATE auth.data_keys SET state = 'retired', retired_at = now()
WHERE tenant_id = $1 AND state = 'active';
