-- What was extracted and what is derived from it. docs/data-model.md draws it.
--
-- Vocabulary: a *source day* is the day in the property's zone, as the export's tables are named;
-- a *day* is a day in the tenant's reporting zone. A *branch* is a location of the master data; the
-- empty string means "no branch known", so that it can stand in a primary key.

-- One row per tenant: what analytics can see. Raised in the transaction that changes it.
CREATE TABLE data.versions (
    tenant_id     uuid PRIMARY KEY REFERENCES platform.tenants ON DELETE CASCADE,
    data_version  bigint NOT NULL DEFAULT 0,
    first_day     date,                         -- first day with events, reporting zone
    data_until    date,                         -- last complete day, reporting zone
    updated_at    timestamptz NOT NULL DEFAULT now()
);

-- One row per source day that we know of, also of days that failed or are missing at the source.
CREATE TABLE data.source_days (
    tenant_id        uuid NOT NULL REFERENCES platform.tenants ON DELETE CASCADE,
    source_day       date NOT NULL,
    -- loaded: as the source had it when last looked at. stale: rows are here, the source has others
    -- that could not be loaded. failed: the source has rows, none could be loaded yet. missing: the
    -- source has no table for the day, and nothing was ever loaded.
    state            text NOT NULL CHECK (state IN ('loaded', 'stale', 'failed', 'missing')),
    family           text CHECK (family IN ('daily', 'fresh', 'intraday')),
    source_modified  timestamptz,               -- last_modified_time of the table that was loaded
    source_rows      bigint,                    -- row count of that table
    loaded_rows      bigint,
    loaded_at        timestamptz,
    first_event_at   timestamptz,               -- of the loaded rows; NULL for an empty day
    last_event_at    timestamptz,
    extraction       text,                      -- how the rows were read and cut: a fingerprint
    scanned_bytes    bigint,                    -- the dry run's estimate for that query
    checked_at       timestamptz NOT NULL DEFAULT now(),
    problem          text,                      -- one sentence; NULL when there is none
    PRIMARY KEY (tenant_id, source_day)
);

-- Flattened events. LIST by tenant, below it RANGE by source day; a day is one partition that is
-- built beside the live one in schema staging, and swapped.
CREATE TABLE data.events (
    tenant_id              uuid NOT NULL,
    source_day             date NOT NULL,
    event_at               timestamptz NOT NULL,
    event_name             text NOT NULL,
    stream_id              text,
    user_pseudo_id         text,
    ga_session_id          bigint,
    ga_session_number      bigint,
    session_engaged        boolean,
    engagement_ms          bigint,
    is_active_user         boolean,
    user_id                text,
    customer_id            text,                -- login id, else ERP id: user properties by name
    erp_customer_id        text,                -- the master data's id of whom the person orders for
    location_id            text,                -- branch, from the parameter or property it names
    page_location          text,
    page_title             text,
    page_referrer          text,
    search_term            text,                -- as typed
    source                 text,
    medium                 text,
    campaign               text,
    channel                text,                -- default channel group of the session, when exported
    device_category        text,
    operating_system       text,
    browser                text,
    language               text,
    country                text,
    region                 text,
    city                   text,
    currency               text,
    event_value            numeric,
    transaction_id         text,
    purchase_revenue       numeric,
    refund_value           numeric,
    shipping_value         numeric,
    tax_value              numeric,
    items                  jsonb,               -- [{"id","name","category","price","quantity","revenue"}]
    parameters             jsonb,               -- all other event parameters, {"key": value}
    bundle_sequence_id     bigint,
    batch_event_index      bigint               -- orders events of one bundle with equal times
) PARTITION BY LIST (tenant_id);

-- One row per session, on the day (reporting zone) on which it starts.
CREATE TABLE data.sessions (
    tenant_id        uuid NOT NULL,
    day              date NOT NULL,
    stream_id        text NOT NULL,
    user_pseudo_id   text NOT NULL,
    ga_session_id    bigint NOT NULL,
    started_at       timestamptz NOT NULL,
    ended_at         timestamptz NOT NULL,
    last_day         date NOT NULL,             -- day of ended_at: later than day over midnight
    first_source_day date NOT NULL,             -- where its events lie
    last_source_day  date NOT NULL,
    session_number   bigint,
    engaged          boolean NOT NULL,
    engagement_ms    bigint NOT NULL,
    customer_id      text,
    location_id      text NOT NULL DEFAULT '',
    channel          text NOT NULL,
    channel_rules    smallint,                  -- version of our rules; NULL: the export's own group
    source           text,
    medium           text,
    campaign         text,
    device_category  text,
    country          text,
    landing_page     text,
    events           integer NOT NULL,
    page_views       integer NOT NULL,
    item_views       integer NOT NULL,
    cart_additions   integer NOT NULL,
    checkouts        integer NOT NULL,
    purchases        integer NOT NULL,          -- deduplicated
    PRIMARY KEY (tenant_id, day, stream_id, user_pseudo_id, ga_session_id)
);
CREATE INDEX sessions_by_key ON data.sessions (tenant_id, user_pseudo_id, ga_session_id);
-- The few that go on after midnight: which earlier days reach into a given one.
CREATE INDEX sessions_over_midnight ON data.sessions (tenant_id, last_day) WHERE last_day > day;

-- Events of one source day added up per clock hour and session; without a session per visitor and
-- the event's own branch. Rollups are made from these rows, some ten times fewer than the events: a
-- day whose neighbour is replaced is rolled anew without reading its events. Its branch is not here
-- but in the session, because a later event may still change that. Only read and written whole days
-- at a time, hence no key.
CREATE TABLE data.activity (
    tenant_id        uuid NOT NULL,
    source_day       date NOT NULL,
    day              date NOT NULL,             -- reporting zone
    hour_start       timestamptz NOT NULL,      -- as in hourly_rollup
    stream_id        text,                      -- the session's key, or three times NULL
    user_pseudo_id   text,                      -- also known without a session
    ga_session_id    bigint,
    own_location_id  text,                      -- branch of events without a session
    events           bigint NOT NULL,
    page_views       bigint NOT NULL,
    searches         bigint NOT NULL,
    failed_searches  bigint NOT NULL,
    active           boolean NOT NULL,
    new              boolean NOT NULL,
    "returning"      boolean NOT NULL
);
CREATE INDEX activity_by_source_day ON data.activity (tenant_id, source_day);

-- One row per visitor, day and branch: exact distincts over any range and filter.
CREATE TABLE data.user_day (
    tenant_id       uuid NOT NULL,
    day             date NOT NULL,
    location_id     text NOT NULL,
    user_pseudo_id  text NOT NULL,
    active          boolean NOT NULL,
    new             boolean NOT NULL,
    "returning"     boolean NOT NULL,
    purchaser       boolean NOT NULL,
    PRIMARY KEY (tenant_id, day, location_id, user_pseudo_id)
);
CREATE INDEX user_day_covering ON data.user_day (tenant_id, day)
    INCLUDE (user_pseudo_id, location_id, active, new, "returning", purchaser);

-- Additive counts per clock hour and branch. hour_start is the hour's beginning in the reporting
-- zone as an instant, so that the hour that a clock change repeats is two rows.
CREATE TABLE data.hourly_rollup (
    tenant_id                uuid NOT NULL,
    day                      date NOT NULL,
    hour_start               timestamptz NOT NULL,
    location_id              text NOT NULL,
    events                   bigint NOT NULL,
    events_without_consent   bigint NOT NULL,
    page_views               bigint NOT NULL,
    sessions                 bigint NOT NULL,
    engaged_sessions         bigint NOT NULL,
    sessions_with_cart       bigint NOT NULL,
    sessions_with_checkout   bigint NOT NULL,
    sessions_with_purchase   bigint NOT NULL,
    sessions_with_cart_without_purchase bigint NOT NULL,
    searches                 bigint NOT NULL,
    failed_searches          bigint NOT NULL,
    PRIMARY KEY (tenant_id, day, hour_start, location_id)
);

-- The same per day: what a dashboard of months reads.
CREATE TABLE data.daily_rollup (
    tenant_id                uuid NOT NULL,
    day                      date NOT NULL,
    location_id              text NOT NULL,
    events                   bigint NOT NULL,
    events_without_consent   bigint NOT NULL,
    page_views               bigint NOT NULL,
    sessions                 bigint NOT NULL,
    engaged_sessions         bigint NOT NULL,
    sessions_with_cart       bigint NOT NULL,
    sessions_with_checkout   bigint NOT NULL,
    sessions_with_purchase   bigint NOT NULL,
    sessions_with_cart_without_purchase bigint NOT NULL,
    searches                 bigint NOT NULL,
    failed_searches          bigint NOT NULL,
    PRIMARY KEY (tenant_id, day, location_id)
);

-- Money per day, hour, branch and currency: never added across currencies.
CREATE TABLE data.money_rollup (
    tenant_id       uuid NOT NULL,
    day             date NOT NULL,
    hour_start      timestamptz NOT NULL,
    location_id     text NOT NULL,
    currency        text NOT NULL,
    purchases       bigint NOT NULL,            -- deduplicated
    gross_revenue   numeric NOT NULL,
    refunds         bigint NOT NULL,
    refund_value    numeric NOT NULL,
    PRIMARY KEY (tenant_id, day, hour_start, location_id, currency)
);

-- Every purchase event. `counted` is false for what deduplication drops: (visitor, transaction)
-- counts once for all time, the earliest; an id that is null, empty or '(not set)' is no key, nor is
-- an unknown visitor.
-- purchase_id is yyyymmdd of the source day, then six digits: loading the same day again gives the
-- same ids.
CREATE TABLE data.purchases (
    tenant_id         uuid NOT NULL,
    purchase_id       bigint NOT NULL,
    source_day        date NOT NULL,
    day               date NOT NULL,
    purchased_at      timestamptz NOT NULL,
    stream_id         text,
    user_pseudo_id    text,
    ga_session_id     bigint,
    customer_id       text,
    location_id       text NOT NULL DEFAULT '',
    transaction_id    text,                     -- NULL when the export's is no key
    currency          text NOT NULL,            -- the reporting currency when the export names none
    currency_missing  boolean NOT NULL,
    revenue           numeric NOT NULL,
    event_value       numeric,
    items             jsonb,
    bundle_sequence_id bigint,                  -- with batch_event_index: which of two purchases in
    batch_event_index bigint,                   -- the same microsecond came first
    counted           boolean NOT NULL,
    value_mismatch    boolean NOT NULL,         -- value and purchase_revenue differ by over a cent
    PRIMARY KEY (tenant_id, purchase_id)
);
CREATE INDEX purchases_by_day ON data.purchases (tenant_id, day);
CREATE INDEX purchases_by_source_day ON data.purchases (tenant_id, source_day);
CREATE INDEX purchases_by_transaction
    ON data.purchases (tenant_id, transaction_id, user_pseudo_id)
    WHERE transaction_id IS NOT NULL;
CREATE INDEX purchases_by_session
    ON data.purchases (tenant_id, user_pseudo_id, ga_session_id)
    WHERE user_pseudo_id IS NOT NULL AND ga_session_id IS NOT NULL;

CREATE TABLE data.refunds (
    tenant_id         uuid NOT NULL,
    refund_id         bigint NOT NULL,          -- made like purchase_id
    source_day        date NOT NULL,
    day               date NOT NULL,
    refunded_at       timestamptz NOT NULL,
    stream_id         text,
    user_pseudo_id    text,
    ga_session_id     bigint,
    location_id       text NOT NULL DEFAULT '',
    transaction_id    text,
    currency          text NOT NULL,
    refund_value      numeric NOT NULL,
    PRIMARY KEY (tenant_id, refund_id)
);
CREATE INDEX refunds_by_day ON data.refunds (tenant_id, day);
CREATE INDEX refunds_by_source_day ON data.refunds (tenant_id, source_day);
CREATE INDEX refunds_by_session
    ON data.refunds (tenant_id, user_pseudo_id, ga_session_id)
    WHERE user_pseudo_id IS NOT NULL AND ga_session_id IS NOT NULL;

-- Master data, from SFTP.
CREATE TABLE data.locations (
    tenant_id     uuid NOT NULL REFERENCES platform.tenants ON DELETE CASCADE,
    location_id   text NOT NULL,
    name          text NOT NULL,
    city          text,
    email         text,
    manager       text,
    PRIMARY KEY (tenant_id, location_id)
);
CREATE TABLE data.customers (
    tenant_id     uuid NOT NULL REFERENCES platform.tenants ON DELETE CASCADE,
    customer_id   text NOT NULL,
    company       text,
    contact       text,
    email         text,
    phone         text,
    location_id   text,
    PRIMARY KEY (tenant_id, customer_id)
);

-- Tables in schema staging that wait to become a day, and which attempt of which job fills them. A
-- crashed attempt leaves its rows here, so that the next one knows what to drop.
CREATE TABLE data.staged_days (
    tenant_id    uuid NOT NULL REFERENCES platform.tenants ON DELETE CASCADE,
    table_name   text NOT NULL,
    source_day   date NOT NULL,
    job_id       uuid NOT NULL,
    staged_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, table_name)
);

-- Every table above belongs to tenants and says so in the same words.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'versions', 'source_days', 'events', 'sessions', 'user_day', 'hourly_rollup',
        'daily_rollup', 'money_rollup', 'purchases', 'refunds', 'locations', 'customers',
        'staged_days', 'activity'
    ] LOOP
        EXECUTE format('ALTER TABLE data.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE data.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY tenant ON data.%I USING (tenant_id = platform.current_tenant())'
            ' WITH CHECK (tenant_id = platform.current_tenant())', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON data.%I TO troupe_runtime', name);
    END LOOP;
END
$$;

REVOKE INSERT, UPDATE, DELETE ON data.staged_days FROM troupe_runtime;

-- Doors for replacing a day. COPY is refused on tables with row-level security, and only the owner
-- of data.events may attach a partition to it; so these functions run as their owner, troupe_owner.
-- They are no way around tenancy: row-level security is forced on the owner too, each door refuses a
-- tenant that is not the transaction's, and a table is only touched when data.staged_days says that
-- it is that tenant's. docs/adr/0007-day-replacement.md tells why a day takes this road.

CREATE FUNCTION data.demand_tenant(p_tenant uuid) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF p_tenant IS NULL OR p_tenant IS DISTINCT FROM platform.current_tenant() THEN
        RAISE EXCEPTION 'the transaction does not belong to this tenant'
            USING ERRCODE = 'insufficient_privilege';
    END IF;
END
$$;

-- The partition of data.events that holds all days of one tenant.
CREATE FUNCTION data.tenant_partition(p_tenant uuid) RETURNS text
    LANGUAGE sql IMMUTABLE
    RETURN 'events_' || replace(p_tenant::text, '-', '');

-- Row-level security on a table that a door has made: the words of every other table.
CREATE FUNCTION data.guard_table(p_schema text, p_table text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format('ALTER TABLE %I.%I ENABLE ROW LEVEL SECURITY', p_schema, p_table);
    EXECUTE format('ALTER TABLE %I.%I FORCE ROW LEVEL SECURITY', p_schema, p_table);
    EXECUTE format(
        'CREATE POLICY tenant ON %I.%I USING (tenant_id = platform.current_tenant())'
        ' WITH CHECK (tenant_id = platform.current_tenant())', p_schema, p_table);
END
$$;

-- Makes an empty table for one day's rows and says its name. The runtime role may insert into it and
-- nothing else; the check lets in the tenant's rows of that day only, and saves the scan that
-- attaching would otherwise need.
CREATE FUNCTION data.stage_day(p_tenant uuid, p_source_day date, p_job uuid) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    parent text := data.tenant_partition(p_tenant);
    name text := format('%s_%s_%s', parent, to_char(p_source_day, 'YYYYMMDD'),
                        left(replace(gen_random_uuid()::text, '-', ''), 6));
BEGIN
    PERFORM data.demand_tenant(p_tenant);
    IF to_regclass(format('data.%I', parent)) IS NULL THEN
        -- Two days of a new tenant may come here at once. The lock is the one that attaching takes
        -- anyway; waiting for it also makes what the other one did visible.
        LOCK TABLE data.events IN SHARE UPDATE EXCLUSIVE MODE;
        IF to_regclass(format('data.%I', parent)) IS NULL THEN
            -- Made, guarded, then attached: CREATE … PARTITION OF would lock out every reader.
            EXECUTE format('CREATE TABLE data.%I (LIKE data.events INCLUDING ALL)'
                           ' PARTITION BY RANGE (source_day)', parent);
            PERFORM data.guard_table('data', parent);
            EXECUTE format('ALTER TABLE data.events ATTACH PARTITION data.%I FOR VALUES IN (%L)',
                           parent, p_tenant);
        END IF;
    END IF;
    EXECUTE format(
        'CREATE TABLE staging.%I (LIKE data.events INCLUDING ALL,'
        ' CONSTRAINT one_day CHECK (tenant_id = %L::uuid'
        ' AND source_day >= %L::date AND source_day < %L::date))',
        name, p_tenant, p_source_day, p_source_day + 1);
    EXECUTE format('GRANT INSERT ON staging.%I TO troupe_runtime', name);
    INSERT INTO data.staged_days (tenant_id, table_name, source_day, job_id)
    VALUES (p_tenant, name, p_source_day, p_job);
    RETURN name;
END
$$;

-- Ends the loading of a staged table: guards it, lets the runtime role read it, indexes it and
-- gathers its statistics. All that takes time happens here, before anything is locked.
CREATE FUNCTION data.seal_day(p_tenant uuid, p_table text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM data.demand_tenant(p_tenant);
    PERFORM FROM data.staged_days WHERE tenant_id = p_tenant AND table_name = p_table;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no staged table of that name' USING ERRCODE = 'undefined_table';
    END IF;
    EXECUTE format('REVOKE INSERT ON staging.%I FROM troupe_runtime', p_table);
    PERFORM data.guard_table('staging', p_table);
    EXECUTE format('GRANT SELECT ON staging.%I TO troupe_runtime', p_table);
    EXECUTE format('CREATE INDEX %I ON staging.%I (user_pseudo_id, event_at)',
                   p_table || '_visitor', p_table);
    -- Only what joins and groupings look at: statistics of all columns take as long as the copy.
    EXECUTE format('ANALYZE staging.%I (tenant_id, source_day, event_at, event_name, stream_id,'
                   ' user_pseudo_id, ga_session_id)', p_table);
END
$$;

-- Puts a sealed table in the place of the live day. Readers of this tenant's events wait from here
-- until the transaction ends, so this comes last in it. It gives up after four seconds behind a long
-- reader (55P03) rather than queue everyone else behind itself.
CREATE FUNCTION data.publish_day(p_tenant uuid, p_table text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET lock_timeout = '4s'
AS $$
DECLARE
    parent text := data.tenant_partition(p_tenant);
    live text;
    replaced date;
BEGIN
    PERFORM data.demand_tenant(p_tenant);
    DELETE FROM data.staged_days WHERE tenant_id = p_tenant AND table_name = p_table
        RETURNING source_day INTO replaced;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no staged table of that name' USING ERRCODE = 'undefined_table';
    END IF;
    live := format('%s_%s', parent, to_char(replaced, 'YYYYMMDD'));
    EXECUTE format('REVOKE ALL ON staging.%I FROM troupe_runtime', p_table);
    EXECUTE format('DROP TABLE IF EXISTS data.%I', live);
    EXECUTE format('ALTER TABLE staging.%I SET SCHEMA data', p_table);
    EXECUTE format('ALTER TABLE data.%I RENAME TO %I', p_table, live);
    EXECUTE format('ALTER INDEX data.%I RENAME TO %I', p_table || '_visitor', live || '_visitor');
    EXECUTE format('ALTER TABLE data.%I ATTACH PARTITION data.%I FOR VALUES FROM (%L) TO (%L)',
                   parent, live, replaced, replaced + 1);
END
$$;

-- Drops one staged table, or (NULL) every one that an earlier attempt of this job left behind or
-- that is older than a day. Says how many.
CREATE FUNCTION data.discard_staged(p_tenant uuid, p_job uuid, p_table text DEFAULT NULL)
    RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET lock_timeout = '4s'
AS $$
DECLARE
    name text;
    dropped integer := 0;
BEGIN
    PERFORM data.demand_tenant(p_tenant);
    FOR name IN
        DELETE FROM data.staged_days
        WHERE tenant_id = p_tenant
          AND CASE WHEN p_table IS NULL THEN job_id = p_job OR staged_at < now() - interval '1 day'
                   ELSE table_name = p_table END
        RETURNING table_name
    LOOP
        EXECUTE format('DROP TABLE IF EXISTS staging.%I', name);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END
$$;

-- What a publication works with, for this session and until the transaction ends: the view
-- pg_temp.events_after shows the events as they will be once the staged table is published (NULL: as
-- they are), and empty tables take what derive.sql finds out. They are made here because the runtime
-- role may not make temporary tables. The view looks with its reader's rights: it shows nothing that
-- was hidden before. Its two comparisons (instead of <>) let the planner leave the replaced
-- partition out.
CREATE FUNCTION data.open_workbench(p_tenant uuid, p_table text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    replaced date;
BEGIN
    PERFORM data.demand_tenant(p_tenant);
    IF p_table IS NULL THEN
        CREATE TEMP VIEW events_after WITH (security_invoker) AS SELECT * FROM data.events;
    ELSE
        SELECT source_day INTO replaced FROM data.staged_days
        WHERE tenant_id = p_tenant AND table_name = p_table;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'there is no staged table of that name' USING ERRCODE = 'undefined_table';
        END IF;
        EXECUTE format(
            'CREATE TEMP VIEW events_after WITH (security_invoker) AS'
            ' SELECT * FROM data.events WHERE source_day < %L OR source_day >= %L'
            ' UNION ALL SELECT * FROM staging.%I',
            replaced, replaced + 1, p_table);
    END IF;
    GRANT SELECT ON pg_temp.events_after TO troupe_runtime;
    CREATE TEMP TABLE changed_transactions (
        user_pseudo_id text NOT NULL, transaction_id text NOT NULL
    ) ON COMMIT DROP;
    CREATE TEMP TABLE changed_sessions (
        stream_id text NOT NULL, user_pseudo_id text NOT NULL, ga_session_id bigint NOT NULL,
        PRIMARY KEY (user_pseudo_id, ga_session_id, stream_id)
    ) ON COMMIT DROP;
    CREATE TEMP TABLE spanning_sessions (LIKE pg_temp.changed_sessions) ON COMMIT DROP;
    CREATE TEMP TABLE changed_days (day date PRIMARY KEY) ON COMMIT DROP;
    GRANT SELECT, INSERT ON pg_temp.changed_transactions, pg_temp.changed_sessions,
        pg_temp.spanning_sessions, pg_temp.changed_days TO troupe_runtime;
END
$$;

-- Statistics of the workbench: without them the planner takes its tables for small ones.
CREATE FUNCTION data.measure_workbench() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    ANALYZE pg_temp.changed_transactions, pg_temp.changed_sessions, pg_temp.spanning_sessions;
END
$$;

-- Takes the view away; the tables go by themselves when the transaction ends.
CREATE FUNCTION data.close_workbench() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DROP VIEW pg_temp.events_after;
END
$$;

DO $$
DECLARE
    door text;
BEGIN
    FOREACH door IN ARRAY ARRAY[
        'demand_tenant(uuid)', 'tenant_partition(uuid)', 'guard_table(text, text)',
        'stage_day(uuid, date, uuid)', 'seal_day(uuid, text)', 'publish_day(uuid, text)',
        'discard_staged(uuid, uuid, text)', 'open_workbench(uuid, text)', 'measure_workbench()',
        'close_workbench()'
    ] LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION data.%s FROM PUBLIC', door);
    END LOOP;
    FOREACH door IN ARRAY ARRAY[
        'stage_day(uuid, date, uuid)', 'seal_day(uuid, text)', 'publish_day(uuid, text)',
        'discard_staged(uuid, uuid, text)', 'open_workbench(uuid, text)', 'measure_workbench()',
        'close_workbench()'
    ] LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION data.%s TO troupe_runtime', door);
    END LOOP;
END
$$;

-- A transaction id that can identify a purchase, or NULL.
CREATE FUNCTION data.transaction_key(p_id text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN btrim(p_id) IN ('', '(not set)') THEN NULL ELSE p_id END;

-- Google's category of a traffic source: the well-known sites of the published list, as a bare name
-- ("google") or as the host that a referrer has ("de.search.yahoo.com"). docs.google.com is no search.
CREATE FUNCTION data.source_category(p_source text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE
        WHEN p_source ~ ('^(.*\.)?(amazon|ebay|etsy|alibaba|aliexpress|shopzilla|idealo|mercadolibre'
            '|rakuten|walmart|zalando|igshopping|shopping\.google)(\.[a-z]{2,3}){0,2}$') THEN 'shopping'
        WHEN p_source ~ ('^(.*\.)?(youtube|youtu\.be|vimeo|dailymotion|twitch|netflix|hulu|disneyplus'
            '|wistia|crackle|iqiyi|veoh|youku)(\.[a-z]{2,3}){0,2}$') THEN 'video'
        WHEN p_source ~ ('^(.*\.)?(facebook|instagram|linkedin|lnkd\.in|twitter|pinterest|reddit'
            '|tiktok|snapchat|threads|tumblr|quora|vkontakte|weibo|wechat|whatsapp|xing|bsky'
            '|messenger|telegram|flickr|meetup|yelp|tripadvisor)(\.[a-z]{2,6}){0,2}$') THEN 'social'
        WHEN p_source IN ('fb', 'ig', 'x', 'x.com', 't.co', 't.me', 'vk', 'vk.com') THEN 'social'
        WHEN p_source ~ ('^([a-z]{2,3}\.)?((www|m|search|images|news)\.)?(google|bing|yahoo|duckduckgo'
            '|baidu|yandex|ecosia|qwant|naver|daum|seznam|ask|aol|startpage|brave|sogou|so|lycos|msn'
            '|rambler)(\.[a-z]{2,3}){0,2}$') THEN 'search'
    END;

-- Version of the rules below; a session keeps the version that classified it.
CREATE FUNCTION data.channel_rules() RETURNS smallint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN 1::smallint;

-- The default channel group as Google publishes its rules for manual traffic: the first that matches
-- wins, letter case does not count. A session that names no source, medium or campaign is direct.
CREATE FUNCTION data.default_channel_group(p_source text, p_medium text, p_campaign text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT CASE
        WHEN source IS NULL AND medium IS NULL AND campaign IS NULL THEN 'Direct'
        WHEN source = '(direct)' AND coalesce(medium, '(none)') IN ('(none)', '(not set)')
            THEN 'Direct'
        WHEN campaign LIKE '%cross-network%' THEN 'Cross-network'
        WHEN paid AND (category = 'shopping' OR shop_campaign) THEN 'Paid Shopping'
        WHEN paid AND category = 'search' THEN 'Paid Search'
        WHEN paid AND category = 'social' THEN 'Paid Social'
        WHEN paid AND category = 'video' THEN 'Paid Video'
        WHEN medium IN ('display', 'banner', 'expandable', 'interstitial', 'cpm') THEN 'Display'
        WHEN paid THEN 'Paid Other'
        WHEN category = 'shopping' OR shop_campaign THEN 'Organic Shopping'
        WHEN category = 'social' OR medium IN (
                 'social', 'social-network', 'social-media', 'sm', 'social network', 'social media')
            THEN 'Organic Social'
        WHEN category = 'video' OR medium LIKE '%video%' THEN 'Organic Video'
        WHEN category = 'search' OR medium = 'organic' THEN 'Organic Search'
        WHEN medium IN ('referral', 'app', 'link') THEN 'Referral'
        WHEN source IN ('email', 'e-mail', 'e_mail', 'e mail')
          OR medium IN ('email', 'e-mail', 'e_mail', 'e mail') THEN 'Email'
        WHEN medium = 'affiliate' THEN 'Affiliates'
        WHEN medium = 'audio' THEN 'Audio'
        WHEN source = 'sms' OR medium = 'sms' THEN 'SMS'
        WHEN medium LIKE '%push' OR medium LIKE '%mobile%' OR medium LIKE '%notification%'
          OR source = 'firebase' THEN 'Mobile Push Notifications'
        ELSE 'Unassigned'
    END
    FROM (
        SELECT lower(nullif(btrim(p_source), '')) AS source,
               lower(nullif(btrim(p_medium), '')) AS medium,
               lower(nullif(btrim(p_campaign), '')) AS campaign,
               data.source_category(lower(btrim(p_source))) AS category,
               coalesce(lower(btrim(p_medium)) ~ '^(.*cp.*|ppc|retargeting|paid.*)$', false) AS paid,
               coalesce(lower(p_campaign) ~ '(([^a-df-z]|^)shop|shopping)', false) AS shop_campaign
    ) AS traffic
$$;
