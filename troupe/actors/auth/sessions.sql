-- name: open_session
-- $1 provider, $2 subject, $3 e-mail, $4 verified, $5 name, $6 joining role or NULL, $7 id for a new
-- user, $8 session id, $9 session hash, $10 hash of the replaced session or NULL, $11 sealed tokens,
-- $12 idle limit, $13 absolute limit, $14 the provider's name of its session or NULL, $15 browser,
-- $16 address, $17 when to ask the provider again or NULL, $18 how long it is good without.
SELECT user_id, role
FROM auth.open_session(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18);

-- name: claim_refreshes
-- $1 how many, $2 for how long.
SELECT session_id, provider_tenant_id, provider_id, subject, attempt, was_open, provider_tokens
FROM auth.claim_refreshes($1, $2);

-- name: settle_refresh
-- $1 session, $2 attempt, $3 sealed tokens or NULL, $4 whether the outcome is still unknown, $5 when
-- to ask again or NULL, $6 how long the provider's word holds or NULL.
SELECT auth.settle_refresh($1, $2, $3, $4, $5, $6);

-- name: end_refused_session
-- $1 session, $2 attempt.
SELECT auth.end_refused_session($1, $2);

-- name: providers_of_client
-- $1 issuer, $2 client id.
SELECT tenant_id, provider_id, signing_algorithms FROM auth.providers_of_client($1, $2);

-- name: end_sessions_at_provider
-- $1 provider, $2 subject or NULL, $3 the provider's name of the session or NULL, $4 hash that names
-- the logout token, $5 how long to remember it.
SELECT auth.end_sessions_at_provider($1, $2, $3, $4, $5);

-- name: resolve_subject
-- $1 issuer, $2 subject, $3 audiences, $4 algorithm or NULL, $5 introspecting provider or NULL.
SELECT user_id, name, email, memberships FROM auth.resolve_subject($1, $2, $3, $4, $5);

-- name: introspecting_providers
-- $1 tenant.
SELECT provider_id FROM auth.identity_providers
WHERE tenant_id = $1 AND enabled AND introspection
ORDER BY provider_id LIMIT 4;

-- name: list_sessions
-- $1 hash of the asker's session, $2 before this session or NULL, $3 how many.
SELECT session_id, is_current, created_at, last_seen_at, expires_at, user_agent, address, total
FROM auth.list_sessions($1, $2, $3);

-- name: end_own_sessions
-- $1 hash of the asker's session, $2 which, or NULL for all others.
SELECT auth.end_own_sessions($1, $2);
