-- Sessions that stay in touch with the provider they came from, and the provider's own tokens.
--
-- A session remembers how its provider calls it (for back-channel logout), where it was begun (so
-- that a person recognises it in a list), and when the provider is to be asked again. Doors follow
-- the rule of 0002_auth.sql: each takes the hash of a secret that only the right caller knows, or
-- acts on the transaction's tenant. Three look across tenants because the tenant is what they are
-- asked for: claim_refreshes, providers_of_client and resolve_subject.

ALTER TABLE auth.identity_providers
    -- What must stand in `aud` of its access tokens for our API; NULL: none are accepted.
    ADD COLUMN api_audience text CHECK (length(api_audience) BETWEEN 1 AND 500),
    -- Whether access tokens that are no JWTs are sent to it for introspection.
    ADD COLUMN introspection boolean NOT NULL DEFAULT false
        CHECK (NOT introspection OR api_audience IS NOT NULL);
CREATE INDEX identity_providers_by_issuer ON auth.identity_providers (issuer, client_id);

ALTER TABLE auth.login_sessions
    ADD COLUMN provider_sid text CHECK (length(provider_sid) BETWEEN 1 AND 255),
    ADD COLUMN user_agent text NOT NULL DEFAULT '' CHECK (length(user_agent) <= 200),
    ADD COLUMN address text NOT NULL DEFAULT '' CHECK (length(address) <= 64),
    -- When the refresh token is redeemed next; NULL: there is none. Moved ahead by whoever claims the
    -- session, so it is also the lease of the claim.
    ADD COLUMN refresh_due_at timestamptz,
    -- Fencing token of the claim.
    ADD COLUMN refresh_attempt bigint NOT NULL DEFAULT 0,
    -- An attempt was begun whose outcome nobody wrote down: the provider may have exchanged the
    -- token for one that was lost with the process.
    ADD COLUMN refresh_open boolean NOT NULL DEFAULT false,
    -- Until when the session is good without the provider saying so again; NULL: it cannot be asked.
    ADD COLUMN confirmed_until timestamptz;
CREATE INDEX login_sessions_by_refresh ON auth.login_sessions (refresh_due_at)
    WHERE refresh_due_at IS NOT NULL;

-- Logout tokens that were obeyed, so that a copy of one ends no later session.
CREATE TABLE auth.logout_tokens (
    tenant_id   uuid NOT NULL REFERENCES platform.tenants ON DELETE CASCADE,
    token_hash  bytea NOT NULL CHECK (length(token_hash) = 32),
    expires_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, token_hash)
);
ALTER TABLE auth.logout_tokens ENABLE ROW LEVEL SECURITY;
ALTER TABLE auth.logout_tokens FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON auth.logout_tokens USING (tenant_id = platform.current_tenant())
    WITH CHECK (tenant_id = platform.current_tenant());
CREATE POLICY system ON auth.logout_tokens TO troupe_system USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, DELETE ON auth.logout_tokens TO troupe_system;

-- Logging in --------------------------------------------------------------------------------------

-- Ends a login as complete_login does, and notes what the session is to remember beside. p_confirm:
-- after which time the provider is asked again, NULL when it cannot be; p_unconfirmed: how long the
-- session is good without its answer.
CREATE FUNCTION auth.open_session(
    p_provider uuid, p_subject text, p_email text, p_email_verified boolean, p_name text,
    p_joining_role text, p_user uuid, p_session uuid, p_session_hash bytea,
    p_replaced_session_hash bytea, p_provider_tokens bytea, p_idle interval, p_absolute interval,
    p_provider_sid text, p_user_agent text, p_address text, p_confirm interval,
    p_unconfirmed interval
) RETURNS TABLE (user_id uuid, role text)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY SELECT made.user_id, made.role FROM auth.complete_login(
        p_provider, p_subject, p_email, p_email_verified, p_name, p_joining_role, p_user, p_session,
        p_session_hash, p_replaced_session_hash, p_provider_tokens, p_idle, p_absolute) AS made;
    UPDATE auth.login_sessions AS s
    SET provider_sid = p_provider_sid, user_agent = p_user_agent, address = p_address,
        refresh_due_at = now() + p_confirm,
        confirmed_until = CASE WHEN p_confirm IS NOT NULL THEN now() + p_unconfirmed END
    WHERE s.session_id = p_session;
END
$$;

-- Every request -----------------------------------------------------------------------------------

-- As before, and a session that its provider has not confirmed in time is over.
DROP FUNCTION auth.resolve_session(bytea);
CREATE FUNCTION auth.resolve_session(p_session_hash bytea)
    RETURNS TABLE (
        session_id uuid, user_id uuid, name text, email text, tenant_id uuid,
        expires_at timestamptz, memberships jsonb)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE auth.login_sessions AS s SET last_seen_at = now()
        WHERE s.session_hash = p_session_hash
          AND s.expires_at > now() AND s.last_seen_at + s.idle_limit > now()
          AND s.last_seen_at < now() - least(s.idle_limit / 10, interval '1 minute');
    RETURN QUERY
    SELECT s.session_id, s.user_id, u.name, u.email, s.tenant_id,
           least(s.expires_at, s.last_seen_at + s.idle_limit, s.confirmed_until),
           coalesce((
               SELECT jsonb_agg(
                   jsonb_build_object('tenant_id', t.tenant_id, 'name', t.name, 'role', m.role)
                   ORDER BY t.name, t.tenant_id)
               FROM auth.members AS m
               JOIN platform.tenants AS t ON t.tenant_id = m.tenant_id AND t.state = 'active'
               WHERE m.user_id = s.user_id AND EXISTS (
                   SELECT FROM auth.identity_providers AS p
                   WHERE p.tenant_id = m.tenant_id AND p.enabled
                     AND p.issuer = s.issuer AND p.client_id = s.client_id)
           ), '[]')
    FROM auth.login_sessions AS s
    JOIN auth.users AS u ON u.user_id = s.user_id
    WHERE s.session_hash = p_session_hash
      AND least(s.expires_at, s.last_seen_at + s.idle_limit, s.confirmed_until) > now();
END
$$;

-- The person whom an issuer's access token is about, with the tenants that accept such a token:
-- active, with the person as a member, and with an enabled provider of that issuer whose audience
-- for our API is among the token's. p_algorithm: which signed the token, so it must be pinned there;
-- NULL: it was introspected at p_provider, and only that one vouches.
CREATE FUNCTION auth.resolve_subject(
    p_issuer text, p_subject text, p_audiences text[], p_algorithm text, p_provider uuid
) RETURNS TABLE (user_id uuid, name text, email text, memberships jsonb)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT u.user_id, u.name, u.email,
           jsonb_agg(
               jsonb_build_object('tenant_id', t.tenant_id, 'name', t.name, 'role', m.role)
               ORDER BY t.name, t.tenant_id)
    FROM auth.users AS u
    JOIN auth.members AS m ON m.user_id = u.user_id
    JOIN platform.tenants AS t ON t.tenant_id = m.tenant_id AND t.state = 'active'
    WHERE u.issuer = p_issuer AND u.subject = p_subject AND EXISTS (
        SELECT FROM auth.identity_providers AS p
        WHERE p.tenant_id = m.tenant_id AND p.enabled AND p.issuer = p_issuer
          AND p.api_audience = ANY (p_audiences)
          AND CASE WHEN p_algorithm IS NULL THEN p.provider_id = p_provider AND p.introspection
                   ELSE p_algorithm = ANY (p.signing_algorithms) END)
    GROUP BY u.user_id, u.name, u.email
$$;

-- Asking the provider again -----------------------------------------------------------------------

-- Claims sessions whose refresh token is due, for p_lease. Whoever does not settle a claim in that
-- time has lost it: the next claim has a higher attempt, and says that the last one stayed open.
CREATE FUNCTION auth.claim_refreshes(p_limit integer, p_lease interval)
    RETURNS TABLE (
        session_id uuid, provider_tenant_id uuid, provider_id uuid, subject text, attempt bigint,
        was_open boolean, provider_tokens bytea)
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    WITH due AS (
        SELECT s.session_hash, s.refresh_open
        FROM auth.login_sessions AS s
        WHERE s.refresh_due_at <= now()
          AND least(s.expires_at, s.last_seen_at + s.idle_limit, s.confirmed_until) > now()
          AND EXISTS (
              SELECT FROM auth.identity_providers AS p
              WHERE p.tenant_id = s.provider_tenant_id AND p.provider_id = s.provider_id
                AND p.enabled)
        ORDER BY s.refresh_due_at
        LIMIT p_limit FOR UPDATE SKIP LOCKED
    )
    UPDATE auth.login_sessions AS s
    SET refresh_due_at = now() + p_lease, refresh_attempt = s.refresh_attempt + 1,
        refresh_open = true
    FROM due, auth.users AS u
    WHERE s.session_hash = due.session_hash AND u.user_id = s.user_id
    RETURNING s.session_id, s.provider_tenant_id, s.provider_id, u.subject, s.refresh_attempt,
              due.refresh_open, s.provider_tokens
$$;

-- Settles a claim of the transaction's tenant. p_tokens: the new ones, NULL keeps the old. p_open:
-- whether the outcome stays unknown. p_due: when to ask again, NULL for never. p_confirmed: for how
-- long the provider's word holds, NULL when it gave none. False: the claim was lost.
CREATE FUNCTION auth.settle_refresh(
    p_session uuid, p_attempt bigint, p_tokens bytea, p_open boolean, p_due interval,
    p_confirmed interval
) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE auth.login_sessions AS s
    SET provider_tokens = coalesce(p_tokens, s.provider_tokens), refresh_open = p_open,
        refresh_due_at = now() + p_due,
        confirmed_until = coalesce(now() + p_confirmed, s.confirmed_until)
    WHERE s.session_id = p_session AND s.refresh_attempt = p_attempt
      AND s.provider_tenant_id = platform.current_tenant();
    RETURN FOUND;
END
$$;

-- Ends a session of the transaction's tenant because its provider refuses to confirm it. False: the
-- claim was lost.
CREATE FUNCTION auth.end_refused_session(p_session uuid, p_attempt bigint) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    ended auth.login_sessions;
BEGIN
    DELETE FROM auth.login_sessions AS s
        WHERE s.session_id = p_session AND s.refresh_attempt = p_attempt
          AND s.provider_tenant_id = platform.current_tenant()
        RETURNING * INTO ended;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM auth.write_audit(ended.tenant_id, 'system', NULL, 'session.ended',
        ended.session_id::text, '{"reason": "the identity provider refused to confirm it"}');
    RETURN true;
END
$$;

-- Back-channel logout -----------------------------------------------------------------------------

-- Where a client of an issuer is set up; what its tokens may be signed with there.
CREATE FUNCTION auth.providers_of_client(p_issuer text, p_client_id text)
    RETURNS TABLE (tenant_id uuid, provider_id uuid, signing_algorithms text[])
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT p.tenant_id, p.provider_id, p.signing_algorithms
    FROM auth.identity_providers AS p
    JOIN platform.tenants AS t ON t.tenant_id = p.tenant_id
    WHERE p.issuer = p_issuer AND p.client_id = p_client_id AND p.enabled
    ORDER BY p.tenant_id
    LIMIT 1000
$$;

-- Obeys a logout token, once: ends the sessions of the transaction's tenant that came from this
-- provider and are meant. A session whose name the provider never told is meant by its person
-- alone. How many were ended; NULL when this token was obeyed before.
CREATE FUNCTION auth.end_sessions_at_provider(
    p_provider uuid, p_subject text, p_sid text, p_token_hash bytea, p_remembered interval
) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    ended  auth.login_sessions;
    number integer := 0;
BEGIN
    IF platform.current_tenant() IS NULL THEN
        RAISE EXCEPTION 'ending sessions needs a tenant';
    END IF;
    DELETE FROM auth.logout_tokens AS old
        WHERE old.tenant_id = platform.current_tenant() AND old.expires_at < now();
    INSERT INTO auth.logout_tokens (tenant_id, token_hash, expires_at)
        VALUES (platform.current_tenant(), p_token_hash, now() + p_remembered)
        ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    FOR ended IN
        DELETE FROM auth.login_sessions AS s USING auth.users AS u
        WHERE s.provider_tenant_id = platform.current_tenant() AND s.provider_id = p_provider
          AND u.user_id = s.user_id
          AND (p_subject IS NOT NULL OR p_sid IS NOT NULL)
          AND (p_subject IS NULL OR u.subject = p_subject)
          AND (p_sid IS NULL OR s.provider_sid = p_sid
               OR (s.provider_sid IS NULL AND p_subject IS NOT NULL))
        RETURNING s.*
    LOOP
        PERFORM auth.write_audit(ended.tenant_id, 'system', NULL, 'session.ended',
            ended.session_id::text, '{"reason": "logged out at the identity provider"}');
        number := number + 1;
    END LOOP;
    RETURN number;
END
$$;

-- One's own sessions ------------------------------------------------------------------------------

-- One page of the good sessions of the person behind a cookie's hash, newest first.
CREATE FUNCTION auth.list_sessions(p_session_hash bytea, p_before uuid, p_limit integer)
    RETURNS TABLE (
        session_id uuid, is_current boolean, created_at timestamptz, last_seen_at timestamptz,
        expires_at timestamptz, user_agent text, address text, total bigint)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    WITH own AS (
        SELECT s.*, least(s.expires_at, s.last_seen_at + s.idle_limit, s.confirmed_until) AS ends_at
        FROM auth.login_sessions AS present
        JOIN auth.login_sessions AS s ON s.user_id = present.user_id
        WHERE present.session_hash = p_session_hash
    ), good AS (
        SELECT own.*, count(*) OVER () AS total FROM own WHERE own.ends_at > now()
    )
    SELECT good.session_id, good.session_hash = p_session_hash, good.created_at, good.last_seen_at,
           good.ends_at, good.user_agent, good.address, good.total
    FROM good
    WHERE p_before IS NULL OR good.session_id < p_before
    ORDER BY good.session_id DESC
    LIMIT least(p_limit, 1001)
$$;

-- Ends one session (p_session) or all others (NULL) of the person behind a cookie's hash.
CREATE FUNCTION auth.end_own_sessions(p_session_hash bytea, p_session uuid) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    present auth.login_sessions;
    ended   auth.login_sessions;
    number  integer := 0;
BEGIN
    SELECT * INTO present FROM auth.login_sessions AS s WHERE s.session_hash = p_session_hash;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    FOR ended IN
        DELETE FROM auth.login_sessions AS s
        WHERE s.user_id = present.user_id
          AND CASE WHEN p_session IS NULL THEN s.session_hash <> p_session_hash
                   ELSE s.session_id = p_session END
        RETURNING s.*
    LOOP
        PERFORM auth.write_audit(ended.tenant_id, 'user', ended.user_id, 'session.ended',
            ended.session_id::text, '{"reason": "ended from the list of sessions"}');
        number := number + 1;
    END LOOP;
    RETURN number;
END
$$;

DO $$
DECLARE
    door regprocedure;
BEGIN
    FOREACH door IN ARRAY ARRAY[
        'auth.open_session(uuid, text, text, boolean, text, text, uuid, uuid, bytea, bytea, bytea,'
            ' interval, interval, text, text, text, interval, interval)',
        'auth.resolve_session(bytea)',
        'auth.resolve_subject(text, text, text[], text, uuid)',
        'auth.claim_refreshes(integer, interval)',
        'auth.settle_refresh(uuid, bigint, bytea, boolean, interval, interval)',
        'auth.end_refused_session(uuid, bigint)',
        'auth.providers_of_client(text, text)',
        'auth.end_sessions_at_provider(uuid, text, text, bytea, interval)',
        'auth.list_sessions(bytea, uuid, integer)',
        'auth.end_own_sessions(bytea, uuid)'
    ]::regprocedure[] LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', door);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO troupe_runtime', door);
        EXECUTE format('ALTER FUNCTION %s OWNER TO troupe_system', door);
    END LOOP;
END
$$;
