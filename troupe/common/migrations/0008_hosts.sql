-- The supervisors that share this database, one row each. docs: troupe/platform/hosts.py.
--
-- For people, and to keep two supervisors from using one name. Nothing that must be correct relies on
-- it: jobs and leadership have leases of their own. Only the database's clock counts.

CREATE TABLE platform.hosts (
    host          text PRIMARY KEY CHECK (host ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$'),
    holder        uuid NOT NULL,        -- one run of one supervisor
    site          uuid NOT NULL,        -- its state directory, which it locks: a new run is the same host
    machine       text NOT NULL,
    pid           integer NOT NULL,
    version       text NOT NULL,
    lease         double precision NOT NULL CHECK (lease > 0),  -- seconds until it counts as silent
    key_ids       text[] NOT NULL,      -- of its key-encryption keys
    groups        jsonb NOT NULL,
    started_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    heartbeat_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    stopped_at    timestamptz
) WITH (fillfactor = 50);
GRANT SELECT, INSERT, UPDATE, DELETE ON platform.hosts TO troupe_system;

-- Takes the name for a run of a supervisor. No row: it has it. Otherwise who has it, and in how many
-- seconds it will count as gone if it is not heard of.
CREATE FUNCTION platform.register_host(
    p_host text, p_holder uuid, p_site uuid, p_machine text, p_pid integer, p_version text,
    p_lease double precision, p_key_ids text[], p_groups jsonb)
    RETURNS TABLE (machine text, pid integer, heartbeat_at timestamptz, seconds_left double precision)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    INSERT INTO platform.hosts AS h
        (host, holder, site, machine, pid, version, lease, key_ids, groups)
    VALUES (p_host, p_holder, p_site, p_machine, p_pid, p_version, p_lease, p_key_ids, p_groups)
    ON CONFLICT (host) DO UPDATE
    SET holder = p_holder, site = p_site, machine = p_machine, pid = p_pid, version = p_version,
        lease = p_lease, key_ids = p_key_ids, groups = p_groups, started_at = clock_timestamp(),
        heartbeat_at = clock_timestamp(), stopped_at = NULL
    WHERE h.site = p_site OR h.stopped_at IS NOT NULL
       OR h.heartbeat_at + make_interval(secs => h.lease) < clock_timestamp();
    IF NOT FOUND THEN
        RETURN QUERY
        SELECT h.machine, h.pid, h.heartbeat_at,
               greatest(extract(epoch FROM h.heartbeat_at + make_interval(secs => h.lease)
                                           - clock_timestamp()), 0)::double precision
        FROM platform.hosts h WHERE h.host = p_host;
    END IF;
END
$$;
REVOKE ALL ON FUNCTION platform.register_host(
    text, uuid, uuid, text, integer, text, double precision, text[], jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION platform.register_host(
    text, uuid, uuid, text, integer, text, double precision, text[], jsonb) TO troupe_runtime;
ALTER FUNCTION platform.register_host(
    text, uuid, uuid, text, integer, text, double precision, text[], jsonb) OWNER TO troupe_system;

-- Says that the supervisor lives, and how its groups are. False: somebody else has the name.
CREATE FUNCTION platform.beat_host(p_host text, p_holder uuid, p_groups jsonb) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    UPDATE platform.hosts
    SET heartbeat_at = clock_timestamp(), groups = p_groups, stopped_at = NULL
    WHERE host = p_host AND holder = p_holder;
    RETURN FOUND;
END
$$;
REVOKE ALL ON FUNCTION platform.beat_host(text, uuid, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION platform.beat_host(text, uuid, jsonb) TO troupe_runtime;
ALTER FUNCTION platform.beat_host(text, uuid, jsonb) OWNER TO troupe_system;

-- Says that it stopped in order.
CREATE FUNCTION platform.stop_host(p_host text, p_holder uuid) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog
AS $$
    UPDATE platform.hosts SET stopped_at = clock_timestamp(), groups = '{}'
    WHERE host = p_host AND holder = p_holder
$$;
REVOKE ALL ON FUNCTION platform.stop_host(text, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION platform.stop_host(text, uuid) TO troupe_runtime;
ALTER FUNCTION platform.stop_host(text, uuid) OWNER TO troupe_system;

-- Forgets hosts that were not heard of for so many seconds.
CREATE FUNCTION platform.forget_hosts(p_seconds double precision) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog
AS $$
    DELETE FROM platform.hosts
    WHERE heartbeat_at < clock_timestamp() - make_interval(secs => p_seconds)
$$;
REVOKE ALL ON FUNCTION platform.forget_hosts(double precision) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION platform.forget_hosts(double precision) TO troupe_runtime;
ALTER FUNCTION platform.forget_hosts(double precision) OWNER TO troupe_system;

-- All hosts by name; age: seconds since the last heartbeat.
CREATE FUNCTION platform.known_hosts()
    RETURNS TABLE (host text, holder uuid, machine text, pid integer, version text, state text,
                   key_ids text[], groups jsonb, started_at timestamptz, age double precision)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
AS $$
    SELECT h.host, h.holder, h.machine, h.pid, h.version,
           CASE WHEN h.stopped_at IS NOT NULL THEN 'stopped'
                WHEN h.heartbeat_at + make_interval(secs => h.lease) < clock_timestamp() THEN 'silent'
                ELSE 'running' END,
           h.key_ids, h.groups, h.started_at,
           greatest(extract(epoch FROM clock_timestamp() - h.heartbeat_at), 0)::double precision
    FROM platform.hosts h ORDER BY h.host
$$;
REVOKE ALL ON FUNCTION platform.known_hosts() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION platform.known_hosts() TO troupe_runtime;
ALTER FUNCTION platform.known_hosts() OWNER TO troupe_system;
