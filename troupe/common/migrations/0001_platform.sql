-- The ground: schemas, tenants, who may see what.
--
-- Three roles exist before this file runs (the migration runner makes them):
--   troupe_owner    owns everything and migrates; subject to row-level security like anyone (FORCE)
--   troupe_runtime  what the program runs as; sees the rows of the transaction's tenant only
--   troupe_system   cannot log in; owns the few SECURITY DEFINER functions ("doors") that must look
--                   across tenants, and has policies on just the tables those functions need;
--                   troupe_owner may hand functions to it and inherits none of its rights
-- A tenant is set per transaction: set_config('troupe.tenant_id', <uuid>, true). After a commit
-- that setting is the empty string, not NULL, hence the nullif.

CREATE SCHEMA IF NOT EXISTS platform;
CREATE SCHEMA auth;
CREATE SCHEMA data;
CREATE SCHEMA staging;
CREATE SCHEMA analytics;
GRANT USAGE ON SCHEMA platform, auth, data, staging, analytics TO troupe_runtime, troupe_system;
-- A function can only be handed to a role that may create in its schema.
GRANT CREATE ON SCHEMA platform, auth, data TO troupe_system;

CREATE FUNCTION platform.current_tenant() RETURNS uuid
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN nullif(current_setting('troupe.tenant_id', true), '')::uuid;

CREATE TABLE platform.tenants (
    tenant_id            uuid PRIMARY KEY,
    name                 text NOT NULL CHECK (name = btrim(name) AND length(name) BETWEEN 1 AND 200),
    state                text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'deactivated')),
    reporting_time_zone  text NOT NULL DEFAULT 'UTC',
    reporting_currency   text NOT NULL DEFAULT 'EUR' CHECK (reporting_currency ~ '^[A-Z]{3}$'),
    -- ISO: 1 is Monday, 7 is Sunday (Google Analytics starts its weeks on Sunday).
    week_start           smallint NOT NULL DEFAULT 1 CHECK (week_start BETWEEN 1 AND 7),
    -- Names that differ between shops: parameters, user properties, thresholds (see TenantSettings).
    settings             jsonb NOT NULL DEFAULT '{}',
    version              bigint NOT NULL DEFAULT 1,
    created_at           timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE platform.tenants ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.tenants FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON platform.tenants
    USING (tenant_id = platform.current_tenant())
    WITH CHECK (tenant_id = platform.current_tenant());
CREATE POLICY system ON platform.tenants TO troupe_system USING (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON platform.tenants TO troupe_runtime;
GRANT SELECT ON platform.tenants TO troupe_system;

-- Which tenants exist: for work that visits each of them (schedules, warming). Tells ids, no names.
CREATE FUNCTION platform.active_tenants() RETURNS SETOF uuid
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
AS $$
    SELECT tenant_id FROM platform.tenants WHERE state = 'active' ORDER BY tenant_id
$$;
REVOKE ALL ON FUNCTION platform.active_tenants() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION platform.active_tenants() TO troupe_runtime;
ALTER FUNCTION platform.active_tenants() OWNER TO troupe_system;

-- Answers kept so that a repeated POST with the same Idempotency-Key is answered, not done again.
CREATE TABLE platform.idempotency_keys (
    tenant_id       uuid NOT NULL REFERENCES platform.tenants ON DELETE CASCADE,
    key             text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    route           text NOT NULL,
    request_sha256  bytea NOT NULL,
    status          smallint,
    body            bytea,
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, key, route)
);
CREATE INDEX idempotency_keys_by_age ON platform.idempotency_keys (created_at);
ALTER TABLE platform.idempotency_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.idempotency_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON platform.idempotency_keys
    USING (tenant_id = platform.current_tenant())
    WITH CHECK (tenant_id = platform.current_tenant());
GRANT SELECT, INSERT, UPDATE, DELETE ON platform.idempotency_keys TO troupe_runtime;
