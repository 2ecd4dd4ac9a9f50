-- What salespeople work through: one row per task, with what the data says of it and what people made
-- of it. docs/tasks.md tells how the rows come and go.
--
-- The two halves of a row have different owners. What the data says is written by "following" alone
-- (troupe/actors/analytics/following.py), again after every load; what people say (status, assignee,
-- note, snooze) is never touched by it, but that a task which settles itself is closed. A row is found
-- again by its subject: a digest of what a reload gives again, never of a number that a load hands out.

-- Trusted since PostgreSQL 13: the owner of the database may make them. An external PostgreSQL needs
-- the package with its contributed modules (docs/operation.md).
CREATE EXTENSION IF NOT EXISTS pg_trgm SCHEMA analytics;
CREATE EXTENSION IF NOT EXISTS btree_gin SCHEMA analytics;

GRANT CREATE ON SCHEMA analytics TO troupe_system;

CREATE TABLE analytics.tasks (
    tenant_id       uuid NOT NULL REFERENCES platform.tenants ON DELETE CASCADE,
    task_id         uuid NOT NULL DEFAULT gen_random_uuid(),
    kind            text NOT NULL CHECK (
        kind IN ('purchases', 'cart-abandonment', 'search-analysis', 'repeat-visits')),
    subject         bytea NOT NULL,             -- analytics.subject(…)

    -- What the data says.
    began_at        timestamptz NOT NULL,       -- of what is told: first item, first search, first visit
    happened_at     timestamptz NOT NULL,       -- what lists are ordered and cut by
    raised_at       timestamptz NOT NULL,       -- from here on it is a task
    settled_at      timestamptz,                -- when it settled itself: bought after all
    is_customer     boolean NOT NULL,           -- person_id is a customer's id, else a visitor's
    person_id       text,                       -- NULL: nobody is known
    user_pseudo_id  text,                       -- the visitor and, with the next two, the session
    stream_id       text,
    ga_session_id   bigint,
    location_id     text NOT NULL,              -- branch; '': none known
    company         text NOT NULL DEFAULT '',   -- from the master data; '': not known
    contact         text NOT NULL DEFAULT '',
    email           text NOT NULL DEFAULT '',
    phone           text NOT NULL DEFAULT '',
    title           text NOT NULL,              -- transaction, items, term, products: for people
    value           numeric NOT NULL,           -- what is at stake, in `currency`; 0: nothing known
    currency        text NOT NULL,
    facts           jsonb NOT NULL,             -- what belongs to the kind; see tasks.sql
    priority        smallint NOT NULL CHECK (priority BETWEEN 0 AND 100),
    reasons         jsonb NOT NULL,             -- [{"reason", "points"}], which add up to the priority
    present         boolean NOT NULL DEFAULT true, -- false: the data does not show it any more

    -- What people say.
    status          text NOT NULL DEFAULT 'open' CHECK (
        status IN ('open', 'in_progress', 'done', 'dismissed', 'settled')),
    assignee_id     uuid,                       -- a member of the tenant
    note            text NOT NULL DEFAULT '',
    snoozed_until   timestamptz,
    version         bigint NOT NULL DEFAULT 1,  -- raised with each change by people, and when settled
    touched         boolean NOT NULL DEFAULT false, -- a person has changed it
    changed_at      timestamptz NOT NULL DEFAULT now(),

    -- What is searched as one types. Lower case; the parts are kept apart by something nobody types.
    search          text NOT NULL GENERATED ALWAYS AS (lower(
        company || E'\n' || contact || E'\n' || email || E'\n' || phone || E'\n'
        || coalesce(person_id, '') || E'\n' || title)) STORED,

    PRIMARY KEY (tenant_id, task_id),
    UNIQUE (tenant_id, kind, subject)
);
CREATE INDEX tasks_by_time ON analytics.tasks (tenant_id, kind, happened_at, task_id);
CREATE INDEX tasks_by_person ON analytics.tasks (tenant_id, kind, person_id, raised_at)
    WHERE person_id IS NOT NULL;
CREATE INDEX tasks_by_assignee ON analytics.tasks (tenant_id, assignee_id, kind, happened_at)
    WHERE assignee_id IS NOT NULL;
-- By tenant too: without it a word that is common with one tenant costs all others.
CREATE INDEX tasks_searched ON analytics.tasks
    USING gin (tenant_id analytics.uuid_ops, search analytics.gin_trgm_ops);

-- Every change, for good: who, when, from what to what.
CREATE TABLE analytics.task_changes (
    tenant_id   uuid NOT NULL,
    task_id     uuid NOT NULL,
    version     bigint NOT NULL,                -- of the task after the change
    changed_at  timestamptz NOT NULL DEFAULT now(),
    actor_kind  text NOT NULL CHECK (actor_kind IN ('user', 'token', 'system')),
    actor_id    uuid,                           -- the person; NULL: the program
    user_name   text NOT NULL,                  -- as the person or token was called then
    changes     jsonb NOT NULL,                 -- {"status": {"from": …, "to": …}}
    PRIMARY KEY (tenant_id, task_id, version),
    FOREIGN KEY (tenant_id, task_id) REFERENCES analytics.tasks ON DELETE CASCADE
);

-- How far the tasks of a tenant follow its data.
CREATE TABLE analytics.followed (
    tenant_id     uuid PRIMARY KEY REFERENCES platform.tenants ON DELETE CASCADE,
    followed_as   text NOT NULL DEFAULT '',     -- data version, rules and settings it was done with
    next_at       timestamptz,                  -- when a cart turns idle, so that it is to be done again
    followed_at   timestamptz NOT NULL DEFAULT now()
);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['tasks', 'task_changes', 'followed'] LOOP
        EXECUTE format('ALTER TABLE analytics.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE analytics.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY tenant ON analytics.%I USING (tenant_id = platform.current_tenant())'
            ' WITH CHECK (tenant_id = platform.current_tenant())', name);
    END LOOP;
END
$$;
GRANT SELECT, INSERT, UPDATE, DELETE ON analytics.tasks, analytics.followed TO troupe_runtime;
-- Changes are only ever added; they go with their task.
GRANT SELECT, INSERT ON analytics.task_changes TO troupe_runtime;

-- Products that a session looked at, for what repeat visitors are interested in.
CREATE INDEX interests_by_session ON data.interests (tenant_id, user_pseudo_id, ga_session_id)
    WHERE kind = 'product' AND ga_session_id IS NOT NULL;

-- A digest of what a task is about. JSON keeps the parts apart whatever they hold.
CREATE FUNCTION analytics.subject(VARIADIC p_parts text[]) RETURNS bytea
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN sha256(convert_to(array_to_json(p_parts)::text, 'UTF8'));

-- Points for what is at stake, the same for all kinds: [{"reason", "points"}] of those that apply.
-- Steps instead of a formula, so that people can say the sum themselves.
CREATE FUNCTION analytics.reasons(
    p_value numeric, p_customer boolean, p_reachable boolean, p_own jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_object('reason', r.reason, 'points', r.points)
                              ORDER BY r.place), '[]')
    FROM (
        SELECT 1 AS place, 'value' AS reason,
               CASE WHEN p_value >= 10000 THEN 50 WHEN p_value >= 1000 THEN 40
                    WHEN p_value >= 100 THEN 25 WHEN p_value > 0 THEN 10 ELSE 0 END AS points
        UNION ALL SELECT 2, 'customer', CASE WHEN p_customer THEN 10 ELSE 0 END
        UNION ALL SELECT 3, 'reachable', CASE WHEN p_reachable THEN 15 ELSE 0 END
        UNION ALL
        SELECT 3 + o.place::integer, o.own ->> 'reason', (o.own ->> 'points')::integer
        FROM jsonb_array_elements(p_own) WITH ORDINALITY AS o (own, place)
    ) AS r
    WHERE r.points > 0
$$;

-- What the reasons add up to.
CREATE FUNCTION analytics.priority(p_reasons jsonb) RETURNS smallint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT least(coalesce(sum((r.reason ->> 'points')::integer), 0), 100)::smallint
    FROM jsonb_array_elements(p_reasons) AS r (reason)
$$;

-- ---- the door for searching

-- Row-level security lets no condition reach an index before the policy has been asked, unless it is
-- leakproof; LIKE is not. So the trigram index is used by a function that sees all rows and compares
-- the tenant itself. It tells ids, of the transaction's tenant only, and nothing of anybody else's
-- rows decides what it does.
CREATE POLICY system ON analytics.tasks TO troupe_system USING (true);
GRANT SELECT (tenant_id, task_id, kind, search) ON analytics.tasks TO troupe_system;

-- $1 kind, $2 the pattern that says most, $3 all patterns, for LIKE; letter case does not count.
CREATE FUNCTION analytics.search_tasks(p_kind text, p_pattern text, p_patterns text[])
    RETURNS SETOF uuid
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT t.task_id FROM analytics.tasks t
    WHERE t.tenant_id = platform.current_tenant() AND t.kind = p_kind
      AND t.search LIKE lower(p_pattern)
      AND t.search LIKE ALL (SELECT lower(p.pattern) FROM unnest(p_patterns) AS p (pattern))
$$;
REVOKE ALL ON FUNCTION analytics.search_tasks(text, text, text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION analytics.search_tasks(text, text, text[]) TO troupe_runtime;
ALTER FUNCTION analytics.search_tasks(text, text, text[]) OWNER TO troupe_system;

-- ---- the door for following

-- Where a following puts what the data shows, for this session and until the transaction ends; made
-- here because the runtime role may not make temporary tables.
CREATE FUNCTION analytics.open_bench() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    CREATE TEMP TABLE found (
        subject bytea PRIMARY KEY, began_at timestamptz NOT NULL, happened_at timestamptz NOT NULL,
        raised_at timestamptz NOT NULL, settled_at timestamptz, is_customer boolean NOT NULL,
        person_id text, user_pseudo_id text, stream_id text, ga_session_id bigint,
        location_id text NOT NULL, company text NOT NULL, contact text NOT NULL, email text NOT NULL,
        phone text NOT NULL, title text NOT NULL, value numeric NOT NULL, currency text NOT NULL,
        facts jsonb NOT NULL, reasons jsonb NOT NULL
    ) ON COMMIT DROP;
    GRANT SELECT, INSERT, UPDATE, DELETE ON pg_temp.found TO troupe_runtime;
END
$$;

-- Statistics of the bench: without them the planner takes it for a small one.
CREATE FUNCTION analytics.measure_bench() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    ANALYZE pg_temp.found;
END
$$;

-- Empties the bench for the next kind.
CREATE FUNCTION analytics.clear_bench() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    TRUNCATE pg_temp.found;
END
$$;

DO $$
DECLARE
    door text;
BEGIN
    FOREACH door IN ARRAY ARRAY['open_bench()', 'measure_bench()', 'clear_bench()'] LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION analytics.%s FROM PUBLIC', door);
        EXECUTE format('GRANT EXECUTE ON FUNCTION analytics.%s TO troupe_runtime', door);
    END LOOP;
END
$$;

-- ---- alerts

-- What somebody wants to be told of.
CREATE TABLE analytics.alerts (
    tenant_id       uuid NOT NULL REFERENCES platform.tenants ON DELETE CASCADE,
    alert_id        uuid NOT NULL DEFAULT gen_random_uuid(),
    name            text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    kind            text NOT NULL CHECK (kind IN ('spike', 'drop', 'stale_data', 'failed_load')),
    metric          text,                       -- of spike and drop: its name in the registry
    location_id     text,                       -- of spike and drop: only this branch; NULL: all
    threshold       numeric,                    -- spike, drop: percent; stale_data: hours
    least           numeric NOT NULL DEFAULT 0, -- spike, drop: what is usual must be so much
    emails          text[] NOT NULL DEFAULT '{}',
    webhook_url     text,
    webhook_secret  bytea,                      -- sealed; signs what is sent there
    enabled         boolean NOT NULL DEFAULT true,
    version         bigint NOT NULL DEFAULT 1,
    created_at      timestamptz NOT NULL DEFAULT now(),
    changed_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, alert_id),
    UNIQUE (tenant_id, name),
    CHECK ((kind IN ('spike', 'drop')) = (metric IS NOT NULL)),
    CHECK ((kind = 'failed_load') = (threshold IS NULL)),
    CHECK ((webhook_url IS NULL) = (webhook_secret IS NULL))
);

-- What an alert has told, once for each subject (a day).
CREATE TABLE analytics.alarms (
    tenant_id    uuid NOT NULL,
    alarm_id     uuid NOT NULL DEFAULT gen_random_uuid(),
    alert_id     uuid NOT NULL,
    subject      text NOT NULL,
    raised_at    timestamptz NOT NULL DEFAULT now(),
    resolved_at  timestamptz,                   -- of a failed load: when the day was loaded after all
    facts        jsonb NOT NULL,
    PRIMARY KEY (tenant_id, alarm_id),
    FOREIGN KEY (tenant_id, alert_id) REFERENCES analytics.alerts ON DELETE CASCADE
);
CREATE UNIQUE INDEX alarms_once ON analytics.alarms (tenant_id, alert_id, subject)
    WHERE resolved_at IS NULL;
CREATE INDEX alarms_by_time ON analytics.alarms (tenant_id, alert_id, raised_at, alarm_id);

-- To whom it is to be told, and what became of that.
CREATE TABLE analytics.alarm_messages (
    tenant_id   uuid NOT NULL,
    message_id  uuid NOT NULL DEFAULT gen_random_uuid(),
    alarm_id    uuid NOT NULL,
    channel     text NOT NULL CHECK (channel IN ('email', 'webhook')),
    recipient   text NOT NULL,                  -- address, or URL
    state       text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'sent', 'failed')),
    attempts    integer NOT NULL DEFAULT 0,
    next_at     timestamptz NOT NULL DEFAULT now(),
    sent_at     timestamptz,
    problem     text,
    PRIMARY KEY (tenant_id, message_id),
    FOREIGN KEY (tenant_id, alarm_id) REFERENCES analytics.alarms ON DELETE CASCADE
);
CREATE INDEX alarm_messages_waiting ON analytics.alarm_messages (tenant_id, next_at)
    WHERE state = 'waiting';
CREATE INDEX alarm_messages_by_alarm ON analytics.alarm_messages (tenant_id, alarm_id);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['alerts', 'alarms', 'alarm_messages'] LOOP
        EXECUTE format('ALTER TABLE analytics.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE analytics.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY tenant ON analytics.%I USING (tenant_id = platform.current_tenant())'
            ' WITH CHECK (tenant_id = platform.current_tenant())', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON analytics.%I TO troupe_runtime', name);
    END LOOP;
END
$$;

-- ---- people who are erased

-- Figures outlive a person under a pseudonym (0013_tenants.sql), tasks do not: their notes, titles and
-- histories are about that person. An address that is erased is written to no more. Statement by
-- statement, because an erasure remembers all identifiers of a person at once.
CREATE FUNCTION analytics.forget_erased() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM analytics.tasks AS t
    WHERE EXISTS (SELECT FROM erased AS x
                  WHERE x.tenant_id = t.tenant_id AND x.digest IN (
                      data.person_digest(t.tenant_id, t.person_id),
                      data.person_digest(t.tenant_id, t.user_pseudo_id),
                      data.person_digest(t.tenant_id, nullif(t.email, ''))));
    UPDATE analytics.alerts AS a
    SET version = a.version + 1, changed_at = now(), emails = ARRAY(
        SELECT e.address FROM unnest(a.emails) WITH ORDINALITY AS e (address, place)
        WHERE NOT EXISTS (SELECT FROM erased AS x
                          WHERE x.digest = data.person_digest(a.tenant_id, e.address))
        ORDER BY e.place)
    WHERE EXISTS (SELECT FROM unnest(a.emails) AS e (address) JOIN erased AS x
                  ON x.tenant_id = a.tenant_id AND x.digest = data.person_digest(a.tenant_id, e.address));
    RETURN NULL;
END
$$;
CREATE TRIGGER forget_erased AFTER INSERT ON data.erased_persons
    REFERENCING NEW TABLE AS erased FOR EACH STATEMENT EXECUTE FUNCTION analytics.forget_erased();
