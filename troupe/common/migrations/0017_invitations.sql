-- Invitations of single e-mail addresses.
--
-- A person is an issuer and a subject, never an address. An invitation does not change that: it waits
-- at one provider of the tenant for the first login with that address, verified by that provider, and
-- makes a member of whoever that is. What is stored afterwards is the person, and the address is
-- emptied. docs/adr/0022-invitations.md has the reasons.

CREATE TABLE auth.invitations (
    tenant_id      uuid NOT NULL REFERENCES platform.tenants ON DELETE CASCADE,
    invitation_id  uuid NOT NULL,
    provider_id    uuid NOT NULL,
    email          text CHECK (length(email) BETWEEN 3 AND 254),   -- NULL: it is over
    role           text NOT NULL CHECK (role IN ('viewer', 'analyst', 'admin', 'owner')),
    invited_by     uuid,                             -- NULL: the operator, or a token of theirs
    created_at     timestamptz NOT NULL DEFAULT now(),
    expires_at     timestamptz NOT NULL,
    ended_at       timestamptz,                      -- accepted or revoked; the audit log says which
    PRIMARY KEY (tenant_id, invitation_id),
    FOREIGN KEY (tenant_id, provider_id)
        REFERENCES auth.identity_providers (tenant_id, provider_id) ON DELETE CASCADE,
    -- Like a token, it ends with the membership of whoever made it.
    FOREIGN KEY (tenant_id, invited_by)
        REFERENCES auth.members (tenant_id, user_id) ON DELETE CASCADE,
    CHECK ((email IS NULL) = (ended_at IS NOT NULL))
);
CREATE UNIQUE INDEX invitations_waiting ON auth.invitations (tenant_id, provider_id, email);
CREATE INDEX invitations_by_inviter ON auth.invitations (tenant_id, invited_by);
CREATE INDEX invitations_by_expiry ON auth.invitations (expires_at);

ALTER TABLE auth.invitations ENABLE ROW LEVEL SECURITY;
ALTER TABLE auth.invitations FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON auth.invitations USING (tenant_id = platform.current_tenant())
    WITH CHECK (tenant_id = platform.current_tenant());
GRANT SELECT, INSERT, UPDATE, DELETE ON auth.invitations TO troupe_runtime;
CREATE POLICY system ON auth.invitations TO troupe_system USING (true) WITH CHECK (true);
GRANT SELECT, UPDATE, DELETE ON auth.invitations TO troupe_system;

-- As before, and sweeps invitations that expired a month ago; they hold addresses.
DROP FUNCTION auth.begin_login(bytea, bytea, bytea, uuid, text, interval);
CREATE FUNCTION auth.begin_login(
    p_state_hash bytea, p_binding_hash bytea, p_salt bytea, p_provider uuid, p_next text,
    p_lifetime interval
) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    DELETE FROM auth.login_states WHERE state_hash IN (
        SELECT state_hash FROM auth.login_states WHERE expires_at < now() - interval '1 hour'
        LIMIT 100 FOR UPDATE SKIP LOCKED);
    DELETE FROM auth.invitations AS i USING (
        SELECT old.tenant_id, old.invitation_id FROM auth.invitations AS old
        WHERE old.expires_at < now() - interval '30 days' LIMIT 100 FOR UPDATE SKIP LOCKED) AS gone
        WHERE i.tenant_id = gone.tenant_id AND i.invitation_id = gone.invitation_id;
    INSERT INTO auth.login_states (
        state_hash, binding_hash, salt, provider_tenant_id, provider_id, next_url, expires_at)
    VALUES (
        p_state_hash, p_binding_hash, p_salt, platform.current_tenant(), p_provider, p_next,
        now() + p_lifetime)
$$;

-- Whether somebody in the transaction's tenant has this address, as their provider verified it.
-- Only letters of ASCII are compared without regard to case, as the program does.
CREATE FUNCTION auth.address_is_a_members(p_email text) RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (
        SELECT FROM auth.members AS m JOIN auth.users AS u USING (user_id)
        WHERE m.tenant_id = platform.current_tenant() AND u.email_verified
          AND translate(u.email, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnopqrstuvwxyz')
              = p_email)
$$;

DO $$
DECLARE
    door regprocedure;
BEGIN
    FOREACH door IN ARRAY ARRAY[
        'auth.begin_login(bytea, bytea, bytea, uuid, text, interval)',
        'auth.address_is_a_members(text)'
    ]::regprocedure[] LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', door);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO troupe_runtime', door);
        EXECUTE format('ALTER FUNCTION %s OWNER TO troupe_system', door);
    END LOOP;
END
$$;
