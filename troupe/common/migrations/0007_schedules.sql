-- Who leads, and what is due when. docs: troupe/platform/leadership.py, troupe/platform/schedules.
--
-- A slot is one instant at which one schedule was due. Its row is written in the transaction that
-- enqueues its job; that there can be only one row is what makes it happen exactly once. Leadership
-- only sees to it that one instance does the work. Only the database's clock counts.

-- ---- leadership

CREATE TABLE platform.leaders (
    name        text PRIMARY KEY CHECK (name ~ '^[a-z][a-z0-9_]{0,39}$'),  -- of the work
    term        bigint NOT NULL,          -- grows with every change
    holder      uuid NOT NULL,            -- one incarnation of one instance
    expires_at  timestamptz NOT NULL,
    began_at    timestamptz NOT NULL,
    host        text NOT NULL,            -- where the holder says that it runs: for people only
    pid         integer NOT NULL
    -- Not indexed but by name, and room is left in each page: extending stays a heap-only update.
) WITH (fillfactor = 50);
GRANT SELECT, INSERT, UPDATE ON platform.leaders TO troupe_system;

-- Begins a new term if none is in force, or if the asker itself has it (its last answer was lost).
-- Whoever holds the row FOR KEY SHARE (hold_term) is writing in the name of the old term: it is
-- waited for, by asking again.
CREATE FUNCTION platform.take_term(
    p_name text, p_holder uuid, p_seconds double precision, p_host text, p_pid integer
) RETURNS TABLE (term bigint, seconds_left double precision)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
#variable_conflict use_column
DECLARE
    present  platform.leaders;
BEGIN
    SELECT * INTO present FROM platform.leaders l WHERE l.name = p_name;
    IF NOT FOUND THEN
        INSERT INTO platform.leaders (name, term, holder, expires_at, began_at, host, pid)
        VALUES (p_name, 0, p_holder, '-infinity', clock_timestamp(), p_host, p_pid)
        ON CONFLICT DO NOTHING;
    ELSIF present.holder <> p_holder AND present.expires_at > clock_timestamp() THEN
        RETURN QUERY SELECT NULL::bigint,
            extract(epoch FROM present.expires_at - clock_timestamp())::double precision;
        RETURN;
    END IF;
    SELECT * INTO present FROM platform.leaders l WHERE l.name = p_name FOR UPDATE SKIP LOCKED;
    IF FOUND AND (present.holder = p_holder OR present.expires_at <= clock_timestamp()) THEN
        UPDATE platform.leaders l
        SET term = l.term + 1, holder = p_holder, host = p_host, pid = p_pid,
            began_at = clock_timestamp(),
            expires_at = clock_timestamp() + make_interval(secs => p_seconds)
        WHERE l.name = p_name
        RETURNING l.term INTO present.term;
        RETURN QUERY SELECT present.term, p_seconds;
    ELSE
        RETURN QUERY SELECT NULL::bigint, NULL::double precision;
    END IF;
END
$$;

-- A term that has run out is over, even if nobody has taken it yet.
CREATE FUNCTION platform.extend_term(
    p_name text, p_term bigint, p_holder uuid, p_seconds double precision
) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    UPDATE platform.leaders
    SET expires_at = clock_timestamp() + make_interval(secs => p_seconds)
    WHERE name = p_name AND term = p_term AND holder = p_holder AND expires_at > clock_timestamp();
    RETURN FOUND;
END
$$;

CREATE FUNCTION platform.release_term(p_name text, p_term bigint, p_holder uuid) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    UPDATE platform.leaders SET expires_at = '-infinity'
    WHERE name = p_name AND term = p_term AND holder = p_holder;
    IF FOUND THEN
        PERFORM pg_notify('troupe_' || p_name, 'released');
    END IF;
END
$$;

-- The fence. True: the term is in force, and stays so until the caller's transaction ends.
CREATE FUNCTION platform.hold_term(p_name text, p_term bigint, p_holder uuid) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    PERFORM FROM platform.leaders
    WHERE name = p_name AND term = p_term AND holder = p_holder AND expires_at > clock_timestamp()
    FOR KEY SHARE;
    RETURN FOUND;
END
$$;

-- ---- schedules and their slots

CREATE TABLE platform.schedules (
    tenant_id       uuid NOT NULL REFERENCES platform.tenants ON DELETE CASCADE,
    schedule_id     uuid NOT NULL,
    name            text NOT NULL CHECK (name = btrim(name) AND length(name) BETWEEN 1 AND 100),
    group_name      text NOT NULL CHECK (group_name ~ '^[a-z][a-z0-9_]{0,39}$'),
    kind            text NOT NULL CHECK (length(kind) BETWEEN 1 AND 100),
    arguments       jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(arguments) = 'object'),
    cron            text NOT NULL CHECK (length(cron) BETWEEN 1 AND 200),
    zone            text NOT NULL CHECK (length(zone) BETWEEN 1 AND 100),
    policy          text NOT NULL CHECK (policy IN ('skip', 'coalesce', 'catch_up')),
    grace_seconds   double precision NOT NULL CHECK (grace_seconds >= 1),
    catch_up_limit  integer NOT NULL CHECK (catch_up_limit BETWEEN 1 AND 1000),
    priority        smallint NOT NULL,
    max_attempts    integer NOT NULL CHECK (max_attempts BETWEEN 1 AND 1000),
    enabled         boolean NOT NULL,
    version         bigint NOT NULL DEFAULT 1,       -- of what people wrote: grows with each change
    created_at      timestamptz NOT NULL DEFAULT now(),
    changed_at      timestamptz NOT NULL DEFAULT now(),
    -- What the scheduler knows. All slots up to settled_until have their row, later ones have none.
    settled_until   timestamptz NOT NULL DEFAULT now(),
    -- When to look again: at its next slot, and once a day in case its zone has got new rules.
    due_at          timestamptz NOT NULL DEFAULT now(),
    caught_up       integer NOT NULL DEFAULT 0,      -- jobs made for missed slots of one outage
    problem         text,                            -- why the last look failed; NULL: it did not
    PRIMARY KEY (tenant_id, schedule_id),
    UNIQUE (tenant_id, name)
) WITH (fillfactor = 80);
CREATE INDEX schedules_due ON platform.schedules (due_at) WHERE enabled;

CREATE TABLE platform.schedule_slots (
    tenant_id    uuid NOT NULL,
    schedule_id  uuid NOT NULL,
    slot         timestamptz NOT NULL,
    outcome      text NOT NULL CHECK (outcome IN ('enqueued', 'skipped', 'coalesced')),
    job_id       uuid,
    term         bigint NOT NULL,                    -- of the leader that wrote it
    written_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, schedule_id, slot),
    FOREIGN KEY (tenant_id, schedule_id) REFERENCES platform.schedules ON DELETE CASCADE,
    CHECK ((outcome = 'enqueued') = (job_id IS NOT NULL))
);
CREATE INDEX schedule_slots_by_age ON platform.schedule_slots (written_at);

DO $$
DECLARE
    tenant_table regclass;
BEGIN
    FOREACH tenant_table IN ARRAY ARRAY['platform.schedules', 'platform.schedule_slots']::regclass[]
    LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', tenant_table);
        EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', tenant_table);
        EXECUTE format(
            'CREATE POLICY tenant ON %s USING (tenant_id = platform.current_tenant())'
            ' WITH CHECK (tenant_id = platform.current_tenant())', tenant_table);
        EXECUTE format(
            'CREATE POLICY system_reads ON %s FOR SELECT TO troupe_system USING (true)',
            tenant_table);
    END LOOP;
END
$$;
CREATE POLICY system_deletes ON platform.schedule_slots FOR DELETE TO troupe_system USING (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON platform.schedules TO troupe_runtime;
GRANT SELECT, INSERT ON platform.schedule_slots TO troupe_runtime;
GRANT SELECT ON platform.schedules TO troupe_system;
GRANT SELECT, DELETE ON platform.schedule_slots TO troupe_system;

-- Wakes the scheduler when the next slot may have become an earlier one. Its own updates name other
-- columns.
CREATE FUNCTION platform.announce_schedules() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
BEGIN
    PERFORM pg_notify('troupe_schedules', 'changed');
    RETURN NULL;
END
$$;
CREATE TRIGGER announce AFTER INSERT OR UPDATE OF cron, zone, enabled ON platform.schedules
    FOR EACH STATEMENT EXECUTE FUNCTION platform.announce_schedules();

-- ---- doors: what the scheduler does for all tenants at once

-- Schedules to look at now, those that have waited longest first.
CREATE FUNCTION platform.due_schedules(p_limit integer)
    RETURNS TABLE (tenant_id uuid, schedule_id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
AS $$
    SELECT s.tenant_id, s.schedule_id
    FROM platform.schedules s JOIN platform.tenants t ON t.tenant_id = s.tenant_id
    WHERE s.enabled AND s.due_at <= clock_timestamp() AND t.state = 'active'
    ORDER BY s.due_at LIMIT p_limit
$$;

-- When to look again, and how long until then; no row if there is nothing to look at.
CREATE FUNCTION platform.next_schedule()
    RETURNS TABLE (due_at timestamptz, seconds double precision)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
AS $$
    SELECT s.due_at, extract(epoch FROM s.due_at - clock_timestamp())::double precision
    FROM platform.schedules s JOIN platform.tenants t ON t.tenant_id = s.tenant_id
    WHERE s.enabled AND t.state = 'active'
    ORDER BY s.due_at LIMIT 1
$$;

-- Forgets slots that were written more than so many seconds ago, at most p_limit; returns how many.
CREATE FUNCTION platform.forget_slots(p_seconds double precision, p_limit integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    forgotten  integer;
BEGIN
    DELETE FROM platform.schedule_slots s
    USING (
        SELECT o.tenant_id, o.schedule_id, o.slot FROM platform.schedule_slots o
        WHERE o.written_at < now() - make_interval(secs => p_seconds)
        ORDER BY o.written_at LIMIT p_limit
    ) old
    WHERE s.tenant_id = old.tenant_id AND s.schedule_id = old.schedule_id AND s.slot = old.slot;
    GET DIAGNOSTICS forgotten = ROW_COUNT;
    RETURN forgotten;
END
$$;

DO $$
DECLARE
    door regprocedure;
BEGIN
    FOREACH door IN ARRAY ARRAY[
        'platform.take_term(text, uuid, double precision, text, integer)',
        'platform.extend_term(text, bigint, uuid, double precision)',
        'platform.release_term(text, bigint, uuid)',
        'platform.hold_term(text, bigint, uuid)',
        'platform.due_schedules(integer)',
        'platform.next_schedule()',
        'platform.forget_slots(double precision, integer)'
    ]::regprocedure[] LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', door);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO troupe_runtime', door);
        EXECUTE format('ALTER FUNCTION %s OWNER TO troupe_system', door);
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION platform.announce_schedules() FROM PUBLIC;
