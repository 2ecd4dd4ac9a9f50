-- What happened in a session and to a person, event by event; run by timelines.py.
--
-- Events are read by visitor within the partitions of the source days that can hold them: which those
-- are is asked first, together with the session or with the person, because a plan over all days of a
-- tenant would look into each. A source day is a partition; its own index begins with the visitor.
-- Partitions are left out when the days are known while planning, so whoever tells the days asks for
-- custom plans from there on; the plan for asking can be kept, and making it takes as long as reading.

-- name: session
-- $1 tenant, $2 stream, $3 visitor, $4 session id. `source_days` are those with events in its time.
SELECT s.*, l.name AS location_name, m.company, m.contact, m.email AS customer_email, m.phone,
       array(SELECT d.source_day FROM data.source_days d
             WHERE d.tenant_id = $1 AND d.last_event_at >= s.started_at
               AND d.first_event_at <= s.ended_at
             ORDER BY d.source_day) AS source_days,
       set_config('plan_cache_mode', 'force_custom_plan', true)
FROM data.sessions s
LEFT JOIN data.locations l ON l.tenant_id = s.tenant_id AND l.location_id = s.location_id
LEFT JOIN LATERAL (
    SELECT c.* FROM data.customers c
    WHERE c.tenant_id = s.tenant_id AND c.customer_id IN (s.erp_customer_id, s.customer_id)
    ORDER BY c.customer_id IS NOT DISTINCT FROM s.erp_customer_id DESC
    LIMIT 1
) AS m ON true
WHERE s.tenant_id = $1 AND s.stream_id = $2 AND s.user_pseudo_id = $3 AND s.ga_session_id = $4

-- name: session_events
-- $1 tenant, $2 stream, $3 visitor, $4 session id, $5 source days, $6 from, $7 to, $8 how many to leave
-- out, $9 how many. In order; of two at the same instant the one that was sent first.
SELECT e.event_at, e.event_name, e.user_pseudo_id, e.stream_id, e.ga_session_id, e.page_location,
       e.page_title, e.search_term, e.device_category, e.operating_system, e.browser, e.country,
       e.city, e.location_id, e.transaction_id, e.purchase_revenue, e.refund_value, e.event_value,
       e.currency, e.items, e.engagement_ms, e.source, e.medium, e.campaign
FROM data.events e
WHERE e.tenant_id = $1 AND e.source_day = ANY ($5::date[]) AND e.user_pseudo_id = $3
  AND e.event_at BETWEEN $6 AND $7 AND e.ga_session_id = $4 AND coalesce(e.stream_id, '') = $2
ORDER BY e.event_at, e.bundle_sequence_id, e.batch_event_index, e.event_name, e.page_location,
         e.items::text
OFFSET $8 LIMIT $9

-- name: days
-- Not a statement, but the days of a zone on which one of {visitors} was seen, not after {until} unless
-- that is NULL, latest first, {count} of them: when the first begins and the last one ends, the source
-- days with events on these days, and the day before all of these on which one was seen, if there is
-- one. No row: on no day.
WITH seen AS MATERIALIZED (
    SELECT u.day, row_number() OVER (ORDER BY u.day DESC) AS place FROM data.user_day u
    WHERE u.tenant_id = $1 AND u.user_pseudo_id = ANY ({visitors})
      AND ({until}::date IS NULL OR u.day <= {until})
    GROUP BY u.day
    ORDER BY u.day DESC
    LIMIT {count} + 1
), span AS (
    SELECT s.day::timestamp AT TIME ZONE {zone} AS began,
           (s.day + 1)::timestamp AT TIME ZONE {zone} AS ended
    FROM seen s WHERE s.place <= {count}
)
SELECT min(p.began) AS began, max(p.ended) AS ended,
       (SELECT s.day FROM seen s WHERE s.place > {count}) AS earlier,
       -- Days between them, on which nobody of these was seen, are not looked into.
       array(SELECT d.source_day FROM data.source_days d
             WHERE d.tenant_id = $1 AND EXISTS (
                 SELECT FROM span o
                 WHERE d.last_event_at >= o.began AND d.first_event_at < o.ended)
             ORDER BY d.source_day) AS source_days
FROM span p
HAVING count(*) > 0

-- name: person
-- $1 tenant, $2 whether a customer, $3 their id; $4 to $6 as above, the day, how many at most, the zone;
-- $7 events wanted: so many days as their sessions may well fill. One row for each device that they came
-- with, latest first, and in each row what there is of all their sessions, with the master data and the
-- days; no row: there is no session.
WITH own AS MATERIALIZED (
    SELECT c.user_pseudo_id, c.stream_id, c.device_category, c.started_at, c.ended_at, c.engaged,
           c.events, c.purchases, c.erp_customer_id, c.customer_id, c.location_id
    FROM data.sessions c
    WHERE $2::boolean AND c.tenant_id = $1 AND c.customer_id = $3
    UNION ALL
    SELECT v.user_pseudo_id, v.stream_id, v.device_category, v.started_at, v.ended_at, v.engaged,
           v.events, v.purchases, v.erp_customer_id, v.customer_id, v.location_id
    FROM data.sessions v
    WHERE NOT $2::boolean AND v.tenant_id = $1 AND v.user_pseudo_id = $3
), head AS (
    SELECT count(*) AS sessions, count(*) FILTER (WHERE s.engaged) AS engaged_sessions,
           sum(s.purchases)::bigint AS purchases, min(s.started_at) AS first_at,
           max(s.ended_at) AS last_at, array_agg(DISTINCT s.user_pseudo_id) AS visitors,
           (array_agg(s.erp_customer_id ORDER BY s.ended_at DESC)
               FILTER (WHERE s.erp_customer_id IS NOT NULL))[1] AS erp_customer_id,
           (array_agg(s.customer_id ORDER BY s.ended_at DESC)
               FILTER (WHERE s.customer_id IS NOT NULL))[1] AS customer_id,
           coalesce((array_agg(s.location_id ORDER BY s.ended_at DESC)
               FILTER (WHERE s.location_id <> ''))[1], '') AS location_id
    FROM own s
), device AS (
    SELECT s.user_pseudo_id, coalesce(s.device_category, '') AS device_category, s.stream_id,
           count(*) AS device_sessions, min(s.started_at) AS device_first_at,
           max(s.ended_at) AS device_last_at
    FROM own s
    GROUP BY s.user_pseudo_id, coalesce(s.device_category, ''), s.stream_id
    ORDER BY max(s.ended_at) DESC, s.user_pseudo_id, 2, s.stream_id
    LIMIT 100
), enough AS MATERIALIZED (
    SELECT CASE WHEN max(f.filled) >= $7::integer
                THEN least($5::integer, 1 + count(*) FILTER (WHERE f.filled < $7)) ELSE $5 END AS days
    FROM (
        SELECT sum(sum(s.events)) OVER (ORDER BY e.day DESC) AS filled
        FROM own s CROSS JOIN LATERAL (SELECT (s.ended_at AT TIME ZONE $6::text)::date AS day) AS e
        WHERE $4::date IS NULL OR e.day <= $4
        GROUP BY e.day
    ) AS f
), days AS MATERIALIZED (
{days}
)
SELECT h.*, d.*, t.*, l.name AS location_name, m.company, m.contact, m.email AS customer_email, m.phone,
       set_config('plan_cache_mode', 'force_custom_plan', true),
       -- For a page of events merging is no choice; weighing it is a tenth of planning.
       set_config('enable_mergejoin', 'off', true)
FROM head h
CROSS JOIN device d
LEFT JOIN days t ON true
LEFT JOIN data.locations l ON l.tenant_id = $1 AND l.location_id = h.location_id
LEFT JOIN LATERAL (
    SELECT c.* FROM data.customers c
    WHERE c.tenant_id = $1 AND c.customer_id IN (h.erp_customer_id, h.customer_id)
    ORDER BY c.customer_id IS NOT DISTINCT FROM h.erp_customer_id DESC
    LIMIT 1
) AS m ON true
ORDER BY d.device_last_at DESC, d.user_pseudo_id, d.device_category, d.stream_id

-- name: person_events
-- $1 tenant, $2 visitors, $3 customer or NULL, $4 source days, $5 from, $6 before, $7 not after this
-- instant or NULL, $8 how many to leave out, $9 how many. Latest first. A customer's events are those
-- of sessions that are theirs, and those outside of sessions that name them: that is `theirs`. `are_these`
-- is how a visitor is compared with $2: that one is equal is planned in half the time of that one is among
-- many. Sessions are read beforehand: joined as a table, they would take a tenth more to plan.
WITH visit AS MATERIALIZED (
    SELECT s.user_pseudo_id, s.ga_session_id, s.stream_id, s.location_id, s.customer_id
    FROM data.sessions s
    WHERE s.tenant_id = $1 AND s.user_pseudo_id {are_these}
)
SELECT e.event_at, e.event_name, e.user_pseudo_id, e.stream_id, e.ga_session_id, e.page_location,
       e.page_title, e.search_term, e.device_category, e.operating_system, e.browser, e.country,
       e.city, coalesce(s.location_id, e.location_id) AS location_id, e.transaction_id,
       e.purchase_revenue, e.refund_value, e.event_value, e.currency, e.items, e.engagement_ms,
       e.source, e.medium, e.campaign
FROM data.events e
LEFT JOIN visit s
  ON s.user_pseudo_id = e.user_pseudo_id AND s.ga_session_id = e.ga_session_id
 AND s.stream_id = coalesce(e.stream_id, '')
WHERE e.tenant_id = $1 AND e.source_day = ANY ($4::date[])
  AND e.user_pseudo_id {are_these} AND e.event_at >= $5 AND e.event_at < $6
  AND ($7::timestamptz IS NULL OR e.event_at <= $7)
  AND {theirs}
ORDER BY e.event_at DESC, e.bundle_sequence_id DESC, e.batch_event_index DESC, e.event_name DESC,
         e.page_location DESC, e.user_pseudo_id DESC, e.items::text DESC
OFFSET $8 LIMIT $9
