-- The digest of a day: what follows from the rows of one source day alone. Run by digest.py, with the
-- workbench open, before a publication or at its beginning; derive.sql puts the digest to the other
-- days. The statements read pg_temp.events_after and fill pg_temp.day_sessions, day_activity,
-- day_interests and day_acts.
--
-- The clock. A row's clock hour and day in the reporting zone are looked up in a list of the day's
-- hours ($: beginnings, ascending, from read_clock), not worked out for each row. What width_bucket
-- finds is the last beginning that is not after the event.

-- name: read_clock
-- $1 tenant, $2 source day, $3 reporting zone. How many rows, their first and last instant, and the
-- hours in which they lie: where each begins to hold, its day, and its name (`hour_start`). date_trunc
-- keeps the offset, so the hour that a clock change repeats is two hours. Zones are looked up for
-- quarters of an hour: since before there was GA4, all zones' hours and clock changes begin at one (a
-- test looks at every zone, and knows one exception).
WITH quarters AS (
    SELECT date_bin('15 minutes', e.event_at, timestamptz '2000-01-01 00:00+00') AS quarter,
           count(*) AS rows, min(e.event_at) AS first_at, max(e.event_at) AS last_at
    FROM pg_temp.events_after e
    WHERE e.tenant_id = $1 AND e.source_day = $2
    GROUP BY 1
), hours AS (
    SELECT q.*, (q.quarter AT TIME ZONE $3)::date AS day,
           date_trunc('hour', q.quarter, $3) AS hour_start
    FROM quarters q
), turns AS (
    SELECT h.*, (h.day, h.hour_start) IS DISTINCT FROM
           (lag(h.day) OVER in_order, lag(h.hour_start) OVER in_order) AS turns
    FROM hours h
    WINDOW in_order AS (ORDER BY h.quarter)
)
SELECT coalesce(sum(t.rows), 0)::bigint AS rows, min(t.first_at) AS first_event_at,
       max(t.last_at) AS last_event_at,
       coalesce(array_agg(t.quarter ORDER BY t.quarter) FILTER (WHERE t.turns), '{}') AS beginnings,
       coalesce(array_agg(t.day ORDER BY t.quarter) FILTER (WHERE t.turns), '{}') AS days,
       coalesce(array_agg(t.hour_start ORDER BY t.quarter) FILTER (WHERE t.turns), '{}') AS hours
FROM turns t

-- name: count_erasures
-- $1 tenant. How many identifiers are to stay forgotten.
SELECT count(*) FROM data.erased_persons WHERE tenant_id = $1

-- name: count_activity
-- $1 tenant. Rows of the digest that every event has a part in.
SELECT count(*) FROM pg_temp.day_activity WHERE tenant_id = $1

-- name: clear_digest
-- $1 tenant.
WITH sessions AS (
    DELETE FROM pg_temp.day_sessions WHERE tenant_id = $1
), activity AS (
    DELETE FROM pg_temp.day_activity WHERE tenant_id = $1
), interests AS (
    DELETE FROM pg_temp.day_interests WHERE tenant_id = $1
)
DELETE FROM pg_temp.day_acts WHERE tenant_id = $1

-- name: measure_digest
-- $1 tenant, $2 staged table, or NULL.
SELECT data.measure_digest($1, $2)

-- name: digest_sessions
-- $1 tenant, $2 source day, $3 source days, $4 reporting zone, $5 whether to look at the whole source
-- day: true for the digest; $6 the tenant's failed-search event. A publication looks at the sessions that
-- span days, on all of $3.
-- METRICS "Session". Source, medium and campaign are those of one event, the first that has any. The
-- branch is the one that an event names; put_sessions knows the others. Purchases are counted later,
-- once it is known which of them count. Events are sorted once, for the grouping and for what is first
-- or last in a group: an aggregate takes its rows as a sorted subquery right below it gives them (an
-- ORDER BY inside of each aggregate would sort them again). The index of visitors brings most of that
-- order, so that events are sorted visitor by visitor, in little memory; a union of both sets of events
-- would hide it. For the spanning sessions it finds their visitors' events.
-- Traffic without a channel is put into one by rules, some 70 us of them: once per kind of traffic, of
-- which a day has few, not per session.
WITH grouped AS MATERIALIZED (
    SELECT o.stream_id, o.user_pseudo_id, o.ga_session_id,
           min(o.event_at) AS started_at, max(o.event_at) AS ended_at,
           min(o.source_day) AS first_source_day, max(o.source_day) AS last_source_day,
           max(o.ga_session_number) AS session_number,
           coalesce(bool_or(o.session_engaged), false) AS engaged,
           coalesce(sum(o.engagement_ms), 0)::bigint AS engagement_ms,
           array_agg(o.customer_id) FILTER (WHERE o.customer_id IS NOT NULL) AS customer_ids,
           array_agg(o.erp_customer_id)
               FILTER (WHERE o.erp_customer_id IS NOT NULL) AS erp_customer_ids,
           array_agg(o.location_id) FILTER (WHERE o.location_id IS NOT NULL) AS location_ids,
           data.first_known(o.channel) AS channel,
           data.first_known(ARRAY[o.source, o.medium, o.campaign])
               FILTER (WHERE coalesce(o.source, o.medium, o.campaign) IS NOT NULL) AS traffic,
           data.first_known(o.device_category) AS device_category,
           data.first_known(o.country) AS country,
           data.first_known(o.page_location) AS landing_page,
           count(*) AS events,
           count(*) FILTER (WHERE o.event_name IN ('page_view', 'screen_view')) AS page_views,
           count(*) FILTER (WHERE o.event_name = 'view_item') AS item_views,
           count(*) FILTER (WHERE o.event_name = 'add_to_cart') AS cart_additions,
           count(*) FILTER (WHERE o.event_name = 'begin_checkout') AS checkouts,
           count(*) FILTER (WHERE o.event_name IN ('view_search_results', $6)) AS searches,
           count(*) FILTER (WHERE o.event_name = $6) AS failed_searches,
           bool_or(o.is_active_user IS TRUE OR o.engagement_ms > 0
                   OR o.event_name IN ('first_visit', 'first_open')) IS TRUE AS active,
           bool_or(o.event_name IN ('first_visit', 'first_open')) AS new
    FROM (
        SELECT e.*
        FROM (
            SELECT coalesce(d.stream_id, '') AS stream_id, d.user_pseudo_id, d.ga_session_id,
                   d.event_at, d.source_day, d.bundle_sequence_id, d.batch_event_index,
                   d.event_name, d.ga_session_number, d.session_engaged, d.engagement_ms,
                   d.is_active_user, d.customer_id, d.erp_customer_id, d.location_id, d.channel,
                   d.source, d.medium, d.campaign, d.device_category, d.country, d.page_location
            FROM pg_temp.events_after d
            WHERE d.tenant_id = $1 AND d.source_day = ANY ($3::date[])
              AND ($5 OR d.user_pseudo_id = ANY (ARRAY(
                  SELECT c.user_pseudo_id FROM pg_temp.spanning_sessions c)))
              AND (d.source_day = $2 OR NOT $5)
              AND d.user_pseudo_id IS NOT NULL AND d.ga_session_id IS NOT NULL
        ) AS e
        WHERE $5 OR (e.user_pseudo_id, e.ga_session_id, e.stream_id) IN (
            SELECT c.user_pseudo_id, c.ga_session_id, c.stream_id FROM pg_temp.spanning_sessions c)
        ORDER BY e.user_pseudo_id, e.ga_session_id, e.stream_id, e.event_at,
                 e.bundle_sequence_id, e.batch_event_index, e.event_name, e.location_id,
                 e.customer_id, e.erp_customer_id, e.page_location, e.channel, e.source,
                 e.medium, e.campaign, e.device_category, e.country
    ) AS o
    GROUP BY o.user_pseudo_id, o.ga_session_id, o.stream_id
), named AS MATERIALIZED (
    SELECT k.traffic, data.default_channel_group(k.traffic[1], k.traffic[2], k.traffic[3]) AS channel
    FROM (
        SELECT DISTINCT coalesce(g.traffic, '{NULL,NULL,NULL}') AS traffic
        FROM grouped g
        WHERE g.channel IS NULL
    ) AS k
)
INSERT INTO pg_temp.day_sessions (
    tenant_id, day, stream_id, user_pseudo_id, ga_session_id, started_at, ended_at, last_day,
    first_source_day, last_source_day, session_number, engaged, engagement_ms, customer_id,
    erp_customer_id, own_location_id, channel, channel_rules, source, medium, campaign,
    device_category, country, landing_page, events, page_views, item_views, cart_additions, checkouts,
    purchases, searches, failed_searches, active, new)
SELECT $1, (g.started_at AT TIME ZONE $4)::date, g.stream_id, g.user_pseudo_id, g.ga_session_id,
       g.started_at, g.ended_at, (g.ended_at AT TIME ZONE $4)::date,
       g.first_source_day, g.last_source_day, g.session_number, g.engaged, g.engagement_ms,
       g.customer_ids[cardinality(g.customer_ids)],
       g.erp_customer_ids[cardinality(g.erp_customer_ids)],
       coalesce(g.location_ids[cardinality(g.location_ids)], ''),
       coalesce(g.channel, named.channel),
       CASE WHEN g.channel IS NULL THEN data.channel_rules() END,
       g.traffic[1], g.traffic[2], g.traffic[3], g.device_category, g.country, g.landing_page,
       g.events, g.page_views, g.item_views, g.cart_additions, g.checkouts, 0, g.searches,
       g.failed_searches, g.active, g.new
FROM grouped g
LEFT JOIN named
  ON g.channel IS NULL AND named.traffic = coalesce(g.traffic, '{NULL,NULL,NULL}')

-- name: digest_activity
-- $1 tenant, $2 source day, $3 the tenant's failed-search event, $4 beginnings, $5 days and $6 names of
-- the clock's hours.
INSERT INTO pg_temp.day_activity (
    tenant_id, source_day, day, hour_start, stream_id, user_pseudo_id, ga_session_id,
    own_location_id, events, page_views, searches, failed_searches, active, new, "returning")
SELECT $1, $2, ($5::date[])[h.hour], ($6::timestamptz[])[h.hour], h.stream_id, h.user_pseudo_id,
       h.ga_session_id, h.own_location_id, h.events, h.page_views, h.searches, h.failed_searches,
       h.active, h.new, h."returning"
FROM (
    SELECT e.hour, e.stream_id, e.user_pseudo_id, e.ga_session_id, e.own_location_id,
           count(*) AS events,
           count(*) FILTER (WHERE e.event_name IN ('page_view', 'screen_view')) AS page_views,
           count(*) FILTER (WHERE e.event_name IN ('view_search_results', $3)) AS searches,
           count(*) FILTER (WHERE e.event_name = $3) AS failed_searches,
           bool_or(e.is_active_user IS TRUE OR e.engagement_ms > 0
                   OR e.event_name IN ('first_visit', 'first_open')) IS TRUE AS active,
           bool_or(e.event_name IN ('first_visit', 'first_open')) AS new,
           bool_or(e.ga_session_number > 1) IS TRUE AS "returning"
    FROM (
        SELECT width_bucket(d.event_at, $4::timestamptz[]) AS hour,
               d.event_name, d.user_pseudo_id, d.is_active_user, d.engagement_ms,
               d.ga_session_number,
               CASE WHEN key.complete THEN coalesce(d.stream_id, '') END AS stream_id,
               CASE WHEN key.complete THEN d.ga_session_id END AS ga_session_id,
               CASE WHEN NOT key.complete THEN coalesce(d.location_id, '') END AS own_location_id
        FROM pg_temp.events_after d
        CROSS JOIN LATERAL (
            SELECT d.user_pseudo_id IS NOT NULL AND d.ga_session_id IS NOT NULL AS complete
        ) AS key
        WHERE d.tenant_id = $1 AND d.source_day = $2
    ) AS e
    GROUP BY e.hour, e.stream_id, e.user_pseudo_id, e.ga_session_id, e.own_location_id
) AS h

-- name: digest_interests
-- $1 tenant, $2 source day, $3 the tenant's failed-search event, $4 beginnings, $5 days of the clock's
-- hours. Of one event a product counts once, however many of its items name it; of a single item that needs
-- no grouping. OFFSET keeps the planner from working a subject out twice, for the condition and for
-- the list. In the order in which they are looked up later: what was of interest on a day lies side by side,
-- and the index is written in order.
INSERT INTO pg_temp.day_interests (
    tenant_id, source_day, day, kind, subject, label, stream_id, user_pseudo_id, ga_session_id,
    own_location_id, first_at, views, cart_additions, failures)
SELECT $1, $2, ($5::date[])[h.hour], h.kind, h.subject, left(max(h.label), 256), h.stream_id,
       h.user_pseudo_id, h.ga_session_id, h.own_location_id, min(h.event_at), sum(h.views),
       sum(h.cart_additions), sum(h.failures)
FROM (
    SELECT width_bucket(met.event_at, $4::timestamptz[]) AS hour, met.event_at, met.user_pseudo_id,
           CASE WHEN key.complete THEN coalesce(met.stream_id, '') END AS stream_id,
           CASE WHEN key.complete THEN met.ga_session_id END AS ga_session_id,
           CASE WHEN NOT key.complete THEN coalesce(met.location_id, '') END AS own_location_id,
           met.kind, met.subject, met.label, met.views, met.cart_additions, met.failures
    FROM (
        SELECT e.event_at, e.stream_id, e.user_pseudo_id, e.ga_session_id, e.location_id,
               'page' AS kind, data.page_of(e.page_location) AS subject, e.page_title AS label,
               1 AS views, 0 AS cart_additions, 0 AS failures
        FROM pg_temp.events_after e
        WHERE e.tenant_id = $1 AND e.source_day = $2 AND e.event_name IN ('page_view', 'screen_view')
        UNION ALL
        SELECT e.event_at, e.stream_id, e.user_pseudo_id, e.ga_session_id, e.location_id,
               'product', data.subject_of(item.id), item.name, (e.event_name = 'view_item')::integer,
               (e.event_name = 'add_to_cart')::integer, 0
        FROM pg_temp.events_after e
        CROSS JOIN LATERAL (
            SELECT CASE WHEN jsonb_typeof(e.items) = 'array'
                        THEN jsonb_array_length(e.items) END AS items
        ) AS number
        CROSS JOIN LATERAL (
            SELECT e.items -> 0 ->> 'id' AS id, e.items -> 0 ->> 'name' AS name
            WHERE number.items = 1
            UNION ALL
            SELECT element ->> 'id', max(element ->> 'name')
            FROM jsonb_array_elements(
                CASE WHEN number.items > 1 THEN e.items ELSE '[]' END) AS element
            WHERE number.items > 1
            GROUP BY 1
        ) AS item
        WHERE e.tenant_id = $1 AND e.source_day = $2 AND e.event_name IN ('view_item', 'add_to_cart')
        UNION ALL
        SELECT e.event_at, e.stream_id, e.user_pseudo_id, e.ga_session_id, e.location_id,
               'term', data.subject_of(data.search_key(e.search_term)), e.search_term, 1, 0,
               (e.event_name = $3)::integer
        FROM pg_temp.events_after e
        WHERE e.tenant_id = $1 AND e.source_day = $2 AND e.event_name IN ('view_search_results', $3)
        OFFSET 0
    ) AS met
    CROSS JOIN LATERAL (
        SELECT met.user_pseudo_id IS NOT NULL AND met.ga_session_id IS NOT NULL AS complete
    ) AS key
    WHERE met.subject NOT IN ('', '(not set)')
) AS h
GROUP BY h.hour, h.kind, h.subject, h.stream_id, h.user_pseudo_id, h.ga_session_id,
         h.own_location_id
ORDER BY h.kind, 3, h.subject

-- name: digest_acts
-- $1 tenant, $2 source day, $3 the tenant's failed-search event. What a publication looks at event by
-- event: sales, carts, searches, and what funnels begin with. Of most, items do not matter any more.
INSERT INTO pg_temp.day_acts (
    tenant_id, event_at, event_name, stream_id, user_pseudo_id, ga_session_id, customer_id,
    location_id, search_term, currency, event_value, transaction_id, purchase_revenue, refund_value,
    items, bundle_sequence_id, batch_event_index)
SELECT $1, e.event_at, e.event_name, e.stream_id, e.user_pseudo_id, e.ga_session_id, e.customer_id,
       e.location_id, e.search_term, e.currency, e.event_value, e.transaction_id,
       e.purchase_revenue, e.refund_value,
       CASE WHEN e.event_name IN ('purchase', 'add_to_cart', 'remove_from_cart') THEN e.items END,
       e.bundle_sequence_id, e.batch_event_index
FROM pg_temp.events_after e
WHERE e.tenant_id = $1 AND e.source_day = $2
  AND e.event_name IN (
      'purchase', 'refund', 'view_item', 'add_to_cart', 'remove_from_cart', 'view_cart',
      'begin_checkout', 'add_shipping_info', 'add_payment_info', 'view_search_results', $3)

-- name: count_events
-- $1 tenant, $2 source day. METRICS "Data quality". Rows that agree in all of these are one event
-- that was sent several times.
SELECT same.event_name, sum(same.rows)::bigint AS loaded_rows,
       coalesce(sum(same.rows) FILTER (WHERE same.user_pseudo_id IS NULL), 0)::bigint
           AS without_visitor,
       coalesce(sum(same.rows) FILTER (
           WHERE same.user_pseudo_id IS NULL OR same.ga_session_id IS NULL), 0)::bigint
           AS without_session,
       (sum(same.rows) - count(*))::bigint AS duplicates
FROM (
    SELECT e.event_name, e.user_pseudo_id, e.ga_session_id, count(*) AS rows
    FROM pg_temp.events_after e
    WHERE e.tenant_id = $1 AND e.source_day = $2
    GROUP BY e.event_name, e.user_pseudo_id, e.ga_session_id, e.event_at, e.bundle_sequence_id,
             e.batch_event_index
) AS same
GROUP BY same.event_name
