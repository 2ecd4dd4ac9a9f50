-- Jobs again, in the form that many of them need: only what lives stays in platform.jobs.
--
--   platform.jobs          available and running jobs; found by key, never searched
--   platform.job_tickets   one narrow row for each job that can be claimed now; three tables in turn
--   platform.job_delayed   the same for jobs whose time has not come
--   platform.job_history   finished jobs, one partition a day; retention drops partitions
--   platform.job_keys      which job an idempotency key made; lives as long as the job is remembered
--   platform.job_kinds     what is known of a kind everywhere: whether it is paused; the lock under
--                          which limits across processes are granted
--   platform.job_places    running jobs that count towards a limit across processes
--   platform.job_cancellations   running jobs that somebody wants to stop
--   platform.all_jobs      jobs and history together, for people
--
-- No index of platform.jobs knows anything that a claim or an attempt changes, so that those changes
-- are heap-only: half of each page is left free for them. Hence the two small tables above, and hence
-- the jobs of a dead process are found by reading all live ones.
--
-- Why tickets. A claim searches for the best job, and an index keeps an entry for every job that was
-- ever claimed until vacuum removes it, which a long transaction anywhere in the database prevents: a
-- queue searched in its own table slows down with every job. Tickets are searched instead, and the
-- table that holds them is changed for an empty one as soon as it has grown; the old one is truncated,
-- which no snapshot prevents. A ticket is a hint: a claim deletes it and then looks whether the job
-- itself is still available at that time. So whoever ends or moves a waiting job need not find its
-- ticket.
--
-- Lock order: process, kinds (by name), tickets, jobs. Nobody who holds a job's row takes a ticket.

-- ---- tables

CREATE TABLE platform.job_kinds (
    group_name  text NOT NULL CHECK (group_name ~ '^[a-z][a-z0-9_]{0,39}$'),
    kind        text NOT NULL CHECK (length(kind) BETWEEN 1 AND 100),
    paused_at   timestamptz,
    PRIMARY KEY (group_name, kind)
);

CREATE TABLE platform.job_keys (
    tenant_id        uuid NOT NULL,
    kind             text NOT NULL,
    idempotency_key  text NOT NULL CHECK (length(idempotency_key) BETWEEN 1 AND 255),
    job_id           uuid NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, kind, idempotency_key)
);
CREATE INDEX job_keys_by_age ON platform.job_keys (created_at);

CREATE TABLE platform.job_places (
    tenant_id      uuid NOT NULL,
    group_name     text NOT NULL,
    kind           text NOT NULL,
    fencing_token  bigint NOT NULL,
    PRIMARY KEY (tenant_id, group_name, kind, fencing_token)
);
CREATE INDEX job_places_of_kind ON platform.job_places (group_name, kind);

CREATE TABLE platform.job_cancellations (
    tenant_id      uuid NOT NULL,
    fencing_token  bigint NOT NULL,
    process_id     uuid NOT NULL,
    PRIMARY KEY (tenant_id, fencing_token)
);
CREATE INDEX job_cancellations_of_process ON platform.job_cancellations (process_id);

CREATE TABLE platform.job_tickets (
    ring        smallint NOT NULL,
    group_name  text NOT NULL,
    kind        text NOT NULL,
    tenant_id   uuid NOT NULL,
    priority    smallint NOT NULL,
    run_at      timestamptz NOT NULL,
    job_id      uuid NOT NULL
) PARTITION BY LIST (ring);
CREATE TABLE platform.job_tickets_0 PARTITION OF platform.job_tickets FOR VALUES IN (0);
CREATE TABLE platform.job_tickets_1 PARTITION OF platform.job_tickets FOR VALUES IN (1);
CREATE TABLE platform.job_tickets_2 PARTITION OF platform.job_tickets FOR VALUES IN (2);
-- Lane by lane (group, kind, tenant), best first.
CREATE INDEX job_tickets_lanes ON platform.job_tickets
    (group_name, kind, tenant_id, priority DESC, run_at, job_id);

-- Which of the three takes new tickets.
CREATE TABLE platform.job_ring (
    single   boolean PRIMARY KEY DEFAULT true CHECK (single),
    current  smallint NOT NULL CHECK (current BETWEEN 0 AND 2)
);
INSERT INTO platform.job_ring (current) VALUES (0);

CREATE TABLE platform.job_delayed (
    group_name  text NOT NULL,
    kind        text NOT NULL,
    tenant_id   uuid NOT NULL,
    priority    smallint NOT NULL,
    run_at      timestamptz NOT NULL,
    job_id      uuid NOT NULL
);
CREATE INDEX job_delayed_due ON platform.job_delayed (group_name, run_at);

-- The columns of platform.jobs, in its order.
CREATE TABLE platform.job_history (
    LIKE platform.jobs,
    PRIMARY KEY (tenant_id, job_id, finished_at)
) PARTITION BY RANGE (finished_at);
-- Catches what finishes on a day for which nobody has made a partition.
CREATE TABLE platform.job_history_default PARTITION OF platform.job_history DEFAULT;

ALTER TABLE platform.processes
    ADD COLUMN dead_at  timestamptz,                      -- its jobs are being given back
    ADD COLUMN waits    boolean NOT NULL DEFAULT false;   -- it has nothing to do: notify it

-- ---- doors that make partitions; the owner's, since they are about tables and see no rows

-- Makes partitions of the history from today until p_ahead days later, and drops those whose last day
-- lies more than p_keep days back. Says how many it made and dropped. What is locked is left for the
-- next time.
CREATE FUNCTION platform.tend_job_history(p_keep integer, p_ahead integer)
    RETURNS TABLE (made integer, dropped integer)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' SET timezone = 'UTC'
AS $$
DECLARE
    today  CONSTANT date := now()::date;
    name   text;
BEGIN
    made := 0;
    dropped := 0;
    -- Two processes may come here at once; the second has nothing left to do.
    PERFORM pg_advisory_xact_lock(hashtextextended('troupe.job_history', 0));
    FOR i IN 0..p_ahead LOOP
        name := 'job_history_y' || to_char(today + i, 'YYYYMMDD');
        CONTINUE WHEN to_regclass('platform.' || name) IS NOT NULL;
        BEGIN
            EXECUTE format('CREATE TABLE platform.%I (LIKE platform.job_history INCLUDING ALL)', name);
            PERFORM data.guard_table('platform', name);
            EXECUTE format('ALTER TABLE platform.job_history ATTACH PARTITION platform.%I'
                           ' FOR VALUES FROM (%L) TO (%L)', name, today + i, today + i + 1);
            made := made + 1;
        EXCEPTION WHEN check_violation OR lock_not_available THEN
            -- The default partition already has jobs of that day, or somebody is in the way.
            CONTINUE;
        END;
    END LOOP;
    FOR name IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'platform.job_history'::regclass
          AND c.relname ~ '^job_history_y[0-9]{8}$'
          AND to_date(right(c.relname, 8), 'YYYYMMDD') < today - p_keep
    LOOP
        BEGIN
            EXECUTE format('DROP TABLE platform.%I', name);
            dropped := dropped + 1;
        EXCEPTION WHEN lock_not_available THEN
            CONTINUE;
        END;
    END LOOP;
    RETURN NEXT;
END
$$;
REVOKE ALL ON FUNCTION platform.tend_job_history(integer, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION platform.tend_job_history(integer, integer) TO troupe_runtime;
SELECT platform.tend_job_history(365, 7);

-- ---- what was there

DROP TRIGGER announce ON platform.jobs;
DROP FUNCTION platform.announce_jobs();
DROP FUNCTION platform.claim_jobs(text, uuid, text[], integer[], integer, uuid);
DROP FUNCTION platform.jobs_of_process(uuid);
DROP FUNCTION platform.release_process(uuid);
DROP FUNCTION platform.rescue_jobs(integer);
DROP FUNCTION platform.extend_lease(uuid);
DROP INDEX platform.jobs_due;
DROP INDEX platform.jobs_idempotency_key;
DROP INDEX platform.jobs_unique_key;

-- FORCE subjects the owner to the policies, too; the migration has to see all rows.
ALTER TABLE platform.jobs NO FORCE ROW LEVEL SECURITY;
INSERT INTO platform.job_keys (tenant_id, kind, idempotency_key, job_id, created_at)
SELECT tenant_id, kind, idempotency_key, job_id, created_at FROM platform.jobs
WHERE idempotency_key IS NOT NULL;
INSERT INTO platform.job_history SELECT * FROM platform.jobs WHERE finished_at IS NOT NULL;
DELETE FROM platform.jobs WHERE finished_at IS NOT NULL;
INSERT INTO platform.job_delayed (group_name, kind, tenant_id, priority, run_at, job_id)
SELECT group_name, kind, tenant_id, priority, run_at, job_id FROM platform.jobs
WHERE state = 'available';
ALTER TABLE platform.jobs FORCE ROW LEVEL SECURITY;

-- A tenant's existence is checked once per statement (announce_jobs), not once per row; its end takes
-- its jobs along (forget_jobs). Checks are made anew at every change of a row; those about what never
-- changes are the business of `NewJob`.
DROP INDEX platform.jobs_running;
ALTER TABLE platform.jobs
    DROP CONSTRAINT jobs_tenant_id_fkey,
    DROP CONSTRAINT jobs_group_name_check,
    DROP CONSTRAINT jobs_kind_check,
    DROP CONSTRAINT jobs_state_check,
    DROP CONSTRAINT jobs_unique_key_check,
    DROP CONSTRAINT jobs_idempotency_key_check,
    DROP CONSTRAINT jobs_attempt_check,
    DROP CONSTRAINT jobs_max_attempts_check,
    DROP CONSTRAINT jobs_check1,
    ADD CONSTRAINT jobs_live CHECK (state IN ('available', 'running')),
    ADD COLUMN limited boolean NOT NULL DEFAULT false;   -- has a place in platform.job_places
ALTER TABLE platform.job_history ADD COLUMN limited boolean NOT NULL DEFAULT false;
ALTER TABLE platform.jobs SET (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0.0, autovacuum_analyze_threshold = 50000);

-- At most one live job of a kind with the same unique key.
CREATE UNIQUE INDEX jobs_unique_key ON platform.jobs (tenant_id, kind, unique_key)
    WHERE unique_key IS NOT NULL;

CREATE VIEW platform.all_jobs WITH (security_invoker = true) AS
    SELECT * FROM platform.jobs UNION ALL SELECT * FROM platform.job_history;

-- ---- who sees what

ALTER TABLE platform.job_history ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.job_history FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON platform.job_history
    USING (tenant_id = platform.current_tenant())
    WITH CHECK (tenant_id = platform.current_tenant());
CREATE POLICY system ON platform.job_history TO troupe_system USING (true) WITH CHECK (true);
SELECT data.guard_table('platform', 'job_history_default');
ALTER TABLE platform.job_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.job_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON platform.job_keys
    USING (tenant_id = platform.current_tenant())
    WITH CHECK (tenant_id = platform.current_tenant());
CREATE POLICY system ON platform.job_keys TO troupe_system USING (true) WITH CHECK (true);
DROP POLICY system_reads ON platform.jobs;
DROP POLICY system_updates ON platform.jobs;
CREATE POLICY system ON platform.jobs TO troupe_system USING (true) WITH CHECK (true);

GRANT SELECT ON platform.job_history, platform.all_jobs TO troupe_runtime;
GRANT SELECT, INSERT, DELETE ON platform.job_keys TO troupe_runtime;
GRANT SELECT, INSERT, UPDATE, DELETE ON platform.jobs, platform.job_history, platform.job_keys,
    platform.job_kinds, platform.job_tickets, platform.job_delayed, platform.job_places,
    platform.job_cancellations TO troupe_system;
GRANT SELECT, UPDATE ON platform.job_ring TO troupe_system;
GRANT UPDATE (version) ON platform.tenants TO troupe_system;  -- what locking a row takes
GRANT SELECT, INSERT, TRUNCATE ON platform.job_tickets_0, platform.job_tickets_1,
    platform.job_tickets_2 TO troupe_system;

-- ---- enqueueing

-- Jobs that were inserted get tickets. A process that waits for work is told, once per statement and
-- group; one that is busy looks for more by itself, so that a loaded system notifies nobody (every
-- notification takes a lock that all committing transactions share).
CREATE FUNCTION platform.announce_jobs() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    tenant  uuid;
BEGIN
    FOR tenant IN SELECT DISTINCT n.tenant_id FROM added n LOOP
        PERFORM FROM platform.tenants t WHERE t.tenant_id = tenant FOR KEY SHARE;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'there is no such tenant' USING ERRCODE = 'foreign_key_violation';
        END IF;
    END LOOP;
    INSERT INTO platform.job_tickets (ring, group_name, kind, tenant_id, priority, run_at, job_id)
    SELECT r.current, n.group_name, n.kind, n.tenant_id, n.priority, n.run_at, n.job_id
    FROM platform.job_ring r, added n WHERE n.run_at <= now();
    IF FOUND THEN
        PERFORM platform.wake_runners(array_agg(DISTINCT n.group_name)) FROM added n;
    END IF;
    INSERT INTO platform.job_delayed (group_name, kind, tenant_id, priority, run_at, job_id)
    SELECT n.group_name, n.kind, n.tenant_id, n.priority, n.run_at, n.job_id
    FROM added n WHERE n.run_at > now();
    RETURN NULL;
END
$$;

CREATE FUNCTION platform.wake_runners(p_groups text[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pg_notify('troupe_jobs_' || g, 'available') FROM unnest(p_groups) g
    WHERE EXISTS (SELECT FROM platform.processes p WHERE p.group_name = g AND p.waits);
END
$$;

CREATE TRIGGER announce AFTER INSERT ON platform.jobs
    REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION platform.announce_jobs();

-- What a foreign key would do, for the tables that are too busy to have one.
CREATE FUNCTION platform.forget_jobs() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM platform.jobs WHERE tenant_id = OLD.tenant_id;
    DELETE FROM platform.job_history WHERE tenant_id = OLD.tenant_id;
    DELETE FROM platform.job_keys WHERE tenant_id = OLD.tenant_id;
    DELETE FROM platform.job_tickets WHERE tenant_id = OLD.tenant_id;
    DELETE FROM platform.job_delayed WHERE tenant_id = OLD.tenant_id;
    DELETE FROM platform.job_places WHERE tenant_id = OLD.tenant_id;
    DELETE FROM platform.job_cancellations WHERE tenant_id = OLD.tenant_id;
    RETURN NULL;
END
$$;
CREATE TRIGGER forget_jobs AFTER DELETE ON platform.tenants
    FOR EACH ROW EXECUTE FUNCTION platform.forget_jobs();

-- ---- claiming

-- The two that take rows by their place; the caller has locked them, so that they stay there. With all
-- other kinds of scans forbidden, what they read does not depend on statistics.
CREATE FUNCTION platform.promote_delayed(p_places tid[]) RETURNS void
    LANGUAGE sql SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off SET enable_indexscan = off SET enable_bitmapscan = off
AS $$
    WITH come AS (
        DELETE FROM platform.job_delayed d WHERE d.ctid = ANY (p_places) RETURNING d.*
    )
    INSERT INTO platform.job_tickets (ring, group_name, kind, tenant_id, priority, run_at, job_id)
    SELECT r.current, c.group_name, c.kind, c.tenant_id, c.priority, c.run_at, c.job_id
    FROM come c, platform.job_ring r
$$;

CREATE FUNCTION platform.use_tickets(p_ring integer, p_places tid[]) RETURNS void
    LANGUAGE sql SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off SET enable_indexscan = off SET enable_bitmapscan = off
AS $$
    DELETE FROM platform.job_tickets t WHERE t.ring = p_ring AND t.ctid = ANY (p_places)
$$;

-- Up to p_wanted jobs for a process: in turns between tenants, starting behind p_after, and within a
-- tenant by priority and age. Beside each kind stand how many this process has room for, and how many
-- may run everywhere (p_limits) and of one tenant (p_tenant_limits); NULL is no limit.
--
-- The loop hops from tenant to tenant along the index, so a tenant with 100,000 jobs costs no more
-- than one with a single job. Statistics of a queue are never right for long: a table that was empty
-- when it was last looked at is believed to have one row, and is then joined by reading all of it for
-- each of the others. So no statement here joins jobs or tickets with anything: jobs are named by
-- tenant and a list, tickets by their places, and nothing is left to choose. The process's own row is locked against being declared
-- dead: no job can be claimed for a process that nobody would miss. Limits are counted under a lock on
-- the kind, or two processes would both see the last free place.
--
-- p_waits: should there be nothing, note that the process wants to be notified.
--
-- What an attempt that came before has left (checkpoint, progress, error) is one object, and NULL for
-- nearly all jobs: handing out wide rows costs more than finding them.
CREATE FUNCTION platform.claim_jobs(
    p_group text, p_process uuid, p_kinds text[], p_room integer[], p_limits integer[],
    p_tenant_limits integer[], p_wanted integer, p_after uuid, p_waits boolean
) RETURNS TABLE (
    tenant_id uuid, job_id uuid, fencing_token bigint, kind text, attempt integer,
    max_attempts integer, priority smallint, run_at timestamptz, arguments jsonb, unique_key text,
    idempotency_key text, created_at timestamptz, started_at timestamptz, earlier jsonb)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    nobody        CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
    waited        boolean;
    locked        text[];
    lane_kinds    text[];
    lane_tenants  uuid[];
    lane_most     integer[];
    kind_rooms    integer[];
    room          integer;
    most          integer;
    latest        uuid;
    wrapped       boolean;
    share         integer;
    hops          integer;
    rings         smallint[];
    places        tid[];
    tenants       uuid[];
    jobs          uuid[];
    times         timestamptz[];
    claimed       boolean;
BEGIN
    SELECT p.waits INTO waited FROM platform.processes p
    WHERE p.process_id = p_process AND p.dead_at IS NULL FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN;
    END IF;

    -- Those whose time has come get tickets.
    SELECT array_agg(d.ctid) INTO places FROM (
        SELECT o.ctid FROM platform.job_delayed o
        WHERE o.group_name = p_group AND o.run_at <= now()
        ORDER BY o.run_at LIMIT 1000 FOR UPDATE SKIP LOCKED) d;
    IF places IS NOT NULL THEN
        PERFORM platform.promote_delayed(places);
    END IF;

    -- Kinds that get their first ticket after this look are not locked: they wait for the next claim.
    SELECT coalesce(array_agg(l.kind), '{}') INTO locked FROM (
        SELECT k.kind FROM platform.job_kinds k
        WHERE k.group_name = p_group AND k.kind IN (
            SELECT n.kind
            FROM unnest(p_kinds, p_limits, p_tenant_limits) AS n (kind, most, of_tenant)
            WHERE (n.most IS NOT NULL OR n.of_tenant IS NOT NULL) AND EXISTS (
                SELECT FROM platform.job_tickets t
                WHERE t.group_name = p_group AND t.kind = n.kind))
        ORDER BY k.kind FOR UPDATE) l;

    -- Again and again while there is nothing but tickets of jobs that wait no more.
    FOR round IN 1..20 LOOP
        lane_kinds := '{}';
        lane_tenants := '{}';
        lane_most := '{}';
        kind_rooms := p_room;
        FOR i IN 1..cardinality(p_kinds) LOOP
            room := p_room[i];
            IF EXISTS (SELECT FROM platform.job_kinds k WHERE k.group_name = p_group
                       AND k.kind = p_kinds[i] AND k.paused_at IS NOT NULL) THEN
                room := 0;
            ELSIF (p_limits[i] IS NOT NULL OR p_tenant_limits[i] IS NOT NULL)
                    AND p_kinds[i] <> ALL (locked) THEN
                room := 0;
            ELSIF p_limits[i] IS NOT NULL THEN
                SELECT least(room, p_limits[i] - count(*)) INTO room FROM platform.job_places j
                WHERE j.group_name = p_group AND j.kind = p_kinds[i];
            END IF;
            kind_rooms[i] := room;
            latest := p_after;
            wrapped := false;
            hops := 0;
            WHILE room > 0 AND hops < p_wanted LOOP
                SELECT t.tenant_id INTO latest FROM platform.job_tickets t
                WHERE t.group_name = p_group AND t.kind = p_kinds[i] AND t.tenant_id > latest
                ORDER BY t.tenant_id LIMIT 1;
                IF NOT FOUND AND NOT wrapped THEN
                    wrapped := true;
                    latest := nobody;
                    CONTINUE;
                ELSIF NOT FOUND OR (wrapped AND latest > p_after) THEN
                    EXIT;
                END IF;
                most := room;
                IF p_tenant_limits[i] IS NOT NULL THEN
                    SELECT least(room, p_tenant_limits[i] - count(*)) INTO most
                    FROM platform.job_places j
                    WHERE j.tenant_id = latest AND j.group_name = p_group AND j.kind = p_kinds[i];
                    CONTINUE WHEN most <= 0;
                END IF;
                lane_kinds := lane_kinds || p_kinds[i];
                lane_tenants := lane_tenants || latest;
                lane_most := lane_most || most;
                hops := hops + 1;
            END LOOP;
        END LOOP;
        EXIT WHEN cardinality(lane_kinds) = 0;
        SELECT ceil(p_wanted / count(DISTINCT l)::numeric) INTO share FROM unnest(lane_tenants) l;

        WITH due AS MATERIALIZED (
            SELECT best.*, l.tenant_id <= p_after AS behind
            FROM unnest(lane_kinds, lane_tenants, lane_most) AS l (kind, tenant_id, most)
            CROSS JOIN LATERAL (
                SELECT t.ring, t.ctid AS place, t.kind, t.tenant_id, t.priority, t.run_at, t.job_id
                FROM platform.job_tickets t
                WHERE t.group_name = p_group AND t.kind = l.kind AND t.tenant_id = l.tenant_id
                ORDER BY t.priority DESC, t.run_at, t.job_id
                LIMIT least(l.most, share) FOR UPDATE SKIP LOCKED
            ) best
        ), placed AS (
            SELECT d.*, row_number() OVER (
                PARTITION BY d.tenant_id ORDER BY d.priority DESC, d.run_at, d.job_id) AS turn
            FROM due d
        ), counted AS (
            SELECT p.*, row_number() OVER (
                PARTITION BY p.kind ORDER BY p.turn, p.behind, p.tenant_id) AS of_kind
            FROM placed p
        ), picked AS (
            SELECT c.*
            FROM counted c JOIN unnest(p_kinds, kind_rooms) AS k (kind, room) ON k.kind = c.kind
            WHERE c.of_kind <= k.room
            ORDER BY c.turn, c.behind, c.tenant_id LIMIT p_wanted
        )
        SELECT array_agg(p.ring), array_agg(p.place), array_agg(p.tenant_id), array_agg(p.job_id),
               array_agg(p.run_at)
        INTO rings, places, tenants, jobs, times FROM picked p;
        EXIT WHEN jobs IS NULL;
        FOR i IN 0..2 LOOP
            IF i = ANY (rings) THEN
                PERFORM platform.use_tickets(
                    i, (SELECT array_agg(u.place) FROM unnest(rings, places) AS u (ring, place)
                        WHERE u.ring = i));
            END IF;
        END LOOP;

        claimed := false;
        FOREACH latest IN ARRAY ARRAY(SELECT DISTINCT t FROM unnest(tenants) t ORDER BY t) LOOP
            RETURN QUERY
            WITH claimed AS (
                UPDATE platform.jobs j
                SET state = 'running', process_id = p_process, attempt = j.attempt + 1,
                    started_at = now(), fencing_token = nextval('platform.fencing_tokens'),
                    limited = j.kind = ANY (locked)
                WHERE j.tenant_id = latest
                  AND j.job_id = ANY (ARRAY(SELECT u.job FROM unnest(tenants, jobs) AS u (tenant, job)
                                            WHERE u.tenant = latest))
                  AND j.state = 'available' AND j.run_at = ANY (times)
                RETURNING j.tenant_id, j.job_id, j.fencing_token, j.kind, j.attempt,
                    j.max_attempts, j.priority, j.run_at, nullif(j.arguments, '{}') AS arguments,
                    j.unique_key, j.idempotency_key, j.created_at, j.started_at, j.limited,
                    CASE WHEN num_nonnulls(j.checkpoint, j.error_kind, j.progress_done,
                            j.progress_total, j.progress_phase, j.progress_message) > 0
                            OR j.progress_detail <> '{}'
                        THEN jsonb_build_object(
                            'checkpoint', j.checkpoint, 'error_kind', j.error_kind,
                            'error_message', j.error_message, 'progress', jsonb_build_array(
                                j.progress_done, j.progress_total, j.progress_phase,
                                j.progress_message, j.progress_detail))
                        END AS earlier
            ), placed AS (
                INSERT INTO platform.job_places (tenant_id, group_name, kind, fencing_token)
                SELECT c.tenant_id, p_group, c.kind, c.fencing_token FROM claimed c
                WHERE c.limited
            )
            SELECT c.tenant_id, c.job_id, c.fencing_token, c.kind, c.attempt, c.max_attempts,
                   c.priority, c.run_at, c.arguments, c.unique_key, c.idempotency_key,
                   c.created_at, c.started_at, c.earlier
            FROM claimed c;
            claimed := claimed OR FOUND;
        END LOOP;
        IF claimed THEN
            IF waited THEN
                UPDATE platform.processes p SET waits = false WHERE p.process_id = p_process;
            END IF;
            RETURN;
        END IF;
    END LOOP;
    IF p_waits AND NOT waited THEN
        UPDATE platform.processes p SET waits = true WHERE p.process_id = p_process;
    END IF;
END
$$;

-- Seconds until the next delayed job of a group is due; NULL when there is none.
CREATE FUNCTION platform.next_delayed_job(p_group text) RETURNS double precision
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT extract(epoch FROM d.run_at - now())::double precision FROM platform.job_delayed d
    WHERE d.group_name = p_group ORDER BY d.group_name, d.run_at LIMIT 1
$$;

-- ---- ending

-- Moves jobs of one tenant to the history: those whose attempts (tokens) still hold them, or (NULL)
-- those whose rows the caller has locked. An outcome may stand under the token's text: state (else
-- p_state), result, error_kind, error_message, progress as [done, total, phase, message, detail].
CREATE FUNCTION platform.bury_jobs(
    p_tenant uuid, p_jobs uuid[], p_tokens bigint[], p_state text, p_outcomes jsonb
) RETURNS TABLE (job_id uuid, fencing_token bigint, state text)
    LANGUAGE sql SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off
AS $$
    WITH gone AS (
        DELETE FROM platform.jobs j
        WHERE j.tenant_id = p_tenant AND j.job_id = ANY (p_jobs)
          AND (p_tokens IS NULL OR (j.state = 'running' AND j.fencing_token = ANY (p_tokens)))
        RETURNING j.*, p_outcomes -> j.fencing_token::text AS outcome
    ), places AS (
        DELETE FROM platform.job_places p
        WHERE p.tenant_id = p_tenant AND p.fencing_token IN (
            SELECT g.fencing_token FROM gone g WHERE g.limited)
    ), requests AS (
        DELETE FROM platform.job_cancellations c
        WHERE c.tenant_id = p_tenant AND c.fencing_token IN (
            SELECT g.fencing_token FROM gone g WHERE g.cancel_requested_at IS NOT NULL)
    )
    INSERT INTO platform.job_history AS h (
        tenant_id, job_id, group_name, kind, state, priority, run_at, arguments, unique_key,
        idempotency_key, attempt, max_attempts, fencing_token, cancel_requested_at, progress_done,
        progress_total, progress_phase, progress_message, progress_detail, checkpoint, error_kind,
        error_message, result, created_at, started_at, finished_at)
    SELECT
        g.tenant_id, g.job_id, g.group_name, g.kind, e.state, g.priority, g.run_at, g.arguments,
        g.unique_key, g.idempotency_key, g.attempt, g.max_attempts, g.fencing_token,
        g.cancel_requested_at,
        CASE WHEN e.progress IS NULL THEN g.progress_done ELSE (e.progress ->> 0)::bigint END,
        CASE WHEN e.progress IS NULL THEN g.progress_total ELSE (e.progress ->> 1)::bigint END,
        CASE WHEN e.progress IS NULL THEN g.progress_phase ELSE e.progress ->> 2 END,
        CASE WHEN e.progress IS NULL THEN g.progress_message ELSE e.progress ->> 3 END,
        CASE WHEN e.progress IS NULL THEN g.progress_detail ELSE e.progress -> 4 END,
        g.checkpoint,
        CASE WHEN e.state <> 'done' THEN coalesce(g.outcome ->> 'error_kind', g.error_kind) END,
        CASE WHEN e.state <> 'done' THEN coalesce(g.outcome ->> 'error_message', g.error_message)
             END,
        g.outcome -> 'result', g.created_at, g.started_at, clock_timestamp()
    FROM gone g
    CROSS JOIN LATERAL (
        SELECT coalesce(g.outcome ->> 'state', p_state) AS state, g.outcome -> 'progress' AS progress
    ) e
    RETURNING h.job_id, h.fencing_token, h.state
$$;

-- Makes running jobs of one tenant available again whose rows the caller has locked; p_refund is
-- whether their attempts do not count. Outcomes as above, with delay (seconds). Wakes whoever waits,
-- if one of them can be claimed at once.
CREATE FUNCTION platform.return_jobs(
    p_tenant uuid, p_jobs uuid[], p_refund boolean, p_outcomes jsonb
) RETURNS TABLE (job_id uuid, fencing_token bigint)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    groups  text[];
BEGIN
    RETURN QUERY
    WITH back AS (
        UPDATE platform.jobs j
        SET state = 'available', process_id = NULL, attempt = j.attempt - p_refund::integer,
            run_at = now() + make_interval(secs => coalesce(
                (p_outcomes -> j.fencing_token::text ->> 'delay')::double precision, 0)),
            error_kind = coalesce(
                p_outcomes -> j.fencing_token::text ->> 'error_kind', j.error_kind),
            error_message = coalesce(
                p_outcomes -> j.fencing_token::text ->> 'error_message', j.error_message)
        WHERE j.tenant_id = p_tenant AND j.job_id = ANY (p_jobs)
        RETURNING j.*
    ), places AS (
        DELETE FROM platform.job_places p
        WHERE p.tenant_id = p_tenant AND p.fencing_token IN (
            SELECT b.fencing_token FROM back b WHERE b.limited)
    ), at_once AS (
        INSERT INTO platform.job_tickets
            (ring, group_name, kind, tenant_id, priority, run_at, job_id)
        SELECT r.current, b.group_name, b.kind, b.tenant_id, b.priority, b.run_at, b.job_id
        FROM platform.job_ring r, back b WHERE b.run_at <= now()
    ), later AS (
        INSERT INTO platform.job_delayed (group_name, kind, tenant_id, priority, run_at, job_id)
        SELECT b.group_name, b.kind, b.tenant_id, b.priority, b.run_at, b.job_id
        FROM back b WHERE b.run_at > now()
    )
    SELECT b.job_id, b.fencing_token FROM back b;
    UPDATE platform.jobs j
    SET (progress_done, progress_total, progress_phase, progress_message, progress_detail) = (
        SELECT (e.progress ->> 0)::bigint, (e.progress ->> 1)::bigint, e.progress ->> 2,
               e.progress ->> 3, e.progress -> 4
        FROM (SELECT p_outcomes -> j.fencing_token::text -> 'progress' AS progress) e)
    WHERE j.tenant_id = p_tenant AND j.job_id = ANY (p_jobs)
      AND p_outcomes -> j.fencing_token::text ? 'progress';
    SELECT array_agg(DISTINCT j.group_name) INTO groups FROM platform.jobs j
    WHERE j.tenant_id = p_tenant AND j.job_id = ANY (p_jobs) AND j.run_at <= now();
    PERFORM platform.wake_runners(groups);
END
$$;

-- Records how attempts ended, many at a time. Without outcomes all are done, and nothing goes with
-- them. Else there is one under each token's text; its ending is done, cancelled, failed (no retry
-- helps), retry (after delay, in seconds) or released (as if it had not been claimed). Says what became
-- of those that their attempts still held. In a tenant's transaction only that tenant's jobs can be
-- ended. A job that a transaction of its attempt still locks, perhaps one whose client is gone, is not
-- waited for: 55P03 after a second.
CREATE FUNCTION platform.finish_jobs(
    p_tenants uuid[], p_jobs uuid[], p_tokens bigint[], p_outcomes jsonb
) RETURNS TABLE (job_id uuid, fencing_token bigint, state text)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '1s' SET enable_seqscan = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    tenant    uuid;
    jobs      uuid[];
    tokens    bigint[];
    verdicts  jsonb;
    refund    boolean;
BEGIN
    IF platform.current_tenant() <> ANY (p_tenants) THEN
        RAISE EXCEPTION 'the transaction does not belong to this tenant'
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    FOR tenant, jobs, tokens IN
        SELECT e.tenant_id, array_agg(e.job_id), array_agg(e.token)
        FROM unnest(p_tenants, p_jobs, p_tokens) AS e (tenant_id, job_id, token)
        GROUP BY e.tenant_id ORDER BY e.tenant_id
    LOOP
        IF p_outcomes IS NULL THEN
            RETURN QUERY SELECT * FROM platform.bury_jobs(tenant, jobs, tokens, 'done', NULL);
            CONTINUE;
        END IF;
        -- Locked first; then each is judged by its own row.
        SELECT jsonb_object_agg(
            j.fencing_token::text,
            j.outcome || jsonb_build_object('job', j.job_id, 'state', CASE
                WHEN j.ending IN ('done', 'cancelled') THEN j.ending
                WHEN j.cancel_requested_at IS NOT NULL THEN 'cancelled'
                WHEN j.ending = 'released' THEN 'available'
                WHEN j.ending = 'failed' THEN 'failed'
                WHEN j.attempt >= j.max_attempts THEN 'dead'
                ELSE 'available' END))
        INTO verdicts
        FROM (
            SELECT o.*, p_outcomes -> o.fencing_token::text AS outcome,
                   p_outcomes -> o.fencing_token::text ->> 'ending' AS ending
            FROM platform.jobs o
            WHERE o.tenant_id = tenant AND o.job_id = ANY (jobs)
              AND o.state = 'running' AND o.fencing_token = ANY (tokens)
            ORDER BY o.job_id FOR UPDATE
        ) j;
        CONTINUE WHEN verdicts IS NULL;
        RETURN QUERY SELECT * FROM platform.bury_jobs(
            tenant,
            ARRAY(SELECT (v.value ->> 'job')::uuid FROM jsonb_each(verdicts) v
                  WHERE v.value ->> 'state' <> 'available'),
            NULL, 'done', verdicts);
        FOR refund IN VALUES (false), (true) LOOP
            RETURN QUERY SELECT b.job_id, b.fencing_token, 'available' FROM platform.return_jobs(
                tenant,
                ARRAY(SELECT (v.value ->> 'job')::uuid FROM jsonb_each(verdicts) v
                      WHERE v.value ->> 'state' = 'available'
                        AND (v.value ->> 'ending' = 'released') = refund),
                refund, verdicts) b;
        END LOOP;
    END LOOP;
END
$$;

-- How attempts ended, of those that have ended their jobs: for one whose answer was lost.
CREATE FUNCTION platform.endings_of(p_tenants uuid[], p_jobs uuid[], p_tokens bigint[])
    RETURNS TABLE (fencing_token bigint, state text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT e.token, coalesce(h.state, j.state)
    FROM unnest(p_tenants, p_jobs, p_tokens) AS e (tenant_id, job_id, token)
    LEFT JOIN platform.job_history h ON h.tenant_id = e.tenant_id AND h.job_id = e.job_id
        AND h.fencing_token = e.token
    LEFT JOIN platform.jobs j ON j.tenant_id = e.tenant_id AND j.job_id = e.job_id
        AND j.fencing_token = e.token AND j.state = 'available'
    WHERE coalesce(h.state, j.state) IS NOT NULL
$$;

-- Ends a job of the tenant that waits; asks the process of one that runs. The job as it is then, or no
-- row when it has finished or is not there.
CREATE FUNCTION platform.request_cancel(p_job uuid) RETURNS SETOF platform.jobs
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    tenant  CONSTANT uuid := platform.current_tenant();
    found   platform.jobs;
BEGIN
    UPDATE platform.jobs SET cancel_requested_at = coalesce(cancel_requested_at, now())
    WHERE tenant_id = tenant AND job_id = p_job RETURNING * INTO found;
    IF found.state = 'running' THEN
        INSERT INTO platform.job_cancellations (tenant_id, fencing_token, process_id)
        VALUES (tenant, found.fencing_token, found.process_id) ON CONFLICT DO NOTHING;
        PERFORM pg_notify('troupe_jobs_' || found.group_name, 'cancel');
        RETURN NEXT found;
    ELSIF found.state = 'available' THEN
        PERFORM platform.bury_jobs(tenant, ARRAY[p_job], NULL, 'cancelled', NULL);
        RETURN QUERY SELECT h.* FROM platform.job_history h
            WHERE h.tenant_id = tenant AND h.job_id = p_job;
    END IF;
END
$$;

-- Makes jobs of the tenant available again that have ended without success, with all their attempts
-- before them and their checkpoints kept: those named, or (NULL) up to p_limit of a kind that are dead
-- or failed, oldest first, leaving out those whose unique key another job has. The jobs as they are
-- then.
CREATE FUNCTION platform.revive_jobs(p_jobs uuid[], p_kind text, p_limit integer)
    RETURNS SETOF platform.jobs
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    WITH candidates AS (
        SELECT h.job_id, h.finished_at, h.kind, h.unique_key FROM platform.job_history h
        WHERE h.tenant_id = platform.current_tenant()
          AND CASE WHEN p_jobs IS NOT NULL
                   THEN h.job_id = ANY (p_jobs) AND h.state IN ('failed', 'cancelled', 'dead')
                   ELSE h.state IN ('failed', 'dead') AND (p_kind IS NULL OR h.kind = p_kind)
                    AND NOT EXISTS (
                        SELECT FROM platform.jobs j
                        WHERE j.tenant_id = h.tenant_id AND j.kind = h.kind
                          AND j.unique_key = h.unique_key) END
        ORDER BY h.job_id LIMIT p_limit FOR UPDATE
    ), chosen AS (
        SELECT DISTINCT ON (c.kind, coalesce(c.unique_key, c.job_id::text)) c.job_id, c.finished_at
        FROM candidates c ORDER BY c.kind, coalesce(c.unique_key, c.job_id::text), c.job_id DESC
    ), revived AS (
        DELETE FROM platform.job_history h USING chosen c
        WHERE h.tenant_id = platform.current_tenant()
          AND h.job_id = c.job_id AND h.finished_at = c.finished_at
        RETURNING h.*
    )
    INSERT INTO platform.jobs AS j (
        tenant_id, job_id, group_name, kind, state, priority, run_at, arguments, unique_key,
        idempotency_key, max_attempts, fencing_token, progress_done, progress_total, progress_phase,
        progress_message, progress_detail, checkpoint, error_kind, error_message, created_at,
        started_at)
    SELECT r.tenant_id, r.job_id, r.group_name, r.kind, 'available', r.priority, now(), r.arguments,
           r.unique_key, r.idempotency_key, r.max_attempts, r.fencing_token, r.progress_done,
           r.progress_total, r.progress_phase, r.progress_message, r.progress_detail, r.checkpoint,
           r.error_kind, r.error_message, r.created_at, r.started_at
    FROM revived r
    RETURNING j.*
$$;

-- ---- processes

-- Extends the lease of everything that the process runs. False: it was declared dead, and nothing
-- that it runs belongs to it any more.
CREATE FUNCTION platform.extend_lease(p_process uuid) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE platform.processes SET heartbeat_at = now()
    WHERE process_id = p_process AND dead_at IS NULL;
    RETURN FOUND;
END
$$;

-- What a process shall stop.
CREATE FUNCTION platform.jobs_to_cancel(p_process uuid) RETURNS SETOF bigint
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT fencing_token FROM platform.job_cancellations WHERE process_id = p_process
$$;

-- Everything that a process runs, as the database sees it.
CREATE FUNCTION platform.jobs_of_process(p_process uuid)
    RETURNS TABLE (tenant_id uuid, job_id uuid, fencing_token bigint)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT tenant_id, job_id, fencing_token FROM platform.jobs
    WHERE state = 'running' AND process_id = p_process
$$;

-- Takes up to p_limit jobs away from processes: attempts that are refunded lose nothing, others count,
-- since the job may be what killed the process. A job whose row is locked is being committed by its
-- attempt; it is left for the next round.
CREATE FUNCTION platform.take_jobs_from(p_processes uuid[], p_limit integer, p_refund boolean)
    RETURNS TABLE (job_id uuid, state text)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    tenant   uuid;
    verdict  text;
    jobs     uuid[];
    why      jsonb;
BEGIN
    FOR tenant, verdict, jobs, why IN
        SELECT o.tenant_id, o.verdict, array_agg(o.job_id),
               CASE WHEN NOT p_refund THEN jsonb_object_agg(o.fencing_token::text, jsonb_build_object(
                   'error_kind', 'ProcessDied',
                   'error_message', 'The process that ran the job died.')) END
        FROM (
            SELECT j.tenant_id, j.job_id, j.fencing_token,
                CASE WHEN j.cancel_requested_at IS NOT NULL THEN 'cancelled'
                     WHEN j.attempt >= j.max_attempts AND NOT p_refund THEN 'dead'
                     ELSE 'available' END AS verdict
            FROM platform.jobs j WHERE j.state = 'running' AND j.process_id = ANY (p_processes)
            LIMIT p_limit FOR UPDATE SKIP LOCKED
        ) o
        GROUP BY o.tenant_id, o.verdict
    LOOP
        IF verdict = 'available' THEN
            PERFORM platform.return_jobs(tenant, jobs, p_refund, why);
        ELSE
            PERFORM platform.bury_jobs(tenant, jobs, NULL, verdict, why);
        END IF;
        RETURN QUERY SELECT j, verdict FROM unnest(jobs) j;
    END LOOP;
END
$$;

-- Gives back everything that a process runs, without counting the attempts, and forgets the process.
-- Should a job be in the middle of a commit, the process is left to die by its lease instead.
CREATE FUNCTION platform.release_process(p_process uuid) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    released  integer;
BEGIN
    PERFORM FROM platform.processes WHERE process_id = p_process FOR UPDATE;
    SELECT count(*) INTO released
    FROM platform.take_jobs_from(ARRAY[p_process], 2147483647, true);
    DELETE FROM platform.processes p WHERE p.process_id = p_process AND NOT EXISTS (
        SELECT FROM platform.jobs j WHERE j.state = 'running' AND j.process_id = p_process);
    IF NOT FOUND THEN
        UPDATE platform.processes SET dead_at = now() WHERE process_id = p_process;
    END IF;
    RETURN released;
END
$$;

-- Declares processes dead whose heartbeat is older than their lease, gives back up to p_limit jobs of
-- dead processes, and forgets those that have none left.
--
-- Just after PostgreSQL itself was started every heartbeat is old: for the length of one lease
-- nobody is declared dead.
CREATE FUNCTION platform.rescue_jobs(p_limit integer) RETURNS TABLE (job_id uuid, state text)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    dead  uuid[];
BEGIN
    UPDATE platform.processes SET dead_at = now() WHERE process_id IN (
        SELECT p.process_id FROM platform.processes p
        WHERE p.dead_at IS NULL
          AND p.heartbeat_at + p.lease < now() AND pg_postmaster_start_time() + p.lease < now()
        FOR UPDATE SKIP LOCKED);
    SELECT array_agg(p.process_id) INTO dead FROM platform.processes p WHERE p.dead_at IS NOT NULL;
    IF dead IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY SELECT * FROM platform.take_jobs_from(dead, p_limit, false);
    DELETE FROM platform.processes p WHERE p.process_id IN (
        SELECT d.process_id FROM platform.processes d
        WHERE d.process_id = ANY (dead) AND NOT EXISTS (
            SELECT FROM platform.jobs j WHERE j.state = 'running' AND j.process_id = d.process_id)
        FOR UPDATE SKIP LOCKED);
END
$$;

-- ---- operators

-- Makes kinds known, so that they can be locked and paused.
CREATE FUNCTION platform.register_kinds(p_group text, p_kinds text[]) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO platform.job_kinds (group_name, kind)
    SELECT p_group, k FROM unnest(p_kinds) k ORDER BY k ON CONFLICT DO NOTHING
$$;

-- Pauses a kind for all tenants, or resumes it: no job of it is claimed; those that run go on. False:
-- no group has such a kind.
CREATE FUNCTION platform.pause_kind(p_kind text, p_paused boolean) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    groups  text[];
BEGIN
    WITH changed AS (
        UPDATE platform.job_kinds
        SET paused_at = CASE WHEN p_paused THEN coalesce(paused_at, now()) END
        WHERE kind = p_kind RETURNING group_name
    )
    SELECT array_agg(group_name) INTO groups FROM changed;
    PERFORM platform.wake_runners(groups);
    RETURN groups IS NOT NULL;
END
$$;

-- What each kind has to do, over all tenants; waiting jobs are counted up to 100,000.
CREATE FUNCTION platform.kinds_at_work()
    RETURNS TABLE (group_name text, kind text, waiting bigint, delayed bigint, running bigint,
                   oldest_seconds double precision, paused_at timestamptz)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT k.group_name, k.kind, w.waiting, d.delayed, r.running, w.oldest, k.paused_at
    FROM platform.job_kinds k
    CROSS JOIN LATERAL (
        SELECT count(*) AS waiting,
               extract(epoch FROM now() - min(t.run_at))::double precision AS oldest
        FROM (SELECT t.run_at FROM platform.job_tickets t
              WHERE t.group_name = k.group_name AND t.kind = k.kind LIMIT 100000) t) w
    CROSS JOIN LATERAL (
        SELECT count(*) AS delayed FROM (
            SELECT FROM platform.job_delayed d
            WHERE d.group_name = k.group_name AND d.kind = k.kind LIMIT 100000) d) d
    CROSS JOIN LATERAL (
        SELECT count(*) AS running FROM platform.jobs j
        WHERE j.state = 'running' AND j.group_name = k.group_name AND j.kind = k.kind) r
    ORDER BY 1, 2
$$;

-- ---- upkeep

-- Changes the table that takes new tickets once it has grown to p_bytes, and empties those that were
-- used before: what still waits in them moves on, if it is little, and the rest is dead. Says how many
-- tables were emptied. Whoever is in the way for longer than 20 ms wins.
CREATE FUNCTION platform.turn_job_ring(p_bytes bigint) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET lock_timeout = '20ms'
AS $$
DECLARE
    rings    CONSTANT smallint := 3;
    few      CONSTANT integer := 1000;
    here     smallint;
    next     smallint;
    emptied  integer := 0;
BEGIN
    SELECT current INTO here FROM platform.job_ring FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    next := (here + 1) % rings;
    IF pg_relation_size('platform.job_tickets_' || here) >= p_bytes
            AND pg_relation_size('platform.job_tickets_' || next) = 0 THEN
        UPDATE platform.job_ring SET current = next;
        here := next;
    END IF;
    FOR ring IN 0..rings - 1 LOOP
        CONTINUE WHEN ring = here OR pg_relation_size('platform.job_tickets_' || ring) = 0;
        BEGIN
            IF platform.few_tickets_in(ring, few) THEN
                EXECUTE format('LOCK TABLE platform.job_tickets_%s IN ACCESS EXCLUSIVE MODE', ring);
                EXECUTE format('INSERT INTO platform.job_tickets SELECT %s, group_name, kind,'
                               ' tenant_id, priority, run_at, job_id FROM platform.job_tickets_%s',
                               here, ring);
                EXECUTE format('TRUNCATE platform.job_tickets_%s', ring);
                emptied := emptied + 1;
            END IF;
        EXCEPTION WHEN lock_not_available THEN
            CONTINUE;
        END;
    END LOOP;
    RETURN emptied;
END
$$;

CREATE FUNCTION platform.few_tickets_in(p_ring integer, p_few integer) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT count(*) < p_few
    FROM (SELECT FROM platform.job_tickets WHERE ring = p_ring LIMIT p_few) t
$$;

-- Forgets idempotency keys, and jobs that no daily partition holds, whose jobs finished more than
-- p_keep days ago; at most p_limit of each. Run before partitions are dropped: no key outlives its job.
CREATE FUNCTION platform.forget_old_jobs(p_keep integer, p_limit integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
DECLARE
    first_kept  CONSTANT timestamptz := now()::date - p_keep;
    forgotten   integer;
BEGIN
    DELETE FROM platform.job_keys k WHERE (k.tenant_id, k.kind, k.idempotency_key) IN (
        SELECT o.tenant_id, o.kind, o.idempotency_key FROM platform.job_keys o
        WHERE o.created_at < first_kept
          AND NOT EXISTS (SELECT FROM platform.jobs j
                          WHERE j.tenant_id = o.tenant_id AND j.job_id = o.job_id)
          AND NOT EXISTS (SELECT FROM platform.job_history h
                          WHERE h.tenant_id = o.tenant_id AND h.job_id = o.job_id
                            AND h.finished_at >= first_kept)
        LIMIT p_limit);
    GET DIAGNOSTICS forgotten = ROW_COUNT;
    DELETE FROM platform.job_history h WHERE (h.tenant_id, h.job_id, h.finished_at) IN (
        SELECT o.tenant_id, o.job_id, o.finished_at FROM platform.job_history o
        WHERE o.tableoid = 'platform.job_history_default'::regclass AND o.finished_at < first_kept
        LIMIT p_limit);
    RETURN forgotten;
END
$$;

DO $$
DECLARE
    door regprocedure;
BEGIN
    FOREACH door IN ARRAY ARRAY[
        'platform.claim_jobs(text, uuid, text[], integer[], integer[], integer[], integer, uuid,'
            || ' boolean)',
        'platform.next_delayed_job(text)',
        'platform.finish_jobs(uuid[], uuid[], bigint[], jsonb)',
        'platform.endings_of(uuid[], uuid[], bigint[])',
        'platform.request_cancel(uuid)',
        'platform.revive_jobs(uuid[], text, integer)',
        'platform.extend_lease(uuid)',
        'platform.jobs_to_cancel(uuid)',
        'platform.jobs_of_process(uuid)',
        'platform.release_process(uuid)',
        'platform.rescue_jobs(integer)',
        'platform.register_kinds(text, text[])',
        'platform.pause_kind(text, boolean)',
        'platform.kinds_at_work()',
        'platform.turn_job_ring(bigint)',
        'platform.forget_old_jobs(integer, integer)'
    ]::regprocedure[] LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', door);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO troupe_runtime', door);
        EXECUTE format('ALTER FUNCTION %s OWNER TO troupe_system', door);
    END LOOP;
    -- Used by the doors only.
    FOREACH door IN ARRAY ARRAY[
        'platform.announce_jobs()',
        'platform.forget_jobs()',
        'platform.wake_runners(text[])',
        'platform.promote_delayed(tid[])',
        'platform.use_tickets(integer, tid[])',
        'platform.bury_jobs(uuid, uuid[], bigint[], text, jsonb)',
        'platform.return_jobs(uuid, uuid[], boolean, jsonb)',
        'platform.take_jobs_from(uuid[], integer, boolean)',
        'platform.few_tickets_in(integer, integer)'
    ]::regprocedure[] LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', door);
        EXECUTE format('ALTER FUNCTION %s OWNER TO troupe_system', door);
    END LOOP;
END
$$;
