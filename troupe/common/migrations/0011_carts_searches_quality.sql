-- Carts, searches and counts per event are derived like everything else; days are taken away when a
-- tenant keeps no more; a day says how it was derived, so that it can be derived anew without being
-- read again. docs/data-model.md draws it.

-- ---- sessions know where their branch is from

-- The branch that an event names ('': none does), so that the branch of everybody else can follow the
-- master data. NULL: derived before this column was there.
ALTER TABLE data.sessions ADD COLUMN own_location_id text;
ALTER TABLE data.sessions ADD COLUMN erp_customer_id text;
-- Those that the master data may move.
CREATE INDEX sessions_by_erp_customer ON data.sessions (tenant_id, erp_customer_id)
    WHERE own_location_id = '' AND erp_customer_id IS NOT NULL;
CREATE INDEX sessions_by_customer ON data.sessions (tenant_id, customer_id)
    WHERE customer_id IS NOT NULL;

-- ---- days

-- How the day's rows were derived (Reporting.derived_as); NULL: before that was noted.
ALTER TABLE data.source_days ADD COLUMN derived_as text;
-- removed: it was loaded, and is older than the tenant keeps.
ALTER TABLE data.source_days DROP CONSTRAINT source_days_state_check;
ALTER TABLE data.source_days ADD CONSTRAINT source_days_state_check
    CHECK (state IN ('loaded', 'stale', 'failed', 'missing', 'removed'));

-- ---- searches

-- One row per source day, day, session and term. Additive; sessions are counted distinctly. Written
-- whole source days at a time like activity, hence no key.
CREATE TABLE data.searches (
    tenant_id        uuid NOT NULL,
    source_day       date NOT NULL,
    day              date NOT NULL,             -- of the search, reporting zone
    first_at         timestamptz NOT NULL,
    last_at          timestamptz NOT NULL,
    stream_id        text,                      -- the session's key, or without a session NULL
    user_pseudo_id   text,                      -- also known without a session
    ga_session_id    bigint,
    location_id      text NOT NULL,             -- the session's, else the event's own
    term             text NOT NULL,             -- normalised; '': the event names none
    searches         integer NOT NULL,          -- failed ones included
    failed_searches  integer NOT NULL,
    purchased        boolean NOT NULL           -- a purchase that counts follows in the session
);
CREATE INDEX searches_by_day ON data.searches (tenant_id, day);
CREATE INDEX searches_by_source_day ON data.searches (tenant_id, source_day);
CREATE INDEX searches_by_session ON data.searches (tenant_id, user_pseudo_id, ga_session_id)
    WHERE ga_session_id IS NOT NULL;

-- ---- carts

-- What happens to carts, item by item: what episodes are folded from, so that a person's carts are
-- put together anew without reading events.
CREATE TABLE data.cart_events (
    tenant_id        uuid NOT NULL,
    source_day       date NOT NULL,
    position         integer NOT NULL,          -- order within the source day
    event_at         timestamptz NOT NULL,
    action           text NOT NULL CHECK (action IN ('add', 'remove', 'look', 'purchase')),
    stream_id        text,                      -- the session's key, or without a session NULL
    user_pseudo_id   text,
    ga_session_id    bigint,
    customer_id      text,                      -- the session's, else the event's own
    location_id      text NOT NULL,             -- likewise
    item_id          text,                      -- NULL: the event names no item
    item_name        text,
    item_category    text,
    price            numeric,
    quantity         bigint NOT NULL,
    currency         text NOT NULL,
    PRIMARY KEY (tenant_id, source_day, position)
);
CREATE INDEX cart_events_by_customer ON data.cart_events (tenant_id, customer_id)
    WHERE customer_id IS NOT NULL;
CREATE INDEX cart_events_by_visitor ON data.cart_events (tenant_id, user_pseudo_id)
    WHERE user_pseudo_id IS NOT NULL;

-- One row per person and episode: from the first item put into the cart until nothing has happened to
-- the cart for the tenant's idle time.
CREATE TABLE data.cart_episodes (
    tenant_id         uuid NOT NULL,
    is_customer       boolean NOT NULL,         -- person_id is a customer's id, else a visitor's
    person_id         text NOT NULL,
    opened_at         timestamptz NOT NULL,
    day               date NOT NULL,            -- of opened_at, reporting zone
    last_activity_at  timestamptz NOT NULL,
    idle_at           timestamptz NOT NULL,     -- from here on what is left counts as abandoned
    location_id       text NOT NULL,            -- of the last activity
    user_pseudo_id    text,                     -- visitor and session of the last activity
    stream_id         text,
    ga_session_id     bigint,
    items             integer NOT NULL,         -- different ones that were put in
    items_left        integer NOT NULL,         -- of them in the cart when the episode ended
    items_open        integer NOT NULL,         -- of those not bought since
    PRIMARY KEY (tenant_id, is_customer, person_id, opened_at)
);
CREATE INDEX cart_episodes_by_day ON data.cart_episodes (tenant_id, day);
CREATE INDEX cart_episodes_open ON data.cart_episodes (tenant_id, idle_at) WHERE items_open > 0;

CREATE TABLE data.cart_items (
    tenant_id       uuid NOT NULL,
    is_customer     boolean NOT NULL,
    person_id       text NOT NULL,
    opened_at       timestamptz NOT NULL,
    item_id         text NOT NULL,
    item_name       text,
    item_category   text,
    added_quantity  bigint NOT NULL,
    left_quantity   bigint NOT NULL,            -- when the episode ended
    open_quantity   bigint NOT NULL,            -- now: 0 once the item has been bought
    price           numeric NOT NULL,           -- when it was last put in; 0: none was named
    currency        text NOT NULL,
    bought_at       timestamptz,                -- first purchase of it after the episode
    PRIMARY KEY (tenant_id, is_customer, person_id, opened_at, item_id)
);

-- ---- counts per event

-- What was loaded, by event.
CREATE TABLE data.event_counts (
    tenant_id        uuid NOT NULL,
    source_day       date NOT NULL,
    event_name       text NOT NULL,
    loaded_rows      bigint NOT NULL,
    without_visitor  bigint NOT NULL,
    without_session  bigint NOT NULL,           -- those without a visitor included
    duplicates       bigint NOT NULL,           -- rows that say the same as another one, but for one
    PRIMARY KEY (tenant_id, source_day, event_name)
);

-- What the source has, by event: counted there when somebody asks for it.
CREATE TABLE data.source_event_counts (
    tenant_id        uuid NOT NULL,
    source_day       date NOT NULL,
    event_name       text NOT NULL,
    source_rows      bigint NOT NULL,
    PRIMARY KEY (tenant_id, source_day, event_name)
);
-- When that was done, and of which table.
ALTER TABLE data.source_days ADD COLUMN counted_at timestamptz;
ALTER TABLE data.source_days ADD COLUMN counted_modified timestamptz;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'searches', 'cart_events', 'cart_episodes', 'cart_items', 'event_counts',
        'source_event_counts'
    ] LOOP
        PERFORM data.guard_table('data', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON data.%I TO troupe_runtime', name);
    END LOOP;
END
$$;

-- ---- doors

-- The place to note whose carts a publication changes; gone when the transaction ends.
CREATE FUNCTION data.open_cart_bench() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    CREATE TEMP TABLE changed_persons (
        is_customer boolean NOT NULL, person_id text NOT NULL, PRIMARY KEY (is_customer, person_id)
    ) ON COMMIT DROP;
    GRANT SELECT, INSERT ON pg_temp.changed_persons TO troupe_runtime;
END
$$;

-- The tables that a publication notes changes in, without a view of events: for changes that come
-- from elsewhere (master data).
CREATE FUNCTION data.open_session_bench() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    CREATE TEMP TABLE changed_sessions (
        stream_id text NOT NULL, user_pseudo_id text NOT NULL, ga_session_id bigint NOT NULL,
        PRIMARY KEY (user_pseudo_id, ga_session_id, stream_id)
    ) ON COMMIT DROP;
    CREATE TEMP TABLE changed_days (day date PRIMARY KEY) ON COMMIT DROP;
    GRANT SELECT, INSERT ON pg_temp.changed_sessions, pg_temp.changed_days TO troupe_runtime;
END
$$;

-- Statistics of derived tables that nobody has looked at yet. Until autovacuum comes round, a minute
-- after the first load, the planner knows nothing of them and rolls that load up by loops in loops:
-- minutes instead of a second.
CREATE FUNCTION data.measure_new_tables() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    name text;
BEGIN
    FOR name IN
        SELECT c.relname FROM pg_class c
        WHERE c.relnamespace = 'data'::regnamespace AND c.relkind = 'r' AND c.reltuples < 0
          AND c.relname IN ('sessions', 'activity', 'purchases', 'cart_events', 'searches')
        ORDER BY c.relname
    LOOP
        EXECUTE format('ANALYZE data.%I', name);
    END LOOP;
END
$$;

-- Drops the partition of a day that holds nothing any more. Waits for readers as publish_day does.
CREATE FUNCTION data.drop_empty_day(p_tenant uuid, p_source_day date) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET lock_timeout = '4s'
AS $$
DECLARE
    live text := format('%s_%s', data.tenant_partition(p_tenant), to_char(p_source_day, 'YYYYMMDD'));
    filled boolean;
BEGIN
    PERFORM data.demand_tenant(p_tenant);
    IF to_regclass(format('data.%I', live)) IS NULL THEN
        RETURN;
    END IF;
    EXECUTE format('SELECT EXISTS (SELECT FROM data.%I)', live) INTO filled;
    IF filled THEN
        RAISE EXCEPTION 'the day is not empty' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    EXECUTE format('DROP TABLE data.%I', live);
END
$$;

DO $$
DECLARE
    door text;
BEGIN
    FOREACH door IN ARRAY ARRAY[
        'open_cart_bench()', 'open_session_bench()', 'drop_empty_day(uuid, date)',
        'measure_new_tables()'
    ] LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION data.%s FROM PUBLIC', door);
        EXECUTE format('GRANT EXECUTE ON FUNCTION data.%s TO troupe_runtime', door);
    END LOOP;
END
$$;
