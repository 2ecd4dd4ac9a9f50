-- name: server
-- The server as it is: version, connections, this database's time.
SELECT current_setting('server_version_num')::int AS version,
       current_setting('max_connections')::int AS max_connections,
       (SELECT count(*) FROM pg_stat_activity WHERE datname IS NOT NULL) AS connections,
       clock_timestamp() AS now, current_setting('block_size') AS block_size;

-- name: roles
-- What our roles may do beyond their grants.
SELECT rolname, rolsuper OR rolbypassrls AS unbound, rolcanlogin
FROM pg_roles WHERE rolname IN ('troupe_owner', 'troupe_runtime', 'troupe_system');

-- name: unguarded
-- Tables with rows of tenants that row-level security does not guard, partitions included.
SELECT c.oid::regclass::text AS name
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname IN ('platform', 'auth', 'data', 'analytics', 'staging') AND c.relkind IN ('r', 'p')
  AND EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id'
              AND NOT a.attisdropped)
  AND NOT (c.relrowsecurity AND c.relforcerowsecurity)
  AND has_any_column_privilege('troupe_runtime', c.oid, 'SELECT')
ORDER BY 1;

-- name: become_owner
-- The role of database.url may be another than the owner.
SET LOCAL ROLE troupe_owner;

-- name: ledger
-- What has been applied.
SELECT number, phase, sha256 FROM platform.migrations ORDER BY number, phase DESC;

-- name: providers
-- Enabled providers of the transaction's tenant.
SELECT label, issuer FROM auth.identity_providers
WHERE tenant_id = platform.current_tenant() AND enabled ORDER BY label;

-- name: data_keys
-- Of the transaction's tenant.
SELECT key_id, wrapped_key FROM auth.data_keys WHERE tenant_id = platform.current_tenant();
