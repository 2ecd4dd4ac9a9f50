-- Branch reports: who gets which, when, and what became of each mail.
--
-- A *report schedule* says what is sent and when; for each zone of its recipients it keeps one schedule
-- of the platform. A *run* is one occasion: a slot of such a schedule, or somebody's "send now". A
-- *delivery* is one mail to one address, and its row is what keeps it from being sent twice: its key
-- names the series (a schedule, or a single run), the branch, the period and the recipient.

-- How a tenant's reports look and how fast they leave; what may stand there is checked by
-- troupe.actors.analytics.reports.settings.
CREATE TABLE analytics.report_settings (
    tenant_id   uuid PRIMARY KEY REFERENCES platform.tenants ON DELETE CASCADE,
    settings    jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(settings) = 'object'),
    version     bigint NOT NULL DEFAULT 1,
    changed_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE analytics.report_recipients (
    tenant_id     uuid NOT NULL REFERENCES platform.tenants ON DELETE CASCADE,
    recipient_id  uuid NOT NULL,
    location_id   text CHECK (location_id <> ''),   -- NULL: the whole company
    address       text NOT NULL CHECK (length(address) BETWEEN 3 AND 254),
    name          text NOT NULL DEFAULT '' CHECK (length(name) <= 200),
    language      text NOT NULL CHECK (language IN ('en', 'de')),
    time_zone     text NOT NULL CHECK (length(time_zone) BETWEEN 1 AND 100),
    format        text NOT NULL CHECK (format IN ('html', 'text')),
    workbook      boolean NOT NULL DEFAULT true,    -- whether the XLSX is attached
    enabled       boolean NOT NULL DEFAULT true,
    -- What an unsubscribe link must know; made once, so that links in old mails go on working.
    secret        bytea NOT NULL CHECK (length(secret) = 16),
    version       bigint NOT NULL DEFAULT 1,
    created_at    timestamptz NOT NULL DEFAULT now(),
    changed_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, recipient_id)
);
CREATE UNIQUE INDEX report_recipients_once ON analytics.report_recipients
    (tenant_id, coalesce(location_id, ''), lower(address));

-- What is known of an address, whichever branches it is listed for.
CREATE TABLE analytics.report_addresses (
    tenant_id      uuid NOT NULL REFERENCES platform.tenants ON DELETE CASCADE,
    address        text NOT NULL CHECK (address = lower(address)),
    hard_bounces   integer NOT NULL DEFAULT 0 CHECK (hard_bounces >= 0),
    last_bounce    text,                            -- what the server said
    suppressed_at  timestamptz,                     -- NULL: mail may be sent
    reason         text CHECK (reason IN ('unsubscribed', 'bounced', 'person')),
    PRIMARY KEY (tenant_id, address),
    CHECK ((suppressed_at IS NULL) = (reason IS NULL))
);

CREATE TABLE analytics.report_schedules (
    tenant_id          uuid NOT NULL REFERENCES platform.tenants ON DELETE CASCADE,
    report_id          uuid NOT NULL,
    name               text NOT NULL CHECK (name = btrim(name) AND length(name) BETWEEN 1 AND 100),
    period             text NOT NULL CHECK (period IN ('day', 'week', 'month')),
    cron               text NOT NULL CHECK (length(cron) BETWEEN 1 AND 200),
    locations          text[],                      -- NULL: every recipient
    policy             text NOT NULL CHECK (policy IN ('skip', 'coalesce', 'catch_up')),
    grace_seconds      double precision NOT NULL CHECK (grace_seconds >= 1),
    -- How long to wait for complete data before a notice is sent in its place.
    patience_seconds   integer NOT NULL CHECK (patience_seconds BETWEEN 0 AND 604800),
    enabled            boolean NOT NULL DEFAULT true,
    version            bigint NOT NULL DEFAULT 1,
    created_at         timestamptz NOT NULL DEFAULT now(),
    changed_at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, report_id),
    UNIQUE (tenant_id, name)
);

-- The schedule of the platform that stands for one zone of a report's recipients.
CREATE TABLE analytics.report_zones (
    tenant_id    uuid NOT NULL,
    report_id    uuid NOT NULL,
    zone         text NOT NULL,
    schedule_id  uuid NOT NULL,
    PRIMARY KEY (tenant_id, report_id, zone),
    FOREIGN KEY (tenant_id, report_id) REFERENCES analytics.report_schedules ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, schedule_id) REFERENCES platform.schedules ON DELETE CASCADE
);
CREATE INDEX report_zones_by_schedule ON analytics.report_zones (tenant_id, schedule_id);

CREATE TABLE analytics.report_runs (
    tenant_id     uuid NOT NULL REFERENCES platform.tenants ON DELETE CASCADE,
    run_id        uuid NOT NULL,
    report_id     uuid,                             -- NULL: somebody sent it now
    name          text NOT NULL,
    zone          text NOT NULL DEFAULT '',
    slot          timestamptz,                      -- NULL: somebody sent it now
    period        text NOT NULL CHECK (period IN ('day', 'week', 'month')),
    first_day     date NOT NULL,
    last_day      date NOT NULL,
    -- waiting: for complete data. cancelled: what was not sent never will be.
    state         text NOT NULL CHECK (state IN ('waiting', 'sending', 'done', 'cancelled')),
    notice        boolean NOT NULL DEFAULT false,   -- the data was not complete in time
    wait_until    timestamptz NOT NULL,
    job_id        uuid,                             -- that works on it, or will
    requested_by  text NOT NULL DEFAULT '',
    problem       text,                             -- why it does not go on; NULL: it does
    alerted_at    timestamptz,                      -- owners were told of the problem
    created_at    timestamptz NOT NULL DEFAULT now(),
    finished_at   timestamptz,
    PRIMARY KEY (tenant_id, run_id)
);
-- A slot makes one run, however often its job is tried.
CREATE UNIQUE INDEX report_runs_once ON analytics.report_runs (tenant_id, report_id, zone, slot)
    WHERE report_id IS NOT NULL;
CREATE INDEX report_runs_open ON analytics.report_runs (tenant_id)
    WHERE state IN ('waiting', 'sending');
CREATE INDEX report_runs_by_age ON analytics.report_runs (tenant_id, created_at);

CREATE TABLE analytics.report_deliveries (
    tenant_id      uuid NOT NULL,
    delivery_id    uuid NOT NULL,
    run_id         uuid NOT NULL,
    -- The key. series: 'schedule/<id>' or 'run/<id>'; recipient: an id, or 'test' for a mail to oneself.
    series         text NOT NULL,
    location_id    text,
    period         text NOT NULL,
    first_day      date NOT NULL,
    last_day       date NOT NULL,
    recipient      text NOT NULL,
    -- As they were when it was planned.
    address        text NOT NULL,
    name           text NOT NULL,
    language       text NOT NULL,
    time_zone      text NOT NULL,
    format         text NOT NULL,
    workbook       boolean NOT NULL,
    message_id     text NOT NULL,                   -- follows from the key; without angle brackets
    dated          timestamptz NOT NULL,            -- the mail's Date
    -- queued: not offered yet. sending: about to be handed over; found so after a crash, it is
    -- ambiguous. deferred: refused for now. ambiguous: it may have arrived, and is not sent again
    -- unless a person says so. failed: given up, through no fault of the address.
    state          text NOT NULL CHECK (state IN
        ('queued', 'sending', 'sent', 'deferred', 'bounced', 'suppressed', 'ambiguous', 'failed',
         'cancelled')),
    attempts       integer NOT NULL DEFAULT 0,      -- times it was offered to the server
    due_at         timestamptz NOT NULL DEFAULT now(),
    token          uuid,                            -- of the attempt that hands it over
    notice         boolean NOT NULL DEFAULT false,  -- what was sent was a notice
    data_version   bigint,                          -- of the figures that were sent
    content_hash   bytea,                           -- of the message, BLAKE2b
    server_answer  text,
    settled_at     timestamptz,                     -- when it reached its last state
    PRIMARY KEY (tenant_id, delivery_id),
    FOREIGN KEY (tenant_id, run_id) REFERENCES analytics.report_runs ON DELETE CASCADE
);
CREATE UNIQUE INDEX report_deliveries_once ON analytics.report_deliveries
    (tenant_id, series, coalesce(location_id, ''), period, first_day, recipient);
CREATE UNIQUE INDEX report_deliveries_by_message ON analytics.report_deliveries
    (tenant_id, message_id);
CREATE INDEX report_deliveries_by_run ON analytics.report_deliveries (tenant_id, run_id, state);
CREATE INDEX report_deliveries_by_address ON analytics.report_deliveries
    (tenant_id, lower(address));

-- Every step of every delivery; written by a trigger, so that no statement can forget it.
CREATE TABLE analytics.report_history (
    tenant_id      uuid NOT NULL,
    delivery_id    uuid NOT NULL,
    step           integer NOT NULL,                -- from 1
    state          text NOT NULL,
    attempts       integer NOT NULL,
    server_answer  text,
    at             timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, delivery_id, step),
    FOREIGN KEY (tenant_id, delivery_id) REFERENCES analytics.report_deliveries ON DELETE CASCADE
);

CREATE FUNCTION analytics.note_delivery() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
BEGIN
    INSERT INTO analytics.report_history
        (tenant_id, delivery_id, step, state, attempts, server_answer)
    SELECT new.tenant_id, new.delivery_id, 1 + coalesce(max(h.step), 0), new.state, new.attempts,
           new.server_answer
    FROM analytics.report_history h
    WHERE h.tenant_id = new.tenant_id AND h.delivery_id = new.delivery_id;
    RETURN NULL;
END
$$;
CREATE TRIGGER noted AFTER INSERT ON analytics.report_deliveries
    FOR EACH ROW EXECUTE FUNCTION analytics.note_delivery();
CREATE TRIGGER changed AFTER UPDATE ON analytics.report_deliveries
    FOR EACH ROW WHEN ((old.state, old.attempts) IS DISTINCT FROM (new.state, new.attempts))
    EXECUTE FUNCTION analytics.note_delivery();

-- What an address may not become again: a mail that was sent, bounced or suppressed stays so, and one
-- that may have arrived is queued again by a person only (the statement says so in a setting).
CREATE FUNCTION analytics.guard_delivery() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
DECLARE
    allowed text[] := CASE old.state
        WHEN 'queued' THEN
            '{sending,deferred,bounced,suppressed,failed,cancelled}'::text[]
        WHEN 'deferred' THEN
            '{sending,deferred,bounced,suppressed,failed,cancelled}'::text[]
        WHEN 'sending' THEN '{sent,deferred,bounced,failed,ambiguous}'::text[]
        WHEN 'ambiguous' THEN CASE
            WHEN current_setting('troupe.person_decides', true) = 'yes'
            THEN '{queued,sent,bounced,cancelled}'::text[] ELSE '{sent,bounced}'::text[] END
        WHEN 'sent' THEN '{bounced}'::text[]        -- a report of non-delivery came later
        WHEN 'failed' THEN CASE
            WHEN current_setting('troupe.person_decides', true) = 'yes'
            THEN '{queued}'::text[] ELSE '{}'::text[] END
        ELSE '{}'::text[] END;
BEGIN
    IF new.state <> old.state AND NOT new.state = ANY (allowed) THEN
        RAISE EXCEPTION 'a delivery that is % cannot become %', old.state, new.state
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN new;
END
$$;
CREATE TRIGGER guarded BEFORE UPDATE ON analytics.report_deliveries
    FOR EACH ROW EXECUTE FUNCTION analytics.guard_delivery();

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'report_settings', 'report_recipients', 'report_addresses', 'report_schedules',
        'report_zones', 'report_runs', 'report_deliveries', 'report_history'
    ] LOOP
        EXECUTE format('ALTER TABLE analytics.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE analytics.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY tenant ON analytics.%I USING (tenant_id = platform.current_tenant())'
            ' WITH CHECK (tenant_id = platform.current_tenant())', name);
        EXECUTE format(
            'GRANT SELECT, INSERT, UPDATE, DELETE ON analytics.%I TO troupe_runtime', name);
    END LOOP;
END
$$;
REVOKE UPDATE, DELETE ON analytics.report_history FROM troupe_runtime;
