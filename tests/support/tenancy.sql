-- name: relations
-- Every table, partition, view, materialized view and foreign table of ours, with what protects it.
SELECT n.nspname || '.' || c.relname AS name, c.oid::regclass::text AS quoted, c.relkind::text AS kind,
       c.relrowsecurity AS enabled, c.relforcerowsecurity AS forced,
       coalesce('security_invoker=true' = ANY (c.reloptions), false) AS invoker,
       EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id'
               AND NOT a.attisdropped) AS has_tenant,
       EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid) AS has_policy,
       has_any_column_privilege('troupe_runtime', c.oid, 'SELECT') AS readable,
       has_any_column_privilege('troupe_runtime', c.oid, 'INSERT')
           OR has_any_column_privilege('troupe_runtime', c.oid, 'UPDATE')
           OR has_table_privilege('troupe_runtime', c.oid, 'DELETE') AS writable,
       has_table_privilege('troupe_runtime', c.oid, 'TRUNCATE') AS truncatable,
       pg_get_userbyid(c.relowner) AS owner,
       coalesce((SELECT a.attname FROM pg_index i
                 JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
                 WHERE i.indrelid = c.oid AND i.indisprimary), '') AS leading_key
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
  AND n.nspname NOT LIKE 'pg\_temp%' AND n.nspname NOT LIKE 'pg\_toast\_temp%'
ORDER BY 1

-- name: doors
-- Functions that run with other rights than the caller's.
SELECT p.oid::regprocedure::text AS name, pg_get_userbyid(p.proowner) AS owner,
       coalesce(array_to_string(p.proconfig, ' ') LIKE '%search\_path=%', false) AS pinned,
       EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) x
               WHERE x.grantee = 0 AND x.privilege_type = 'EXECUTE') AS public
FROM pg_proc p
JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE p.prosecdef AND n.nspname NOT IN ('pg_catalog', 'information_schema')
ORDER BY 1

-- name: roles
-- What the roles may do beyond their grants.
SELECT rolname, rolsuper, rolbypassrls, rolcreaterole, rolcanlogin
FROM pg_roles WHERE rolname IN ('troupe_owner', 'troupe_runtime', 'troupe_system')

-- name: memberships
-- Whose rights our roles have or can take on.
SELECT pg_get_userbyid(member) AS member, pg_get_userbyid(roleid) AS role, inherit_option AS inherits
FROM pg_auth_members
WHERE member IN ('troupe_runtime'::regrole, 'troupe_owner'::regrole)
