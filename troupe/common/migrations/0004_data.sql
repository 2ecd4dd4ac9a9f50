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
    state            text NOT NULL CHECK (state IN ('loaded', 'missing', 'stale')),
    family           text CHECK (family IN ('daily', 'fresh', 'intraday')),
    source_modified  timestamptz,               -- last_modified_time of the table that was loaded
    source_rows      bigint,                    -- row count of that table
    loaded_rows      bigint,
    loaded_at        timestamptz,
    checked_at       timestamptz NOT NULL DEFAULT now(),
    problem          text,                      -- why it is stale, one sentence
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
    ga_session_number      integer,
    session_engaged        boolean,
    engagement_ms          bigint,
    is_active_user         boolean,
    user_id                text,
    customer_id            text,                -- from the user properties that the tenant names
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
    session_number   integer,
    engaged          boolean NOT NULL,
    engagement_ms    bigint NOT NULL,
    customer_id      text,
    location_id      text NOT NULL DEFAULT '',
    channel          text NOT NULL,
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

-- One row per visitor, day and branch: exact distincts over any range and filter.
CREATE TABLE data.user_day (
    tenant_id       uuid NOT NULL,
    day             date NOT NULL,
    location_id     text NOT NULL,
    user_pseudo_id  text NOT NULL,
    active          boolean NOT NULL,
    new             boolean NOT NULL,
    returning       boolean NOT NULL,
    purchaser       boolean NOT NULL,
    PRIMARY KEY (tenant_id, day, location_id, user_pseudo_id)
);
CREATE INDEX user_day_covering ON data.user_day (tenant_id, day)
    INCLUDE (user_pseudo_id, location_id, active, new, returning, purchaser);

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
-- counts once for all time, the earliest; an id that is null, empty or '(not set)' is no key.
CREATE TABLE data.purchases (
    tenant_id         uuid NOT NULL,
    purchase_id       bigint GENERATED ALWAYS AS IDENTITY,
    source_day        date NOT NULL,
    day               date NOT NULL,
    purchased_at      timestamptz NOT NULL,
    stream_id         text,
    user_pseudo_id    text,
    ga_session_id     bigint,
    customer_id       text,
    location_id       text NOT NULL DEFAULT '',
    transaction_id    text,                     -- NULL when the export's is no key
    currency          text NOT NULL,
    revenue           numeric NOT NULL,
    event_value       numeric,
    items             jsonb,
    counted           boolean NOT NULL,
    value_mismatch    boolean NOT NULL,         -- value and purchase_revenue differ by over a cent
    PRIMARY KEY (tenant_id, purchase_id)
);
CREATE INDEX purchases_by_day ON data.purchases (tenant_id, day);
CREATE INDEX purchases_by_source_day ON data.purchases (tenant_id, source_day);
CREATE INDEX purchases_by_transaction
    ON data.purchases (tenant_id, user_pseudo_id, transaction_id, purchased_at)
    WHERE transaction_id IS NOT NULL;

CREATE TABLE data.refunds (
    tenant_id         uuid NOT NULL,
    refund_id         bigint GENERATED ALWAYS AS IDENTITY,
    source_day        date NOT NULL,
    day               date NOT NULL,
    refunded_at       timestamptz NOT NULL,
    user_pseudo_id    text,
    location_id       text NOT NULL DEFAULT '',
    transaction_id    text,
    currency          text NOT NULL,
    refund_value      numeric NOT NULL,
    PRIMARY KEY (tenant_id, refund_id)
);
CREATE INDEX refunds_by_day ON data.refunds (tenant_id, day);
CREATE INDEX refunds_by_source_day ON data.refunds (tenant_id, source_day);

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

-- Every table above belongs to tenants and says so in the same words.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'versions', 'source_days', 'events', 'sessions', 'user_day', 'hourly_rollup',
        'daily_rollup', 'money_rollup', 'purchases', 'refunds', 'locations', 'customers'
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
