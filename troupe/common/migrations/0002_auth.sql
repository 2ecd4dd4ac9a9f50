-- People, how they prove who they are, and what a tenant keeps secret.
--
-- Two kinds of tables. Those of a tenant carry tenant_id and show troupe_runtime the rows of the
-- transaction's tenant. Three belong to no tenant, because a person, a browser's session and a
-- login under way exist before any tenant is chosen: users, login_sessions, login_states. On those
-- troupe_runtime has no right at all; it reaches them through the doors at the end of this file.
-- A door is a SECURITY DEFINER function of troupe_system that takes the hash of a secret which only
-- the right caller can know, or acts on the transaction's tenant, and answers no more than needed.
--
-- What a client presents (cookie, token, state) is stored as SHA-256 of 32 random bytes: a copy of
-- the database opens no door. What must be read back (client secrets, provider tokens, credentials
-- of connections) is sealed as troupe/common/secrets.py describes.

CREATE FUNCTION auth.role_rank(role text) RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN array_position(ARRAY['viewer', 'analyst', 'admin', 'owner'], role);

-- Data keys, one active per tenant, wrapped by the key-encryption key that lies outside.
CREATE TABLE auth.data_keys (
    tenant_id    uuid NOT NULL REFERENCES platform.tenants ON DELETE CASCADE,
    key_id       uuid NOT NULL,
    wrapped_key  bytea NOT NULL,
    state        text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'retired')),
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, key_id)
);
CREATE UNIQUE INDEX data_keys_active ON auth.data_keys (tenant_id) WHERE state = 'active';

-- Where the people of a tenant log in.
CREATE TABLE auth.identity_providers (
    tenant_id              uuid NOT NULL REFERENCES platform.tenants ON DELETE CASCADE,
    provider_id            uuid NOT NULL,
    label                  text NOT NULL CHECK (length(label) BETWEEN 1 AND 100),
    issuer                 text NOT NULL CHECK (length(issuer) BETWEEN 8 AND 500),
    client_id              text NOT NULL CHECK (length(client_id) BETWEEN 1 AND 500),
    client_secret          bytea,                     -- sealed; NULL: a public client
    scopes                 text[] NOT NULL DEFAULT '{openid,email,profile}',
    signing_algorithms     text[] NOT NULL DEFAULT '{RS256}',
    -- Who may join by logging in: a verified address in one of these domains, or (all of) these
    -- claims: {"groups": ["sales"]}. Both empty: only people who are members already.
    allowed_email_domains  text[] NOT NULL DEFAULT '{}',
    allowed_claims         jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(allowed_claims) = 'object'),
    joining_role           text NOT NULL DEFAULT 'viewer'
                           CHECK (joining_role IN ('viewer', 'analyst', 'admin')),
    listed                 boolean NOT NULL DEFAULT false,  -- named on the public login page
    enabled                boolean NOT NULL DEFAULT true,
    version                bigint NOT NULL DEFAULT 1,
    created_at             timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, provider_id),
    UNIQUE (tenant_id, issuer, client_id)
);
CREATE INDEX identity_providers_by_id ON auth.identity_providers (provider_id);

-- A person as one issuer knows them. Never keyed by address: addresses change hands.
CREATE TABLE auth.users (
    user_id         uuid PRIMARY KEY,
    issuer          text NOT NULL,
    subject         text NOT NULL CHECK (length(subject) BETWEEN 1 AND 255),
    email           text,
    email_verified  boolean NOT NULL DEFAULT false,
    name            text NOT NULL DEFAULT '',
    created_at      timestamptz NOT NULL DEFAULT now(),
    last_login_at   timestamptz,
    UNIQUE (issuer, subject)
);

CREATE TABLE auth.members (
    tenant_id   uuid NOT NULL REFERENCES platform.tenants ON DELETE CASCADE,
    user_id     uuid NOT NULL REFERENCES auth.users ON DELETE CASCADE,
    role        text NOT NULL CHECK (role IN ('viewer', 'analyst', 'admin', 'owner')),
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, user_id)
);
CREATE INDEX members_by_user ON auth.members (user_id);

-- A browser that is logged in. issuer and client_id are copied from the provider: a tenant accepts
-- the session only while it trusts that pair itself.
CREATE TABLE auth.login_sessions (
    session_hash        bytea PRIMARY KEY CHECK (length(session_hash) = 32),
    session_id          uuid NOT NULL UNIQUE,
    user_id             uuid NOT NULL REFERENCES auth.users ON DELETE CASCADE,
    tenant_id           uuid NOT NULL REFERENCES platform.tenants ON DELETE CASCADE,  -- active one
    provider_tenant_id  uuid NOT NULL,
    provider_id         uuid NOT NULL,
    issuer              text NOT NULL,
    client_id           text NOT NULL,
    provider_tokens     bytea,                        -- sealed: id_token, refresh_token
    created_at          timestamptz NOT NULL DEFAULT now(),
    last_seen_at        timestamptz NOT NULL DEFAULT now(),
    idle_limit          interval NOT NULL CHECK (idle_limit > interval '0'),
    expires_at          timestamptz NOT NULL,
    FOREIGN KEY (provider_tenant_id, provider_id)
        REFERENCES auth.identity_providers (tenant_id, provider_id) ON DELETE CASCADE
);
CREATE INDEX login_sessions_by_user ON auth.login_sessions (user_id);
CREATE INDEX login_sessions_by_expiry ON auth.login_sessions (expires_at);
CREATE INDEX login_sessions_by_provider ON auth.login_sessions (provider_tenant_id, provider_id);

-- A login under way, from the redirect to the provider until the browser comes back. Nonce and PKCE
-- verifier are not here: they derive from the browser's cookie and the salt (see login_secrets.py).
CREATE TABLE auth.login_states (
    state_hash          bytea PRIMARY KEY CHECK (length(state_hash) = 32),
    binding_hash        bytea NOT NULL CHECK (length(binding_hash) = 32),
    salt                bytea NOT NULL CHECK (length(salt) = 32),
    provider_tenant_id  uuid NOT NULL,
    provider_id         uuid NOT NULL,
    next_url            text NOT NULL CHECK (length(next_url) <= 2000),
    expires_at          timestamptz NOT NULL,
    FOREIGN KEY (provider_tenant_id, provider_id)
        REFERENCES auth.identity_providers (tenant_id, provider_id) ON DELETE CASCADE
);
CREATE INDEX login_states_by_expiry ON auth.login_states (expires_at);
CREATE INDEX login_states_by_provider ON auth.login_states (provider_tenant_id, provider_id);

-- Tokens for programs. A token made by a person never outranks that person and dies with the
-- membership; one made by the operator (created_by NULL) stands for itself.
CREATE TABLE auth.access_tokens (
    tenant_id     uuid NOT NULL REFERENCES platform.tenants ON DELETE CASCADE,
    token_id      uuid NOT NULL,
    token_hash    bytea NOT NULL CHECK (length(token_hash) = 32),
    hint          text NOT NULL,                      -- first characters, to recognise it by
    name          text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    role          text NOT NULL CHECK (role IN ('viewer', 'analyst', 'admin', 'owner')),
    scopes        text[] NOT NULL,
    created_by    uuid,
    created_at    timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz,
    last_used_at  timestamptz,                        -- to the minute
    revoked_at    timestamptz,
    PRIMARY KEY (tenant_id, token_id),
    FOREIGN KEY (tenant_id, created_by)
        REFERENCES auth.members (tenant_id, user_id) ON DELETE CASCADE
);
CREATE INDEX access_tokens_by_hash ON auth.access_tokens (token_hash);
CREATE INDEX access_tokens_by_creator ON auth.access_tokens (tenant_id, created_by);

-- How to reach a tenant's own systems. The secret is write-only over HTTP.
CREATE TABLE auth.connections (
    tenant_id   uuid NOT NULL REFERENCES platform.tenants ON DELETE CASCADE,
    kind        text NOT NULL CHECK (kind IN ('bigquery', 'sftp', 'smtp')),
    config      jsonb NOT NULL CHECK (jsonb_typeof(config) = 'object'),
    secret      bytea,                                -- sealed
    version     bigint NOT NULL DEFAULT 1,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, kind)
);

-- Who did what, per tenant, append-only: each entry's hash covers the entry and the hash before it,
-- so that a change in the middle shows; the head shows entries cut off at the end.
CREATE TABLE auth.audit_log (
    tenant_id      uuid NOT NULL REFERENCES platform.tenants ON DELETE CASCADE,
    sequence       bigint NOT NULL,
    at             timestamptz NOT NULL,
    actor_kind     text NOT NULL CHECK (actor_kind IN ('user', 'token', 'operator', 'system')),
    actor_id       uuid,
    action         text NOT NULL CHECK (action ~ '^[a-z][a-z0-9_.]{0,99}$'),
    target         text NOT NULL DEFAULT '',
    detail         jsonb NOT NULL DEFAULT '{}',
    previous_hash  bytea NOT NULL,
    hash           bytea NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (tenant_id, sequence)
);
CREATE TABLE auth.audit_heads (
    tenant_id  uuid PRIMARY KEY REFERENCES platform.tenants ON DELETE CASCADE,
    sequence   bigint NOT NULL,
    hash       bytea NOT NULL
);

-- Rights of troupe_runtime ------------------------------------------------------------------------

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'data_keys', 'identity_providers', 'members', 'access_tokens', 'connections',
        'audit_log', 'audit_heads', 'users', 'login_sessions', 'login_states'
    ] LOOP
        EXECUTE format('ALTER TABLE auth.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE auth.%I FORCE ROW LEVEL SECURITY', name);
    END LOOP;
    FOREACH name IN ARRAY ARRAY[
        'data_keys', 'identity_providers', 'members', 'access_tokens', 'connections',
        'audit_log', 'audit_heads'
    ] LOOP
        EXECUTE format(
            'CREATE POLICY tenant ON auth.%I USING (tenant_id = platform.current_tenant())'
            ' WITH CHECK (tenant_id = platform.current_tenant())', name);
    END LOOP;
    FOREACH name IN ARRAY ARRAY[
        'data_keys', 'identity_providers', 'members', 'access_tokens', 'connections'
    ] LOOP
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON auth.%I TO troupe_runtime', name);
    END LOOP;
END
$$;
-- The log is written by its door only, so that nobody can leave the chain or touch what is written.
GRANT SELECT ON auth.audit_log, auth.audit_heads TO troupe_runtime;

-- Rights of troupe_system, the owner of the doors -------------------------------------------------

CREATE POLICY system ON auth.identity_providers FOR SELECT TO troupe_system USING (true);
GRANT SELECT ON auth.identity_providers TO troupe_system;
CREATE POLICY system ON auth.members TO troupe_system USING (true) WITH CHECK (true);
GRANT SELECT, INSERT ON auth.members TO troupe_system;
CREATE POLICY system ON auth.access_tokens TO troupe_system USING (true) WITH CHECK (true);
GRANT SELECT, UPDATE (last_used_at) ON auth.access_tokens TO troupe_system;
CREATE POLICY system ON auth.users TO troupe_system USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE ON auth.users TO troupe_system;
CREATE POLICY system ON auth.login_sessions TO troupe_system USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON auth.login_sessions TO troupe_system;
CREATE POLICY system ON auth.login_states TO troupe_system USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON auth.login_states TO troupe_system;
CREATE POLICY system ON auth.audit_log TO troupe_system USING (true) WITH CHECK (true);
GRANT SELECT, INSERT ON auth.audit_log TO troupe_system;
CREATE POLICY system ON auth.audit_heads TO troupe_system USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE ON auth.audit_heads TO troupe_system;

-- The audit log -----------------------------------------------------------------------------------

-- The hash of one entry. The text of a jsonb array is canonical: sorted keys, one way to space.
CREATE FUNCTION auth.audit_hash(entry auth.audit_log) RETURNS bytea
    LANGUAGE sql STABLE
    RETURN sha256(
        (entry).previous_hash || convert_to(
            jsonb_build_array(
                (entry).tenant_id, (entry).sequence,
                to_char((entry).at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'),
                (entry).actor_kind, (entry).actor_id, (entry).action, (entry).target, (entry).detail
            )::text, 'UTF8'));

-- Not for troupe_runtime: the doors below decide for which tenant an entry is written.
CREATE FUNCTION auth.write_audit(
    p_tenant uuid, p_actor_kind text, p_actor uuid, p_action text, p_target text, p_detail jsonb
) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    head   auth.audit_heads;
    entry  auth.audit_log;
BEGIN
    INSERT INTO auth.audit_heads (tenant_id, sequence, hash) VALUES (p_tenant, 0, '')
        ON CONFLICT DO NOTHING;
    -- The lock on the head puts writers of one tenant in a row until the end of the transaction.
    SELECT * INTO head FROM auth.audit_heads WHERE tenant_id = p_tenant FOR UPDATE;
    entry.tenant_id := p_tenant;
    entry.sequence := head.sequence + 1;
    entry.at := clock_timestamp();
    entry.actor_kind := p_actor_kind;
    entry.actor_id := p_actor;
    entry.action := p_action;
    entry.target := p_target;
    entry.detail := p_detail;
    entry.previous_hash := head.hash;
    entry.hash := auth.audit_hash(entry);
    INSERT INTO auth.audit_log SELECT entry.*;
    UPDATE auth.audit_heads SET sequence = entry.sequence, hash = entry.hash
        WHERE tenant_id = p_tenant;
    RETURN entry.sequence;
END
$$;

-- Writes an entry for the transaction's tenant; it commits or vanishes with the change it tells of.
CREATE FUNCTION auth.append_audit(
    p_actor_kind text, p_actor uuid, p_action text, p_target text, p_detail jsonb
) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF platform.current_tenant() IS NULL THEN
        RAISE EXCEPTION 'an audit entry needs a tenant';
    END IF;
    RETURN auth.write_audit(
        platform.current_tenant(), p_actor_kind, p_actor, p_action, p_target, p_detail);
END
$$;

-- The first sequence at which the chain of the transaction's tenant is broken, or NULL.
CREATE FUNCTION auth.broken_audit_entry() RETURNS bigint
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH chain AS (
        SELECT entry.sequence, entry.hash, auth.audit_hash(entry) AS computed, entry.previous_hash,
               row_number() OVER (ORDER BY entry.sequence) AS position,
               lag(entry.hash, 1, ''::bytea) OVER (ORDER BY entry.sequence) AS expected_previous
        FROM auth.audit_log AS entry
        WHERE entry.tenant_id = platform.current_tenant()
    ), broken AS (
        SELECT least(sequence, position) AS sequence FROM chain
        WHERE hash <> computed OR previous_hash <> expected_previous OR sequence <> position
        UNION ALL
        -- The head knows how long the chain is and how it ends.
        SELECT coalesce((SELECT max(sequence) FROM chain), 0) + 1
        FROM auth.audit_heads AS head
        WHERE head.tenant_id = platform.current_tenant()
          AND NOT EXISTS (
              SELECT FROM chain WHERE chain.sequence = head.sequence AND chain.hash = head.hash)
    )
    SELECT min(sequence) FROM broken
$$;

-- Doors: logging in -------------------------------------------------------------------------------

-- What the login page may name: listed providers, or all enabled ones of the tenant that was asked
-- for by its identifier.
CREATE FUNCTION auth.login_choices(p_tenant uuid)
    RETURNS TABLE (provider_id uuid, tenant_id uuid, tenant_name text, label text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT provider.provider_id, tenant.tenant_id, tenant.name, provider.label
    FROM auth.identity_providers AS provider
    JOIN platform.tenants AS tenant USING (tenant_id)
    WHERE provider.enabled AND tenant.state = 'active'
      AND CASE WHEN p_tenant IS NULL THEN provider.listed ELSE tenant.tenant_id = p_tenant END
    ORDER BY tenant.name, provider.label, provider.provider_id
    LIMIT 100
$$;

-- The tenant that an enabled provider belongs to, or NULL.
CREATE FUNCTION auth.tenant_of_provider(p_provider uuid) RETURNS uuid
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT provider.tenant_id
    FROM auth.identity_providers AS provider
    JOIN platform.tenants AS tenant USING (tenant_id)
    WHERE provider.provider_id = p_provider AND provider.enabled AND tenant.state = 'active'
    LIMIT 1
$$;

-- Notes a login under way at a provider of the transaction's tenant; sweeps what has expired.
CREATE FUNCTION auth.begin_login(
    p_state_hash bytea, p_binding_hash bytea, p_salt bytea, p_provider uuid, p_next text,
    p_lifetime interval
) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    DELETE FROM auth.login_states WHERE state_hash IN (
        SELECT state_hash FROM auth.login_states WHERE expires_at < now() - interval '1 hour'
        LIMIT 100 FOR UPDATE SKIP LOCKED);
    INSERT INTO auth.login_states (
        state_hash, binding_hash, salt, provider_tenant_id, provider_id, next_url, expires_at)
    VALUES (
        p_state_hash, p_binding_hash, p_salt, platform.current_tenant(), p_provider, p_next,
        now() + p_lifetime)
$$;

-- Takes a login state, once. outcome: 'taken'; 'expired'; 'foreign' (another browser's); no row:
-- never issued, or taken before. Whatever the outcome, the state is gone.
CREATE FUNCTION auth.take_login_state(p_state_hash bytea, p_binding_hash bytea)
    RETURNS TABLE (
        outcome text, provider_tenant_id uuid, provider_id uuid, salt bytea, next_url text)
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    DELETE FROM auth.login_states AS state WHERE state.state_hash = p_state_hash
    RETURNING
        CASE WHEN state.binding_hash <> p_binding_hash THEN 'foreign'
             WHEN state.expires_at <= now() THEN 'expired'
             ELSE 'taken' END,
        state.provider_tenant_id, state.provider_id, state.salt, state.next_url
$$;

-- Ends a login at a provider of the transaction's tenant: notes the person, lets them join when
-- p_joining_role says so, replaces the browser's old session. No row: not a member, nothing noted.
CREATE FUNCTION auth.complete_login(
    p_provider uuid, p_subject text, p_email text, p_email_verified boolean, p_name text,
    p_joining_role text, p_user uuid, p_session uuid, p_session_hash bytea,
    p_replaced_session_hash bytea, p_provider_tokens bytea, p_idle interval, p_absolute interval
) RETURNS TABLE (user_id uuid, role text)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    provider  auth.identity_providers;
    person    uuid;
    granted   text;
BEGIN
    SELECT * INTO provider FROM auth.identity_providers AS candidate
        WHERE candidate.tenant_id = platform.current_tenant()
          AND candidate.provider_id = p_provider AND candidate.enabled;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT u.user_id INTO person FROM auth.users AS u
        WHERE u.issuer = provider.issuer AND u.subject = p_subject;
    IF p_joining_role IS NULL AND NOT EXISTS (
        SELECT FROM auth.members AS m WHERE m.tenant_id = provider.tenant_id AND m.user_id = person)
    THEN
        RETURN;
    END IF;

    INSERT INTO auth.users AS u
        (user_id, issuer, subject, email, email_verified, name, last_login_at)
    VALUES (p_user, provider.issuer, p_subject, p_email, p_email_verified, p_name, now())
    ON CONFLICT (issuer, subject) DO UPDATE SET
        email = excluded.email, email_verified = excluded.email_verified, name = excluded.name,
        last_login_at = excluded.last_login_at
    RETURNING u.user_id INTO person;

    INSERT INTO auth.members AS m (tenant_id, user_id, role)
        SELECT provider.tenant_id, person, p_joining_role WHERE p_joining_role IS NOT NULL
        ON CONFLICT DO NOTHING
        RETURNING m.role INTO granted;
    IF granted IS NOT NULL THEN
        PERFORM auth.write_audit(provider.tenant_id, 'user', person, 'member.joined',
            person::text, jsonb_build_object('role', granted, 'provider_id', p_provider));
    ELSE
        SELECT m.role INTO granted FROM auth.members AS m
            WHERE m.tenant_id = provider.tenant_id AND m.user_id = person;
    END IF;

    DELETE FROM auth.login_sessions AS s WHERE s.session_hash = p_replaced_session_hash;
    DELETE FROM auth.login_sessions AS s WHERE s.session_hash IN (
        SELECT old.session_hash FROM auth.login_sessions AS old WHERE old.expires_at < now()
        LIMIT 100 FOR UPDATE SKIP LOCKED);
    INSERT INTO auth.login_sessions (
        session_hash, session_id, user_id, tenant_id, provider_tenant_id, provider_id, issuer,
        client_id, provider_tokens, idle_limit, expires_at)
    VALUES (
        p_session_hash, p_session, person, provider.tenant_id, provider.tenant_id, p_provider,
        provider.issuer, provider.client_id, p_provider_tokens, p_idle, now() + p_absolute);
    PERFORM auth.write_audit(provider.tenant_id, 'user', person, 'session.started',
        p_session::text, jsonb_build_object('provider_id', p_provider));
    RETURN QUERY SELECT person, granted;
END
$$;

-- Doors: every request ----------------------------------------------------------------------------

-- The session behind a cookie's hash, with the tenants that accept it: active, with this person as
-- a member, and trusting the same issuer and client. Notes that the session was seen, coarsely.
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
           least(s.expires_at, s.last_seen_at + s.idle_limit),
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
      AND s.expires_at > now() AND s.last_seen_at + s.idle_limit > now();
END
$$;

-- The token behind a hash, with the role it has today.
CREATE FUNCTION auth.resolve_token(p_token_hash bytea)
    RETURNS TABLE (
        token_id uuid, tenant_id uuid, tenant_name text, created_by uuid, name text, role text,
        scopes text[], expires_at timestamptz)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE auth.access_tokens AS a SET last_used_at = now()
        WHERE a.token_hash = p_token_hash
          AND (a.last_used_at IS NULL OR a.last_used_at < now() - interval '1 minute');
    RETURN QUERY
    SELECT a.token_id, a.tenant_id, t.name, a.created_by, a.name,
           CASE WHEN auth.role_rank(m.role) < auth.role_rank(a.role) THEN m.role ELSE a.role END,
           a.scopes, a.expires_at
    FROM auth.access_tokens AS a
    JOIN platform.tenants AS t ON t.tenant_id = a.tenant_id AND t.state = 'active'
    LEFT JOIN auth.members AS m ON m.tenant_id = a.tenant_id AND m.user_id = a.created_by
    WHERE a.token_hash = p_token_hash AND a.revoked_at IS NULL
      AND (a.expires_at IS NULL OR a.expires_at > now())
      AND (a.created_by IS NULL OR m.user_id IS NOT NULL);
END
$$;

-- Ends the session behind a cookie's hash; what remains to be said to its provider.
CREATE FUNCTION auth.end_session(p_session_hash bytea)
    RETURNS TABLE (
        session_id uuid, user_id uuid, provider_tenant_id uuid, provider_id uuid,
        provider_tokens bytea)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    ended auth.login_sessions;
BEGIN
    DELETE FROM auth.login_sessions AS s WHERE s.session_hash = p_session_hash
        RETURNING * INTO ended;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    PERFORM auth.write_audit(ended.tenant_id, 'user', ended.user_id, 'session.ended',
        ended.session_id::text, '{}');
    RETURN QUERY SELECT ended.session_id, ended.user_id, ended.provider_tenant_id,
        ended.provider_id, ended.provider_tokens;
END
$$;

-- Doors: the people of a tenant -------------------------------------------------------------------

-- The person that an issuer knows by this subject, noted now when they have not logged in yet.
CREATE FUNCTION auth.put_user(
    p_user uuid, p_issuer text, p_subject text, p_email text, p_name text
) RETURNS uuid
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    WITH made AS (
        INSERT INTO auth.users (user_id, issuer, subject, email, name)
        VALUES (p_user, p_issuer, p_subject, p_email, p_name)
        ON CONFLICT (issuer, subject) DO NOTHING
        RETURNING user_id
    )
    SELECT user_id FROM made
    UNION ALL
    SELECT user_id FROM auth.users WHERE issuer = p_issuer AND subject = p_subject
    LIMIT 1
$$;

-- One page of the members of the transaction's tenant, in the order in which they joined.
CREATE FUNCTION auth.list_members(p_after uuid, p_limit integer)
    RETURNS TABLE (
        user_id uuid, name text, email text, role text, created_at timestamptz,
        last_login_at timestamptz)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT m.user_id, u.name, u.email, m.role, m.created_at, u.last_login_at
    FROM auth.members AS m JOIN auth.users AS u USING (user_id)
    WHERE m.tenant_id = platform.current_tenant() AND (p_after IS NULL OR m.user_id > p_after)
    ORDER BY m.user_id
    LIMIT least(p_limit, 1001)
$$;

DO $$
DECLARE
    door regprocedure;
BEGIN
    FOREACH door IN ARRAY ARRAY[
        'auth.write_audit(uuid, text, uuid, text, text, jsonb)',
        'auth.append_audit(text, uuid, text, text, jsonb)',
        'auth.login_choices(uuid)',
        'auth.tenant_of_provider(uuid)',
        'auth.begin_login(bytea, bytea, bytea, uuid, text, interval)',
        'auth.take_login_state(bytea, bytea)',
        'auth.complete_login(uuid, text, text, boolean, text, text, uuid, uuid, bytea, bytea, bytea,'
            ' interval, interval)',
        'auth.resolve_session(bytea)',
        'auth.resolve_token(bytea)',
        'auth.end_session(bytea)',
        'auth.put_user(uuid, text, text, text, text)',
        'auth.list_members(uuid, integer)'
    ]::regprocedure[] LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', door);
        IF door <> 'auth.write_audit(uuid, text, uuid, text, text, jsonb)'::regprocedure THEN
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO troupe_runtime', door);
        END IF;
        EXECUTE format('ALTER FUNCTION %s OWNER TO troupe_system', door);
    END LOOP;
END
$$;
