-- name: connection
-- One connection of a tenant. $1 tenant, $2 kind.
SELECT config::text AS config, secret, version FROM auth.connections
WHERE tenant_id = $1 AND kind = $2;
