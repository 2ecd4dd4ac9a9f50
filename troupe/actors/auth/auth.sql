-- name: create_tenant
-- $1 tenant, $2 name, $3 reporting time zone, $4 reporting currency, $5 week start, $6 settings.
INSERT INTO platform.tenants
    (tenant_id, name, reporting_time_zone, reporting_currency, week_start, settings)
VALUES ($1, $2, $3, $4, $5, $6);

-- name: tenant
-- One tenant, under its own row-level security. $1 tenant.
SELECT tenant_id, name, state, reporting_time_zone, reporting_currency, week_start, settings,
       version, created_at
FROM platform.tenants WHERE tenant_id = $1;

-- name: change_tenant
-- Changes a tenant unless somebody else has done so since version $2 was read; no row then.
-- $1 tenant, $2 version, $3 name, $4 time zone, $5 currency, $6 week start, $7 settings.
UPDATE platform.tenants
SET name = $3, reporting_time_zone = $4, reporting_currency = $5, week_start = $6, settings = $7,
    version = version + 1
WHERE tenant_id = $1 AND version = $2
RETURNING tenant_id, name, state, reporting_time_zone, reporting_currency, week_start, settings,
          version, created_at;

-- name: set_tenant_state
-- No row when it is in that state already. $1 tenant, $2 state.
UPDATE platform.tenants SET state = $2, version = version + 1
WHERE tenant_id = $1 AND state <> $2
RETURNING tenant_id, name, state, reporting_time_zone, reporting_currency, week_start, settings,
          version, created_at;

-- name: lock_tenant
-- Who changes members of a tenant does so one after the other: the last owner is a matter of counting.
-- $1 tenant.
SELECT name, state FROM platform.tenants WHERE tenant_id = $1 FOR NO KEY UPDATE;

-- name: put_user
-- The person that an issuer knows by a subject. $1 fresh id, $2 issuer, $3 subject, $4 e-mail,
-- $5 name.
SELECT auth.put_user($1, $2, $3, $4, $5);

-- name: put_member
-- Makes a person a member, or changes their role. $1 tenant, $2 user, $3 role.
INSERT INTO auth.members (tenant_id, user_id, role) VALUES ($1, $2, $3)
ON CONFLICT (tenant_id, user_id) DO UPDATE SET role = excluded.role;

-- name: members
-- One page of members. $1 after this user or NULL, $2 how many.
SELECT user_id, name, email, role, created_at, last_login_at FROM auth.list_members($1, $2);

-- name: count_members
-- $1 tenant.
SELECT count(*) FROM auth.members WHERE tenant_id = $1;

-- name: member
-- One member, with the number of owners there are. $1 tenant, $2 user.
SELECT m.user_id, u.name, u.email, m.role, m.created_at, u.last_login_at,
       (SELECT count(*) FROM auth.members WHERE tenant_id = $1 AND role = 'owner') AS owners
FROM auth.members AS m JOIN auth.member($2) AS u ON true
WHERE m.tenant_id = $1 AND m.user_id = $2;

-- name: change_role
-- $1 tenant, $2 user, $3 role.
UPDATE auth.members SET role = $3 WHERE tenant_id = $1 AND user_id = $2;

-- name: remove_member
-- Ends the membership and with it the person's tokens; sessions lose the tenant. $1 tenant, $2 user.
DELETE FROM auth.members WHERE tenant_id = $1 AND user_id = $2;

-- name: erase_member
-- What else may name the person, or NULL when there is no such member. $1 user.
SELECT auth.erase_member($1);

-- name: issuer_of_provider
-- $1 tenant, $2 provider.
SELECT issuer FROM auth.identity_providers WHERE tenant_id = $1 AND provider_id = $2;

-- name: provider
-- $1 tenant, $2 provider.
SELECT provider_id, label, issuer, client_id, client_secret, scopes, signing_algorithms,
       allowed_email_domains, allowed_claims, joining_role, listed, enabled, version, api_audience,
       introspection
FROM auth.identity_providers WHERE tenant_id = $1 AND provider_id = $2;

-- name: providers
-- All of a tenant, without secrets. $1 tenant, $2 one provider or NULL.
SELECT provider_id, label, issuer, client_id, client_secret IS NOT NULL AS has_secret, scopes,
       signing_algorithms, allowed_email_domains, allowed_claims, joining_role, listed, enabled,
       api_audience, introspection, version
FROM auth.identity_providers
WHERE tenant_id = $1 AND ($2::uuid IS NULL OR provider_id = $2)
ORDER BY provider_id LIMIT 1000;

-- name: delete_provider
-- $1 tenant, $2 provider.
DELETE FROM auth.identity_providers WHERE tenant_id = $1 AND provider_id = $2
RETURNING issuer, client_id;

-- name: provider_id
-- The identifier of a provider that may be there. $1 tenant, $2 issuer, $3 client id.
SELECT provider_id FROM auth.identity_providers
WHERE tenant_id = $1 AND issuer = $2 AND client_id = $3;

-- name: put_provider
-- Creates or replaces. $1 tenant, $2 provider, $3 label, $4 issuer, $5 client id, $6 sealed secret,
-- $7 scopes, $8 signing algorithms, $9 e-mail domains, $10 claims, $11 joining role, $12 listed,
-- $13 enabled, $14 audience of access tokens or NULL, $15 introspection, $16 whether the present
-- secret stays when $6 is NULL.
INSERT INTO auth.identity_providers AS present (
    tenant_id, provider_id, label, issuer, client_id, client_secret, scopes, signing_algorithms,
    allowed_email_domains, allowed_claims, joining_role, listed, enabled, api_audience,
    introspection)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
ON CONFLICT (tenant_id, provider_id) DO UPDATE SET
    label = excluded.label,
    client_secret = CASE WHEN $16 THEN coalesce(excluded.client_secret, present.client_secret)
                         ELSE excluded.client_secret END,
    scopes = excluded.scopes,
    signing_algorithms = excluded.signing_algorithms,
    allowed_email_domains = excluded.allowed_email_domains,
    allowed_claims = excluded.allowed_claims, joining_role = excluded.joining_role,
    listed = excluded.listed, enabled = excluded.enabled, api_audience = excluded.api_audience,
    introspection = excluded.introspection, version = present.version + 1;

-- name: login_choices
-- What a login page may show. $1 tenant, or NULL for all that are listed.
SELECT provider_id, tenant_id, tenant_name, label FROM auth.login_choices($1);

-- name: tenant_of_provider
-- $1 provider.
SELECT auth.tenant_of_provider($1);

-- name: begin_login
-- $1 hash of the state, $2 hash of the binding, $3 salt, $4 provider, $5 next, $6 lifetime.
SELECT auth.begin_login($1, $2, $3, $4, $5, $6);

-- name: take_login_state
-- $1 hash of the state, $2 hash of the binding.
SELECT outcome, provider_tenant_id, provider_id, salt, next_url
FROM auth.take_login_state($1, $2);

-- name: resolve_session
-- $1 session hash.
SELECT session_id, user_id, name, email, tenant_id, expires_at, memberships
FROM auth.resolve_session($1);

-- name: end_session
-- $1 session hash.
SELECT session_id, user_id, provider_tenant_id, provider_id, provider_tokens
FROM auth.end_session($1);

-- name: create_token
-- $1 tenant, $2 token id, $3 token hash, $4 hint, $5 name, $6 role, $7 scopes, $8 creator or NULL,
-- $9 expiry or NULL.
INSERT INTO auth.access_tokens
    (tenant_id, token_id, token_hash, hint, name, role, scopes, created_by, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
RETURNING created_at;

-- name: count_tokens
-- Tokens that are good, of one creator or (NULL) of all. $1 tenant, $2 creator.
SELECT count(*) FROM auth.access_tokens
WHERE tenant_id = $1 AND ($2::uuid IS NULL OR created_by = $2) AND revoked_at IS NULL
  AND (expires_at IS NULL OR expires_at > now());

-- name: tokens
-- One page of good tokens, oldest first. $1 tenant, $2 creator or NULL for all, $3 after this token
-- or NULL, $4 how many.
SELECT token_id, hint, name, role, scopes, created_by, created_at, expires_at, last_used_at
FROM auth.access_tokens
WHERE tenant_id = $1 AND ($2::uuid IS NULL OR created_by = $2) AND revoked_at IS NULL
  AND (expires_at IS NULL OR expires_at > now()) AND ($3::uuid IS NULL OR token_id > $3)
ORDER BY token_id LIMIT $4;

-- name: revoke_token
-- $1 tenant, $2 token, $3 creator or NULL for anybody's. A row only when it was good before.
UPDATE auth.access_tokens SET revoked_at = now()
WHERE tenant_id = $1 AND token_id = $2 AND ($3::uuid IS NULL OR created_by = $3)
  AND revoked_at IS NULL
RETURNING token_id;

-- name: resolve_token
-- $1 token hash.
SELECT token_id, tenant_id, tenant_name, created_by, name, role, scopes, expires_at
FROM auth.resolve_token($1);

-- name: connection
-- What may be shown of a connection. $1 tenant, $2 kind.
SELECT config::text AS config, secret IS NOT NULL AS has_secret, version, updated_at
FROM auth.connections WHERE tenant_id = $1 AND kind = $2;

-- name: put_connection
-- Creates or replaces; the secret stays when $4 is NULL. $1 tenant, $2 kind, $3 config, $4 sealed
-- secret. The version tells what was replaced.
INSERT INTO auth.connections AS present (tenant_id, kind, config, secret)
VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant_id, kind) DO UPDATE SET
    config = excluded.config, secret = coalesce(excluded.secret, present.secret),
    version = present.version + 1, updated_at = now()
RETURNING version;

-- name: lock_connection
-- The version of a connection, which nobody else changes until the end of the transaction.
-- $1 tenant, $2 kind.
SELECT version FROM auth.connections WHERE tenant_id = $1 AND kind = $2 FOR UPDATE;

-- name: drop_connection
-- $1 tenant, $2 kind. A row when there was one.
DELETE FROM auth.connections WHERE tenant_id = $1 AND kind = $2 RETURNING version;

-- name: last_test
-- The newest try of a connection. $1 tenant, $2 the job's kind, $3 kind of connection.
SELECT job_id FROM platform.all_jobs
WHERE tenant_id = $1 AND kind = $2 AND arguments ->> 'connection' = $3
ORDER BY job_id DESC LIMIT 1;

-- name: append_audit
-- $1 kind of actor, $2 actor or NULL, $3 action, $4 target, $5 detail.
SELECT auth.append_audit($1, $2, $3, $4, $5);

-- name: audit
-- One page of the log, newest first. $1 tenant, $2 before this sequence or NULL, $3 how many.
SELECT sequence, at, actor_kind, actor_id, action, target, detail, hash
FROM auth.audit_log
WHERE tenant_id = $1 AND ($2::bigint IS NULL OR sequence < $2)
ORDER BY sequence DESC LIMIT $3;

-- name: broken_audit_entry
-- The first entry at which the chain of the transaction's tenant is broken, or NULL.
SELECT auth.broken_audit_entry();
