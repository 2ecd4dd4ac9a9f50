-- name: connection
-- One connection of a tenant. $1 tenant, $2 kind.
SELECT config::text AS config, secret, version FROM auth.connections
WHERE tenant_id = $1 AND kind = $2;

-- name: pin_host_key
-- The host key that an SFTP server must show from now on. $1 tenant, $2 the key, $3 the version that
-- is to be changed. The key before; no row when another version is there.
UPDATE auth.connections AS c
SET config = jsonb_set(c.config, '{host_key}', to_jsonb($2::text)),
    version = c.version + 1, updated_at = now()
FROM auth.connections AS before
WHERE c.tenant_id = $1 AND c.kind = 'sftp' AND c.version = $3
    AND (before.tenant_id, before.kind) = (c.tenant_id, c.kind)
RETURNING before.config ->> 'host_key' AS host_key;
