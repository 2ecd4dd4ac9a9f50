-- Durable jobs: what is to be done, who does it, and who is alive. docs: troupe/platform/jobs.
--
-- A claim makes a job the property of one *attempt*, named by a fencing token: a number from a
-- sequence, so that it never repeats, whatever happens to the attempt counter. Who takes a job away
-- from an attempt locks its row FOR UPDATE first; an attempt that is about to commit something holds
-- the row FOR KEY SHARE until it has. So at most one attempt can commit, while progress reports and
-- cancel requests (which are weaker locks) wait for nobody.
--
-- Heartbeats are per process, in a table of a few rows of their own: a heartbeat in the jobs table
-- would rewrite every running job every few seconds. Only the database's clock counts.

CREATE SEQUENCE platform.fencing_tokens AS bigint NO CYCLE;

CREATE TABLE platform.processes (
    process_id    uuid PRIMARY KEY,
    group_name    text NOT NULL,
    host          text NOT NULL,
    pid           integer NOT NULL,
    lease         interval NOT NULL CHECK (lease > interval '0'),
    started_at    timestamptz NOT NULL DEFAULT now(),
    -- Not indexed, and room is left in each page: a heartbeat stays a heap-only update.
    heartbeat_at  timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

CREATE TABLE platform.jobs (
    tenant_id            uuid NOT NULL REFERENCES platform.tenants ON DELETE CASCADE,
    job_id               uuid NOT NULL,
    group_name           text NOT NULL CHECK (group_name ~ '^[a-z][a-z0-9_]{0,39}$'),
    kind                 text NOT NULL CHECK (length(kind) BETWEEN 1 AND 100),
    state                text NOT NULL DEFAULT 'available'
        CHECK (state IN ('available', 'running', 'done', 'failed', 'cancelled', 'dead')),
    priority             smallint NOT NULL DEFAULT 0,         -- higher first
    run_at               timestamptz NOT NULL DEFAULT now(),  -- not before
    arguments            jsonb NOT NULL DEFAULT '{}',
    unique_key           text CHECK (length(unique_key) BETWEEN 1 AND 255),
    idempotency_key      text CHECK (length(idempotency_key) BETWEEN 1 AND 255),
    attempt              integer NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    max_attempts         integer NOT NULL CHECK (max_attempts BETWEEN 1 AND 1000),
    fencing_token        bigint,                              -- of the last claim
    process_id           uuid,                                -- who runs it
    cancel_requested_at  timestamptz,
    progress_done        bigint,
    progress_total       bigint,
    progress_phase       text,
    progress_message     text,
    progress_detail      jsonb NOT NULL DEFAULT '{}',
    checkpoint           jsonb,
    error_kind           text,                                -- of the last failure
    error_message        text,                                -- one line for a person
    result               jsonb,
    created_at           timestamptz NOT NULL DEFAULT now(),
    started_at           timestamptz,                         -- of the last attempt
    finished_at          timestamptz,
    PRIMARY KEY (tenant_id, job_id),
    CHECK ((state = 'running') = (process_id IS NOT NULL)),
    CHECK ((state IN ('available', 'running')) = (finished_at IS NULL))
) WITH (fillfactor = 70);

-- What can be claimed, tenant by tenant, best first.
CREATE INDEX jobs_due ON platform.jobs (group_name, tenant_id, priority DESC, run_at, job_id, kind)
    WHERE state = 'available';
-- Who runs what: for rescue and for requests to cancel.
CREATE INDEX jobs_running ON platform.jobs (process_id) WHERE state = 'running';
-- At most one live job of a kind with the same unique key; at most one ever with an idempotency key.
CREATE UNIQUE INDEX jobs_unique_key ON platform.jobs (tenant_id, kind, unique_key)
    WHERE unique_key IS NOT NULL AND state IN ('available', 'running');
CREATE UNIQUE INDEX jobs_idempotency_key ON platform.jobs (tenant_id, kind, idempotency_key)
    WHERE idempotency_key IS NOT NULL;

ALTER TABLE platform.jobs ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.jobs FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON platform.jobs
    USING (tenant_id = platform.current_tenant())
    WITH CHECK (tenant_id = platform.current_tenant());
CREATE POLICY system_reads ON platform.jobs FOR SELECT TO troupe_system USING (true);
CREATE POLICY system_updates ON platform.jobs FOR UPDATE TO troupe_system USING (true);
GRANT SELECT, INSERT, UPDATE ON platform.jobs TO troupe_runtime;
GRANT SELECT, UPDATE ON platform.jobs TO troupe_system;
GRANT SELECT, INSERT, UPDATE, DELETE ON platform.processes TO troupe_system;
GRANT USAGE ON SEQUENCE platform.fencing_tokens TO troupe_system;

-- One notification per statement and group, however many jobs it enqueued; jobs for later are found
-- by polling. Equal notifications of one transaction are merged by PostgreSQL.
CREATE FUNCTION platform.announce_jobs() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
BEGIN
    PERFORM pg_notify('troupe_jobs_' || g.group_name, 'available')
    FROM (SELECT DISTINCT n.group_name FROM added n
          WHERE n.state = 'available' AND n.run_at <= now()) g;
    RETURN NULL;
END
$$;
CREATE TRIGGER announce AFTER INSERT ON platform.jobs
    REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION platform.announce_jobs();

-- ---- doors: the few things that a process does for all tenants at once

CREATE FUNCTION platform.register_process(
    p_process uuid, p_group text, p_host text, p_pid integer, p_lease_seconds double precision
) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog
AS $$
    INSERT INTO platform.processes (process_id, group_name, host, pid, lease)
    VALUES (p_process, p_group, p_host, p_pid, make_interval(secs => p_lease_seconds))
$$;

-- Extends the lease of everything that the process runs. False: it was declared dead, and nothing
-- that it runs belongs to it any more.
CREATE FUNCTION platform.extend_lease(p_process uuid) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    UPDATE platform.processes SET heartbeat_at = now() WHERE process_id = p_process;
    RETURN FOUND;
END
$$;

-- Up to p_wanted jobs for a process: in turns between tenants, starting behind p_after, and within a
-- tenant by priority and age; of each kind no more than the limit that stands beside it.
--
-- The first loop hops from tenant to tenant along the index, so a tenant with 100,000 jobs costs no
-- more than one with a single job. Statistics of a queue are never right for long, so the planner is
-- not left the choice of reading the whole table. The process's own row is locked against being declared dead: no
-- job can be claimed for a process that nobody would miss.
CREATE FUNCTION platform.claim_jobs(
    p_group text, p_process uuid, p_kinds text[], p_limits integer[], p_wanted integer, p_after uuid
) RETURNS SETOF platform.jobs
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog SET enable_seqscan = off
AS $$
DECLARE
    nobody   CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
    turns    uuid[] := '{}';
    latest   uuid := p_after;
    wrapped  boolean := false;
    share    integer;
BEGIN
    PERFORM FROM platform.processes WHERE process_id = p_process FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    WHILE cardinality(turns) < p_wanted LOOP
        SELECT j.tenant_id INTO latest FROM platform.jobs j
        WHERE j.group_name = p_group AND j.state = 'available' AND j.tenant_id > latest
          AND j.run_at <= now() AND j.kind = ANY (p_kinds)
        ORDER BY j.group_name, j.tenant_id LIMIT 1;
        IF NOT FOUND AND NOT wrapped THEN
            wrapped := true;
            latest := nobody;
        ELSIF NOT FOUND OR (wrapped AND latest > p_after) THEN
            EXIT;
        ELSE
            turns := turns || latest;
        END IF;
    END LOOP;
    share := ceil(p_wanted / greatest(cardinality(turns), 1)::numeric);

    RETURN QUERY
    WITH due AS MATERIALIZED (
        SELECT best.*, t.turn
        FROM unnest(turns) WITH ORDINALITY AS t (tenant_id, turn)
        CROSS JOIN LATERAL (
            SELECT j.tenant_id, j.job_id, j.kind, j.priority, j.run_at FROM platform.jobs j
            WHERE j.group_name = p_group AND j.state = 'available' AND j.tenant_id = t.tenant_id
              AND j.run_at <= now() AND j.kind = ANY (p_kinds)
            ORDER BY j.priority DESC, j.run_at, j.job_id
            LIMIT share FOR UPDATE SKIP LOCKED
        ) best
    ), placed AS (
        SELECT d.*, row_number() OVER (
            PARTITION BY d.tenant_id ORDER BY d.priority DESC, d.run_at, d.job_id) AS place
        FROM due d
    ), counted AS (
        SELECT p.*, row_number() OVER (PARTITION BY p.kind ORDER BY p.place, p.turn) AS of_kind
        FROM placed p
    ), picked AS (
        SELECT c.tenant_id, c.job_id
        FROM counted c JOIN unnest(p_kinds, p_limits) AS k (kind, free) ON k.kind = c.kind
        WHERE c.of_kind <= k.free
        ORDER BY c.place, c.turn LIMIT p_wanted
    )
    UPDATE platform.jobs j
    SET state = 'running', process_id = p_process, attempt = j.attempt + 1, started_at = now(),
        fencing_token = nextval('platform.fencing_tokens')
    FROM picked
    WHERE j.tenant_id = picked.tenant_id AND j.job_id = picked.job_id
    RETURNING j.*;
END
$$;

-- What a process runs, as the database sees it, and what of it shall be cancelled.
CREATE FUNCTION platform.jobs_of_process(p_process uuid)
    RETURNS TABLE (tenant_id uuid, job_id uuid, fencing_token bigint, cancel_requested boolean)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
AS $$
    SELECT tenant_id, job_id, fencing_token, cancel_requested_at IS NOT NULL
    FROM platform.jobs WHERE state = 'running' AND process_id = p_process
$$;

-- Gives back everything that a process runs, without counting the attempts, and forgets the process.
CREATE FUNCTION platform.release_process(p_process uuid) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    released  integer;
    groups    text[];
BEGIN
    WITH held AS (
        SELECT j.tenant_id, j.job_id FROM platform.jobs j
        WHERE j.state = 'running' AND j.process_id = p_process
        ORDER BY j.tenant_id, j.job_id FOR UPDATE
    ), freed AS (
        UPDATE platform.jobs j
        SET state = CASE WHEN j.cancel_requested_at IS NULL THEN 'available' ELSE 'cancelled' END,
            finished_at = CASE WHEN j.cancel_requested_at IS NULL THEN NULL ELSE now() END,
            process_id = NULL, attempt = j.attempt - 1, run_at = now()
        FROM held WHERE j.tenant_id = held.tenant_id AND j.job_id = held.job_id
        RETURNING j.group_name
    )
    SELECT count(*), coalesce(array_agg(DISTINCT f.group_name), '{}')
    INTO released, groups FROM freed f;
    DELETE FROM platform.processes WHERE process_id = p_process;
    PERFORM pg_notify('troupe_jobs_' || g, 'available') FROM unnest(groups) g;
    RETURN released;
END
$$;

-- Declares processes dead whose heartbeat is older than their lease, and makes the jobs of all dead
-- processes available again; the attempt counts, since the job may be what killed the process.
--
-- Just after PostgreSQL itself was started every heartbeat is old: for the length of one lease
-- nobody is declared dead. A job whose row is locked is being committed by its attempt; it is left
-- for the next round.
CREATE FUNCTION platform.rescue_jobs(p_limit integer)
    RETURNS TABLE (tenant_id uuid, job_id uuid, kind text, attempt integer, state text)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
#variable_conflict use_column
DECLARE
    dead  uuid[];
BEGIN
    DELETE FROM platform.processes
    WHERE process_id IN (
        SELECT p.process_id FROM platform.processes p
        WHERE p.heartbeat_at + p.lease < now() AND pg_postmaster_start_time() + p.lease < now()
        FOR UPDATE SKIP LOCKED
    );
    -- First who is dead, then what was theirs: were it one statement, a job that a new process has
    -- claimed meanwhile could look like an orphan, because that process is not in the snapshot.
    SELECT array_agg(DISTINCT j.process_id) INTO dead FROM platform.jobs j
    WHERE j.state = 'running'
      AND NOT EXISTS (SELECT FROM platform.processes p WHERE p.process_id = j.process_id);
    RETURN QUERY
    WITH orphans AS (
        SELECT j.tenant_id, j.job_id FROM platform.jobs j
        WHERE j.state = 'running' AND j.process_id = ANY (dead)
        LIMIT p_limit FOR UPDATE SKIP LOCKED
    ), rescued AS (
        UPDATE platform.jobs j
        SET state = CASE WHEN j.cancel_requested_at IS NOT NULL THEN 'cancelled'
                         WHEN j.attempt >= j.max_attempts THEN 'dead' ELSE 'available' END,
            finished_at = CASE WHEN j.cancel_requested_at IS NOT NULL
                                 OR j.attempt >= j.max_attempts THEN now() END,
            process_id = NULL, run_at = now(),
            error_kind = 'ProcessDied', error_message = 'The process that ran the job died.'
        FROM orphans o WHERE j.tenant_id = o.tenant_id AND j.job_id = o.job_id
        RETURNING j.tenant_id, j.job_id, j.kind, j.attempt, j.state, j.group_name
    ), told AS (
        SELECT pg_notify('troupe_jobs_' || g.group_name, 'available')
        FROM (SELECT DISTINCT r.group_name FROM rescued r) g
    )
    SELECT r.tenant_id, r.job_id, r.kind, r.attempt, r.state
    FROM rescued r, (SELECT count(*) FROM told) AS all_told;
END
$$;

DO $$
DECLARE
    door regprocedure;
BEGIN
    FOREACH door IN ARRAY ARRAY[
        'platform.register_process(uuid, text, text, integer, double precision)',
        'platform.extend_lease(uuid)',
        'platform.claim_jobs(text, uuid, text[], integer[], integer, uuid)',
        'platform.jobs_of_process(uuid)',
        'platform.release_process(uuid)',
        'platform.rescue_jobs(integer)'
    ]::regprocedure[] LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', door);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO troupe_runtime', door);
        EXECUTE format('ALTER FUNCTION %s OWNER TO troupe_system', door);
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION platform.announce_jobs() FROM PUBLIC;
