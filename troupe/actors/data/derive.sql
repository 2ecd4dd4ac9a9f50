-- What is derived from events, rebuilt for the days that a source day touches when it is replaced.
--
-- The statements run in the order in which they stand, up to changed_days for each day that is replaced
-- and from there once, in the one transaction that publishes the days (see publication.py). What follows
-- from a day's own rows stands in the digest (digest.sql): pg_temp.day_sessions, day_activity,
-- day_interests and day_acts. Other days' events are read from pg_temp.events_after, and only those of
-- sessions that span days. "Changed" means: may differ from before.
--
-- Nothing here assumes how far events of a session, a late event or a duplicate may lie apart; the
-- tables say which other days are touched. Every choice among rows (first, last, earliest) is by a
-- total order, so that the same source gives the same tables whatever the order of loading.

-- name: lock_tenant
-- $1 tenant. One publication per tenant at a time: neighbouring days share sessions and rollups.
SELECT data_version FROM data.versions WHERE tenant_id = $1 FOR UPDATE

-- name: ensure_version
-- $1 tenant.
INSERT INTO data.versions (tenant_id) VALUES ($1) ON CONFLICT DO NOTHING

-- name: open_workbench
-- $1 tenant, $2 staged tables; none to derive anew from what is published.
SELECT data.open_workbench($1, $2)

-- name: open_digest
-- $1 tenant, $2 staged table, or NULL to derive anew from what is published. What was noted of the day
-- before it goes, but for the days that change.
SELECT data.open_digest($1, $2)

-- name: measure_workbench
SELECT data.measure_workbench()

-- name: measure_new_tables
-- No effect but on first loads: of an installation, or of one that multiplies what is there.
SELECT data.measure_new_tables()

-- name: close_workbench
SELECT data.close_workbench()

-- name: note_source_day
-- $1 tenant, $2 source day, $3 family, $4 source modified, $5 source rows, $6 loaded rows,
-- $7 extraction, $8 scanned bytes, $9 how it is derived, $10 first and $11 last event. The day's own
-- record.
INSERT INTO data.source_days AS d (
    tenant_id, source_day, state, family, source_modified, source_rows, loaded_rows, loaded_at,
    extraction, scanned_bytes, derived_as, checked_at, problem, first_event_at, last_event_at)
VALUES ($1, $2, 'loaded', $3, $4, $5, $6, now(), $7, $8, $9, now(), NULL, $10, $11)
ON CONFLICT (tenant_id, source_day) DO UPDATE SET
    state = excluded.state, family = excluded.family, source_modified = excluded.source_modified,
    source_rows = excluded.source_rows, loaded_rows = excluded.loaded_rows,
    loaded_at = excluded.loaded_at, extraction = excluded.extraction,
    scanned_bytes = excluded.scanned_bytes, derived_as = excluded.derived_as,
    checked_at = excluded.checked_at, problem = NULL,
    first_event_at = excluded.first_event_at, last_event_at = excluded.last_event_at

-- name: note_changed_transactions
-- $1 tenant, $2 source day. What the day sold before and sells now. A purchase of nobody or without
-- a usable id has no twins.
INSERT INTO pg_temp.changed_transactions (user_pseudo_id, transaction_id)
SELECT p.user_pseudo_id, p.transaction_id
FROM data.purchases p
WHERE p.tenant_id = $1 AND p.source_day = $2
  AND p.user_pseudo_id IS NOT NULL AND p.transaction_id IS NOT NULL
UNION
SELECT e.user_pseudo_id, data.transaction_key(e.transaction_id)
FROM pg_temp.day_acts e
WHERE e.tenant_id = $1 AND e.event_name = 'purchase'
  AND e.user_pseudo_id IS NOT NULL AND data.transaction_key(e.transaction_id) IS NOT NULL

-- name: note_changed_sessions
-- $1 tenant, $2 source day. Sessions with an event on the day, before (the day's activity is not
-- replaced yet) or after.
INSERT INTO pg_temp.changed_sessions (stream_id, user_pseudo_id, ga_session_id)
SELECT a.stream_id, a.user_pseudo_id, a.ga_session_id
FROM data.activity a
WHERE a.tenant_id = $1 AND a.source_day = $2 AND a.ga_session_id IS NOT NULL
UNION
SELECT e.stream_id, e.user_pseudo_id, e.ga_session_id
FROM pg_temp.day_sessions e
WHERE e.tenant_id = $1

-- name: note_known_sessions
-- $1 tenant. Those of them that are there already: on first loads hardly any.
INSERT INTO pg_temp.known_sessions (
    stream_id, user_pseudo_id, ga_session_id, day, last_day, first_source_day, last_source_day)
SELECT s.stream_id, s.user_pseudo_id, s.ga_session_id, s.day, s.last_day, s.first_source_day,
       s.last_source_day
FROM pg_temp.changed_sessions c
JOIN data.sessions s
  ON s.tenant_id = $1 AND s.user_pseudo_id = c.user_pseudo_id
 AND s.ga_session_id = c.ga_session_id AND s.stream_id = c.stream_id

-- name: note_spanning_sessions
-- $1 source day. The few of those that have events on other source days too.
INSERT INTO pg_temp.spanning_sessions (stream_id, user_pseudo_id, ga_session_id)
SELECT k.stream_id, k.user_pseudo_id, k.ga_session_id
FROM pg_temp.known_sessions k
WHERE k.first_source_day < $1 OR k.last_source_day > $1

-- name: source_days_of_spanning
-- $1 source day. Where the events of those may lie; NULL when there are none.
SELECT array_agg(DISTINCT spread.source_day)
FROM (
    SELECT generate_series(least(k.first_source_day, $1), greatest(k.last_source_day, $1),
                           interval '1 day')::date AS source_day
    FROM (
        SELECT DISTINCT k.first_source_day, k.last_source_day
        FROM pg_temp.known_sessions k
        WHERE k.first_source_day < $1 OR k.last_source_day > $1
    ) AS k
) AS spread

-- name: note_days_before
-- $1 tenant, $2 source day. Days that the changed sessions and the day's events without a session
-- touch as things are.
INSERT INTO pg_temp.changed_days (day)
SELECT generate_series(k.day, k.last_day, interval '1 day')::date
FROM (SELECT DISTINCT k.day, k.last_day FROM pg_temp.known_sessions k) AS k
UNION
SELECT DISTINCT a.day FROM data.activity a WHERE a.tenant_id = $1 AND a.source_day = $2
ON CONFLICT DO NOTHING

-- name: drop_changed_sessions
-- $1 tenant.
DELETE FROM data.sessions s
USING pg_temp.known_sessions k
WHERE s.tenant_id = $1 AND s.day = k.day AND s.user_pseudo_id = k.user_pseudo_id
  AND s.ga_session_id = k.ga_session_id AND s.stream_id = k.stream_id

-- name: drop_part_sessions
-- $1 tenant. The digest knows of a spanning session only what happened on the day: digest_sessions
-- looks at the whole of it next.
DELETE FROM pg_temp.day_sessions d
USING pg_temp.spanning_sessions c
WHERE d.tenant_id = $1 AND d.user_pseudo_id = c.user_pseudo_id
  AND d.ga_session_id = c.ga_session_id AND d.stream_id = c.stream_id

-- name: put_sessions
-- $1 tenant, $2 days of the day's events. The branch is the last one seen, else the customer's in the master data. With them the
-- days that they touch as things will be.
WITH put AS (
    INSERT INTO data.sessions (
        tenant_id, day, stream_id, user_pseudo_id, ga_session_id, started_at, ended_at, last_day,
        first_source_day, last_source_day, session_number, engaged, engagement_ms, customer_id,
        erp_customer_id, own_location_id, location_id, channel, channel_rules, source, medium,
        campaign, device_category, country, landing_page, events, page_views, item_views,
        cart_additions, checkouts, purchases, searches, failed_searches, active, new)
    SELECT d.tenant_id, d.day, d.stream_id, d.user_pseudo_id, d.ga_session_id, d.started_at,
           d.ended_at, d.last_day, d.first_source_day, d.last_source_day, d.session_number,
           d.engaged, d.engagement_ms, d.customer_id, d.erp_customer_id, d.own_location_id,
           coalesce(nullif(d.own_location_id, ''), by_erp.location_id, by_login.location_id, ''),
           d.channel, d.channel_rules, d.source, d.medium, d.campaign, d.device_category, d.country,
           d.landing_page, d.events, d.page_views, d.item_views, d.cart_additions, d.checkouts,
           d.purchases, d.searches, d.failed_searches, d.active, d.new
    FROM pg_temp.day_sessions d
    LEFT JOIN data.customers by_erp
      ON by_erp.tenant_id = $1 AND by_erp.customer_id = d.erp_customer_id
    LEFT JOIN data.customers by_login
      ON by_login.tenant_id = $1 AND by_login.customer_id = d.customer_id
    WHERE d.tenant_id = $1
    RETURNING day, last_day
)
INSERT INTO pg_temp.changed_days (day)
SELECT generate_series(p.day, p.last_day, interval '1 day')::date
FROM (SELECT DISTINCT p.day, p.last_day FROM put p) AS p
UNION
SELECT unnest($2::date[])
ON CONFLICT DO NOTHING

-- name: drop_activity
-- $1 tenant, $2 source day.
DELETE FROM data.activity WHERE tenant_id = $1 AND source_day = $2

-- name: put_activity
-- $1 tenant.
INSERT INTO data.activity (
    tenant_id, source_day, day, hour_start, stream_id, user_pseudo_id, ga_session_id,
    own_location_id, events, page_views, searches, failed_searches, active, new, "returning")
SELECT d.tenant_id, d.source_day, d.day, d.hour_start, d.stream_id, d.user_pseudo_id,
       d.ga_session_id, d.own_location_id, d.events, d.page_views, d.searches, d.failed_searches,
       d.active, d.new, d."returning"
FROM pg_temp.day_activity d
WHERE d.tenant_id = $1

-- name: drop_purchases
-- $1 tenant, $2 source day.
DELETE FROM data.purchases WHERE tenant_id = $1 AND source_day = $2

-- name: derive_purchases
-- $1 tenant, $2 source day, $3 reporting zone, $4 reporting currency. METRICS "Money". A purchase
-- counts until mark_counted finds an earlier one.
INSERT INTO data.purchases (
    tenant_id, purchase_id, source_day, day, purchased_at, stream_id, user_pseudo_id, ga_session_id,
    customer_id, location_id, transaction_id, currency, currency_missing, revenue, event_value,
    items, bundle_sequence_id, batch_event_index, counted, value_mismatch)
SELECT $1,
       to_char($2::date, 'YYYYMMDD')::bigint * 1000000 + row_number() OVER (
           ORDER BY e.event_at, e.bundle_sequence_id, e.batch_event_index, e.stream_id,
                    e.user_pseudo_id, e.ga_session_id, e.transaction_id, e.currency,
                    e.purchase_revenue, e.event_value, e.location_id, e.items),
       $2, (e.event_at AT TIME ZONE $3)::date, e.event_at, e.stream_id, e.user_pseudo_id,
       e.ga_session_id, coalesce(s.customer_id, e.customer_id),
       coalesce(s.location_id, e.location_id, ''), data.transaction_key(e.transaction_id),
       coalesce(upper(e.currency), $4), e.currency IS NULL,
       coalesce(e.purchase_revenue, 0), e.event_value, e.items,
       e.bundle_sequence_id, e.batch_event_index, true,
       coalesce(abs(e.event_value - coalesce(e.purchase_revenue, 0)) > 0.01, false)
FROM pg_temp.day_acts e
LEFT JOIN data.sessions s
  ON s.tenant_id = $1 AND s.user_pseudo_id = e.user_pseudo_id
 AND s.ga_session_id = e.ga_session_id AND s.stream_id = coalesce(e.stream_id, '')
WHERE e.tenant_id = $1 AND e.event_name = 'purchase'

-- name: drop_refunds
-- $1 tenant, $2 source day.
DELETE FROM data.refunds WHERE tenant_id = $1 AND source_day = $2

-- name: derive_refunds
-- $1 tenant, $2 source day, $3 reporting zone, $4 reporting currency.
INSERT INTO data.refunds (
    tenant_id, refund_id, source_day, day, refunded_at, stream_id, user_pseudo_id, ga_session_id,
    location_id, transaction_id, currency, refund_value)
SELECT $1,
       to_char($2::date, 'YYYYMMDD')::bigint * 1000000 + row_number() OVER (
           ORDER BY e.event_at, e.bundle_sequence_id, e.batch_event_index, e.stream_id,
                    e.user_pseudo_id, e.ga_session_id, e.transaction_id, e.currency,
                    e.refund_value, e.location_id),
       $2, (e.event_at AT TIME ZONE $3)::date, e.event_at, e.stream_id, e.user_pseudo_id,
       e.ga_session_id, coalesce(s.location_id, e.location_id, ''),
       data.transaction_key(e.transaction_id), coalesce(upper(e.currency), $4),
       coalesce(e.refund_value, 0)
FROM pg_temp.day_acts e
LEFT JOIN data.sessions s
  ON s.tenant_id = $1 AND s.user_pseudo_id = e.user_pseudo_id
 AND s.ga_session_id = e.ga_session_id AND s.stream_id = coalesce(e.stream_id, '')
WHERE e.tenant_id = $1 AND e.event_name = 'refund'

-- name: move_purchases
-- $1 tenant, $2 source day. Purchases on other source days whose session has a new branch or turns
-- out to be a customer's.
UPDATE data.purchases p
SET location_id = s.location_id, customer_id = s.customer_id
FROM pg_temp.changed_sessions c
JOIN data.sessions s
  ON s.tenant_id = $1 AND s.user_pseudo_id = c.user_pseudo_id
 AND s.ga_session_id = c.ga_session_id AND s.stream_id = c.stream_id
WHERE p.tenant_id = $1 AND p.user_pseudo_id = c.user_pseudo_id
  AND p.ga_session_id = c.ga_session_id AND coalesce(p.stream_id, '') = c.stream_id
  AND p.source_day <> $2
  AND (p.location_id, p.customer_id) IS DISTINCT FROM (s.location_id, s.customer_id)

-- name: move_refunds
-- $1 tenant, $2 source day. The same for refunds.
UPDATE data.refunds r
SET location_id = s.location_id
FROM pg_temp.changed_sessions c
JOIN data.sessions s
  ON s.tenant_id = $1 AND s.user_pseudo_id = c.user_pseudo_id
 AND s.ga_session_id = c.ga_session_id AND s.stream_id = c.stream_id
WHERE r.tenant_id = $1 AND r.user_pseudo_id = c.user_pseudo_id
  AND r.ga_session_id = c.ga_session_id AND coalesce(r.stream_id, '') = c.stream_id
  AND r.source_day <> $2 AND r.location_id <> s.location_id

-- name: mark_counted
-- $1 tenant. Of the purchases of one visitor with one transaction id the earliest counts, whichever
-- day it was exported on. Where that changes on another day, the purchase's day and the day of its
-- session are changed too, and the session's purchases are to be counted again.
WITH ranked AS (
    SELECT q.purchase_id, q.counted, row_number() OVER (
               PARTITION BY q.user_pseudo_id, q.transaction_id
               ORDER BY q.purchased_at, q.bundle_sequence_id, q.batch_event_index, q.purchase_id
           ) = 1 AS earliest
    FROM pg_temp.changed_transactions c
    JOIN data.purchases q
      ON q.tenant_id = $1 AND q.transaction_id = c.transaction_id
     AND q.user_pseudo_id = c.user_pseudo_id
), turned AS (
    UPDATE data.purchases p
    SET counted = ranked.earliest
    FROM ranked
    WHERE p.tenant_id = $1 AND p.purchase_id = ranked.purchase_id
      AND ranked.counted <> ranked.earliest
    RETURNING p.day, coalesce(p.stream_id, '') AS stream_id, p.user_pseudo_id, p.ga_session_id
), recounted AS (
    INSERT INTO pg_temp.changed_sessions (stream_id, user_pseudo_id, ga_session_id)
    SELECT t.stream_id, t.user_pseudo_id, t.ga_session_id
    FROM turned t
    WHERE t.ga_session_id IS NOT NULL
    ON CONFLICT DO NOTHING
)
INSERT INTO pg_temp.changed_days (day)
SELECT t.day FROM turned t
UNION
SELECT s.day
FROM turned t
JOIN data.sessions s
  ON s.tenant_id = $1 AND s.user_pseudo_id = t.user_pseudo_id
 AND s.ga_session_id = t.ga_session_id AND s.stream_id = t.stream_id
ON CONFLICT DO NOTHING

-- name: count_session_purchases
-- $1 tenant.
UPDATE data.sessions s
SET purchases = n.purchases
FROM (
    SELECT c.user_pseudo_id, c.ga_session_id, c.stream_id,
           count(p.purchase_id) FILTER (WHERE p.counted) AS purchases
    FROM pg_temp.changed_sessions c
    JOIN data.purchases p
      ON p.tenant_id = $1 AND p.user_pseudo_id = c.user_pseudo_id
     AND p.ga_session_id = c.ga_session_id AND coalesce(p.stream_id, '') = c.stream_id
    GROUP BY c.user_pseudo_id, c.ga_session_id, c.stream_id
) AS n
WHERE s.tenant_id = $1 AND s.user_pseudo_id = n.user_pseudo_id
  AND s.ga_session_id = n.ga_session_id AND s.stream_id = n.stream_id
  AND s.purchases <> n.purchases

-- name: drop_event_counts
-- $1 tenant, $2 source day.
DELETE FROM data.event_counts WHERE tenant_id = $1 AND source_day = $2

-- name: put_event_counts
-- $1 tenant, $2 source day, $3 events, of each $4 rows, $5 those without a visitor, $6 without a
-- session, $7 duplicates, side by side.
INSERT INTO data.event_counts (
    tenant_id, source_day, event_name, loaded_rows, without_visitor, without_session, duplicates)
SELECT $1, $2, n.*
FROM unnest($3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[]) AS n

-- name: changed_days
SELECT array_agg(day ORDER BY day) FROM pg_temp.changed_days

-- name: source_days_of_days
-- $1 tenant, $2 days, $3 reporting zone. Source days that hold events of these days.
SELECT array_agg(d.source_day ORDER BY d.source_day)
FROM data.source_days d
WHERE d.tenant_id = $1
  AND EXISTS (
      SELECT FROM unnest($2::date[]) AS changed (day)
      WHERE changed.day BETWEEN (d.first_event_at AT TIME ZONE $3)::date
                            AND (d.last_event_at AT TIME ZONE $3)::date)

-- name: earliest_session_day
-- $1 tenant, $2 days. The first day on which a session starts that has events on one of these days.
SELECT least(min(s.day), min(changed.day))
FROM unnest($2::date[]) AS changed (day)
LEFT JOIN data.sessions s
  ON s.tenant_id = $1 AND s.last_day > s.day
 AND s.last_day >= changed.day AND s.day < changed.day

-- name: open_roll_bench
-- Beside making its table, joins by loops are out of the question from here on: of a day that is newer
-- than a table's statistics the planner expects one row, and would walk through all of the day's
-- sessions for each of its visits.
SELECT data.open_roll_bench(), set_config('enable_nestloop', 'off', true)

-- name: place_activity
-- $1 tenant, $2 days, $3 their source days, $4 earliest session day. The activity of these days, each
-- row under the branch of its session: read once, and not once for each of what is rolled from it.
INSERT INTO pg_temp.placed_activity (
    day, hour_start, location_id, user_pseudo_id, complete, events, page_views, searches,
    failed_searches, active, new, "returning", channel, device, country)
SELECT a.day, a.hour_start, coalesce(s.location_id, a.own_location_id, ''), a.user_pseudo_id,
       a.ga_session_id IS NOT NULL, a.events, a.page_views, a.searches, a.failed_searches,
       a.active OR s.engaged IS TRUE, a.new, a."returning", coalesce(left(s.channel, 128), ''),
       coalesce(left(s.device_category, 128), ''), coalesce(left(s.country, 128), '')
FROM data.activity a
LEFT JOIN data.sessions s
  ON s.tenant_id = $1 AND s.day BETWEEN $4 AND (SELECT max(d.day) FROM unnest($2::date[]) AS d (day))
 AND s.user_pseudo_id = a.user_pseudo_id AND s.ga_session_id = a.ga_session_id
 AND s.stream_id = a.stream_id
WHERE a.tenant_id = $1 AND a.source_day = ANY ($3::date[]) AND a.day = ANY ($2::date[])

-- name: place_deals
-- $1 tenant, $2 days, $3 earliest session day. Purchases that count and refunds of these days, by what their
-- sessions were.
INSERT INTO pg_temp.placed_deals (
    day, user_pseudo_id, channel, device, country, currency, purchases, revenue, refund_value)
SELECT t.day, t.user_pseudo_id, coalesce(left(s.channel, 128), ''),
       coalesce(left(s.device_category, 128), ''), coalesce(left(s.country, 128), ''), t.currency,
       t.purchases, t.revenue, t.refund_value
FROM (
    SELECT p.day, p.stream_id, p.user_pseudo_id, p.ga_session_id, p.currency, 1 AS purchases, p.revenue,
           0::numeric AS refund_value
    FROM data.purchases p
    WHERE p.tenant_id = $1 AND p.day = ANY ($2::date[]) AND p.counted
    UNION ALL
    SELECT r.day, r.stream_id, r.user_pseudo_id, r.ga_session_id, r.currency, 0, 0, r.refund_value
    FROM data.refunds r
    WHERE r.tenant_id = $1 AND r.day = ANY ($2::date[])
) AS t
LEFT JOIN data.sessions s
  ON s.tenant_id = $1 AND s.day BETWEEN $3 AND (SELECT max(d.day) FROM unnest($2::date[]) AS d (day))
 AND s.user_pseudo_id = t.user_pseudo_id AND s.ga_session_id = t.ga_session_id
 AND s.stream_id = coalesce(t.stream_id, '')

-- name: drop_rollups
-- $1 tenant, $2 days. Without data.user_day and data.visitor_parts, of which only what differs is written
-- anew.
WITH parts AS (
    DELETE FROM data.part_rollup
    WHERE tenant_id = $1 AND dimension IN ('channel', 'device', 'country') AND day = ANY ($2::date[])
), deals AS (
    DELETE FROM data.part_money
    WHERE tenant_id = $1 AND dimension IN ('channel', 'device', 'country') AND day = ANY ($2::date[])
), hours AS (
    DELETE FROM data.hourly_rollup WHERE tenant_id = $1 AND day = ANY ($2::date[])
), days AS (
    DELETE FROM data.daily_rollup WHERE tenant_id = $1 AND day = ANY ($2::date[])
), daily_money AS (
    DELETE FROM data.daily_money WHERE tenant_id = $1 AND day = ANY ($2::date[])
)
DELETE FROM data.money_rollup WHERE tenant_id = $1 AND day = ANY ($2::date[])

-- name: roll_hours
-- $1 tenant, $2 days, $3 reporting zone. Events stand in their own hour under the branch of their
-- session; sessions stand in the hour in which they start.
INSERT INTO data.hourly_rollup (
    tenant_id, day, hour_start, location_id, events, events_without_consent, page_views, sessions,
    engaged_sessions, sessions_with_cart, sessions_with_checkout, sessions_with_purchase,
    sessions_with_cart_without_purchase, searches, failed_searches)
SELECT $1, u.day, u.hour_start, u.location_id, sum(u.events), sum(u.events_without_consent),
       sum(u.page_views), sum(u.sessions), sum(u.engaged), sum(u.with_cart), sum(u.with_checkout),
       sum(u.with_purchase), sum(u.with_cart_without_purchase), sum(u.searches),
       sum(u.failed_searches)
FROM (
    SELECT a.day, a.hour_start, a.location_id, a.events,
           CASE WHEN a.complete THEN 0 ELSE a.events END AS events_without_consent,
           a.page_views, 0 AS sessions, 0 AS engaged, 0 AS with_cart, 0 AS with_checkout,
           0 AS with_purchase, 0 AS with_cart_without_purchase, a.searches, a.failed_searches
    FROM pg_temp.placed_activity a
    UNION ALL
    SELECT s.day, date_trunc('hour', s.started_at, $3), s.location_id, 0, 0, 0, 1,
           s.engaged::integer, (s.cart_additions > 0)::integer, (s.checkouts > 0)::integer,
           (s.purchases > 0)::integer, (s.cart_additions > 0 AND s.purchases = 0)::integer, 0, 0
    FROM data.sessions s
    WHERE s.tenant_id = $1 AND s.day = ANY ($2::date[])
) AS u
GROUP BY u.day, u.hour_start, u.location_id

-- name: roll_days
-- $1 tenant, $2 days.
INSERT INTO data.daily_rollup (
    tenant_id, day, location_id, events, events_without_consent, page_views, sessions,
    engaged_sessions, sessions_with_cart, sessions_with_checkout, sessions_with_purchase,
    sessions_with_cart_without_purchase, searches, failed_searches)
SELECT $1, h.day, h.location_id, sum(h.events), sum(h.events_without_consent), sum(h.page_views),
       sum(h.sessions), sum(h.engaged_sessions), sum(h.sessions_with_cart),
       sum(h.sessions_with_checkout), sum(h.sessions_with_purchase),
       sum(h.sessions_with_cart_without_purchase), sum(h.searches), sum(h.failed_searches)
FROM data.hourly_rollup h
WHERE h.tenant_id = $1 AND h.day = ANY ($2::date[])
GROUP BY h.day, h.location_id

-- name: drop_outdated_users
-- $1 tenant, $2 days. The rows of visitors that
-- roll_users will not write as they are. Most of a neighbouring day's stay: only the few visitors over
-- midnight differ, and whatever follows from a visitor's row need not be done again for the others.
DELETE FROM data.user_day u
USING (
    SELECT d.day, d.location_id, d.user_pseudo_id, d.active, d.new, d."returning", d.purchaser
    FROM data.user_day d
    WHERE d.tenant_id = $1 AND d.day = ANY ($2::date[])
    EXCEPT
    SELECT v.day, v.location_id, v.user_pseudo_id, bool_or(v.active), bool_or(v.new),
           bool_or(v."returning"), bool_or(v.purchaser)
    FROM (
        SELECT a.day, a.location_id, a.user_pseudo_id, true AS seen, a.active, a.new, a."returning",
               false AS purchaser
        FROM pg_temp.placed_activity a
        WHERE a.user_pseudo_id IS NOT NULL
        UNION ALL
        -- Beside, not joined: a day's purchases are few only in the eyes of a planner that has not
        -- seen any yet.
        SELECT p.day, p.location_id, p.user_pseudo_id, false, false, false, false, true
        FROM data.purchases p
        WHERE p.tenant_id = $1 AND p.day = ANY ($2::date[]) AND p.counted
          AND p.user_pseudo_id IS NOT NULL
    ) AS v
    GROUP BY v.day, v.location_id, v.user_pseudo_id
    HAVING bool_or(v.seen)
) AS outdated
WHERE u.tenant_id = $1 AND u.day = outdated.day AND u.location_id = outdated.location_id
  AND u.user_pseudo_id = outdated.user_pseudo_id

-- name: roll_users
-- $1 tenant, $2 days. METRICS "Users". A visitor is
-- active wherever an engaged session of theirs has events, and a purchaser where a purchase counts.
-- What is not there yet, after drop_outdated_users: statements of their own, since what follows from
-- them looks at the table after each.
INSERT INTO data.user_day (
    tenant_id, day, location_id, user_pseudo_id, active, new, "returning", purchaser)
SELECT $1, missing.*
FROM (
    SELECT v.day, v.location_id, v.user_pseudo_id, bool_or(v.active), bool_or(v.new),
           bool_or(v."returning"), bool_or(v.purchaser)
    FROM (
        SELECT a.day, a.location_id, a.user_pseudo_id, true AS seen, a.active, a.new, a."returning",
               false AS purchaser
        FROM pg_temp.placed_activity a
        WHERE a.user_pseudo_id IS NOT NULL
        UNION ALL
        -- Beside, not joined: a day's purchases are few only in the eyes of a planner that has not
        -- seen any yet.
        SELECT p.day, p.location_id, p.user_pseudo_id, false, false, false, false, true
        FROM data.purchases p
        WHERE p.tenant_id = $1 AND p.day = ANY ($2::date[]) AND p.counted
          AND p.user_pseudo_id IS NOT NULL
    ) AS v
    GROUP BY v.day, v.location_id, v.user_pseudo_id
    HAVING bool_or(v.seen)
    EXCEPT
    SELECT d.day, d.location_id, d.user_pseudo_id, d.active, d.new, d."returning", d.purchaser
    FROM data.user_day d
    WHERE d.tenant_id = $1 AND d.day = ANY ($2::date[])
) AS missing

-- name: roll_money
-- $1 tenant, $2 days, $3 reporting zone. Per currency, never across.
INSERT INTO data.money_rollup (
    tenant_id, day, hour_start, location_id, currency,
    purchases, gross_revenue, refunds, refund_value)
SELECT $1, m.day, m.hour_start, m.location_id, m.currency,
       sum(m.purchases), sum(m.revenue), sum(m.refunds), sum(m.refund_value)
FROM (
    SELECT p.day, date_trunc('hour', p.purchased_at, $3) AS hour_start, p.location_id, p.currency,
           1 AS purchases, p.revenue, 0 AS refunds, 0::numeric AS refund_value
    FROM data.purchases p
    WHERE p.tenant_id = $1 AND p.day = ANY ($2::date[]) AND p.counted
    UNION ALL
    SELECT r.day, date_trunc('hour', r.refunded_at, $3), r.location_id, r.currency,
           0, 0, 1, r.refund_value
    FROM data.refunds r
    WHERE r.tenant_id = $1 AND r.day = ANY ($2::date[])
) AS m
GROUP BY m.day, m.hour_start, m.location_id, m.currency

-- name: roll_daily_money
-- $1 tenant, $2 days.
INSERT INTO data.daily_money (
    tenant_id, day, location_id, currency, purchases, gross_revenue, refund_value)
SELECT $1, m.day, m.location_id, m.currency, sum(m.purchases), sum(m.gross_revenue),
       sum(m.refund_value)
FROM data.money_rollup m
WHERE m.tenant_id = $1 AND m.day = ANY ($2::date[])
GROUP BY m.day, m.location_id, m.currency

-- name: roll_parts
-- $1 tenant, $2 days. Channels, devices and countries; sessions stand on the day on which they start. Added
-- up by all three before they are told apart.
INSERT INTO data.part_rollup (
    tenant_id, dimension, day, part, events, events_without_consent, page_views, sessions,
    engaged_sessions, sessions_with_cart, sessions_with_checkout, sessions_with_purchase,
    sessions_with_cart_without_purchase, searches, failed_searches)
SELECT $1, d.dimension, u.day, d.part, sum(u.events), sum(u.events_without_consent),
       sum(u.page_views), sum(u.sessions), sum(u.engaged), sum(u.with_cart), sum(u.with_checkout),
       sum(u.with_purchase), sum(u.with_cart_without_purchase), sum(u.searches),
       sum(u.failed_searches)
FROM (
    SELECT a.day, a.channel, a.device, a.country, sum(a.events) AS events,
           coalesce(sum(a.events) FILTER (WHERE NOT a.complete), 0) AS events_without_consent,
           sum(a.page_views) AS page_views, 0 AS sessions, 0 AS engaged, 0 AS with_cart,
           0 AS with_checkout, 0 AS with_purchase, 0 AS with_cart_without_purchase,
           sum(a.searches) AS searches, sum(a.failed_searches) AS failed_searches
    FROM pg_temp.placed_activity a
    GROUP BY a.day, a.channel, a.device, a.country
    UNION ALL
    SELECT s.day, left(s.channel, 128), left(s.device, 128), left(s.country, 128), 0, 0, 0, count(*),
           count(*) FILTER (WHERE s.engaged), count(*) FILTER (WHERE s.cart_additions > 0),
           count(*) FILTER (WHERE s.checkouts > 0), count(*) FILTER (WHERE s.purchases > 0),
           count(*) FILTER (WHERE s.cart_additions > 0 AND s.purchases = 0), 0, 0
    FROM (
        SELECT b.day, b.channel, coalesce(b.device_category, '') AS device,
               coalesce(b.country, '') AS country, b.engaged, b.cart_additions, b.checkouts, b.purchases
        FROM data.sessions b
        WHERE b.tenant_id = $1 AND b.day = ANY ($2::date[])
    ) AS s
    GROUP BY s.day, s.channel, s.device, s.country
) AS u
CROSS JOIN LATERAL (VALUES
    ('channel', u.channel), ('device', u.device), ('country', u.country)) AS d (dimension, part)
GROUP BY d.dimension, u.day, d.part

-- name: roll_part_money
-- $1 tenant. Per currency, never across.
INSERT INTO data.part_money (
    tenant_id, dimension, day, part, currency, purchases, gross_revenue, refund_value)
SELECT $1, d.dimension, t.day, d.part, t.currency, sum(t.purchases), sum(t.revenue),
       sum(t.refund_value)
FROM pg_temp.placed_deals t
CROSS JOIN LATERAL (VALUES
    ('channel', t.channel), ('device', t.device), ('country', t.country)) AS d (dimension, part)
GROUP BY d.dimension, t.day, d.part, t.currency

-- name: drop_outdated_parts
-- $1 tenant, $2 days. As drop_outdated_users.
DELETE FROM data.visitor_parts u
USING (
    SELECT d.day, d.user_pseudo_id, d.channel, d.device, d.country, d.active, d.new, d."returning",
           d.purchaser
    FROM data.visitor_parts d
    WHERE d.tenant_id = $1 AND d.day = ANY ($2::date[])
    EXCEPT
    SELECT v.day, v.user_pseudo_id, v.channel, v.device, v.country, bool_or(v.active), bool_or(v.new),
           bool_or(v."returning"), bool_or(v.purchaser)
    FROM (
        SELECT a.day, a.user_pseudo_id, a.channel, a.device, a.country, true AS seen, a.active, a.new,
               a."returning", false AS purchaser
        FROM pg_temp.placed_activity a
        WHERE a.user_pseudo_id IS NOT NULL
        UNION ALL
        SELECT t.day, t.user_pseudo_id, t.channel, t.device, t.country, false, false, false, false, true
        FROM pg_temp.placed_deals t
        WHERE t.user_pseudo_id IS NOT NULL AND t.purchases > 0
    ) AS v
    GROUP BY v.day, v.user_pseudo_id, v.channel, v.device, v.country
    HAVING bool_or(v.seen)
) AS outdated
WHERE u.tenant_id = $1 AND u.day = outdated.day AND u.user_pseudo_id = outdated.user_pseudo_id
  AND u.channel = outdated.channel AND u.device = outdated.device AND u.country = outdated.country

-- name: roll_visitor_parts
-- $1 tenant, $2 days. As roll_users, by what the sessions were.
INSERT INTO data.visitor_parts (
    tenant_id, day, user_pseudo_id, channel, device, country, active, new, "returning", purchaser)
SELECT $1, missing.*
FROM (
    SELECT v.day, v.user_pseudo_id, v.channel, v.device, v.country, bool_or(v.active), bool_or(v.new),
           bool_or(v."returning"), bool_or(v.purchaser)
    FROM (
        SELECT a.day, a.user_pseudo_id, a.channel, a.device, a.country, true AS seen, a.active, a.new,
               a."returning", false AS purchaser
        FROM pg_temp.placed_activity a
        WHERE a.user_pseudo_id IS NOT NULL
        UNION ALL
        SELECT t.day, t.user_pseudo_id, t.channel, t.device, t.country, false, false, false, false, true
        FROM pg_temp.placed_deals t
        WHERE t.user_pseudo_id IS NOT NULL AND t.purchases > 0
    ) AS v
    GROUP BY v.day, v.user_pseudo_id, v.channel, v.device, v.country
    HAVING bool_or(v.seen)
    EXCEPT
    SELECT d.day, d.user_pseudo_id, d.channel, d.device, d.country, d.active, d.new, d."returning",
           d.purchaser
    FROM data.visitor_parts d
    WHERE d.tenant_id = $1 AND d.day = ANY ($2::date[])
) AS missing

-- name: close_roll_bench
SET LOCAL enable_nestloop TO DEFAULT

-- name: raise_version
-- $1 tenant, $2 reporting zone, $3 the property's zone. A source day is complete when its daily
-- table is there, or when the table was written after the day had ended; data_until is the last day
-- of the reporting zone that ended no later than the last complete source day.
UPDATE data.versions v
SET data_version = v.data_version + 1,
    updated_at = now(),
    first_day = (SELECT min(r.day) FROM data.daily_rollup r WHERE r.tenant_id = $1),
    data_until = (
        SELECT (max(d.ends_at) AT TIME ZONE $2)::date - 1
        FROM (
            SELECT s.family, s.source_modified, s.loaded_at,
                   (s.source_day + 1)::timestamp AT TIME ZONE $3 AS ends_at
            FROM data.source_days s
            WHERE s.tenant_id = $1
        ) AS d
        WHERE d.loaded_at IS NOT NULL AND (d.family = 'daily' OR d.source_modified >= d.ends_at))
WHERE v.tenant_id = $1
RETURNING v.data_version

-- name: announce
-- $1 tenant. Sent when the transaction commits, once.
SELECT pg_notify('troupe_data_version', $1::text)
