-- What somebody writes who loads with dlt and wants what Troupe answers from: the tables of its data
-- schema that dashboards read, made at once from all rows, in plain SQL. The definitions are those of
-- METRICS; what makes a day replaceable (parts by source day, marks of change) is left out, and so are
-- cart episodes and quality figures. Events are sorted once for all that is first or last in a session.
--
-- Dashboards of theirs look things up as ours do, so that the rows and the tables have the indexes that
-- ours have. {zone} is the reporting zone.

CREATE INDEX ON peer.events (user_pseudo_id, event_at);
ANALYZE peer.events;

CREATE TABLE peer.sessions AS
SELECT (g.started_at AT TIME ZONE '{zone}')::date AS day, g.*, 0 AS purchases
FROM (
    SELECT coalesce(o.stream_id, '') AS stream_id, o.user_pseudo_id, o.ga_session_id,
           min(o.event_at) AS started_at, max(o.event_at) AS ended_at,
           max(o.ga_session_number) AS session_number,
           coalesce(bool_or(o.session_engaged), false) AS engaged,
           sum(o.engagement_ms)::bigint AS engagement_ms,
           (array_agg(o.customer_id) FILTER (WHERE o.customer_id IS NOT NULL))[1] AS customer_id,
           coalesce((array_agg(o.location_id) FILTER (WHERE o.location_id IS NOT NULL))[1], '')
               AS location_id,
           coalesce((array_agg(o.channel) FILTER (WHERE o.channel IS NOT NULL))[1], 'Unassigned')
               AS channel,
           (array_agg(o.source) FILTER (WHERE o.source IS NOT NULL))[1] AS source,
           (array_agg(o.medium) FILTER (WHERE o.medium IS NOT NULL))[1] AS medium,
           (array_agg(o.campaign) FILTER (WHERE o.campaign IS NOT NULL))[1] AS campaign,
           coalesce((array_agg(o.device_category))[1], '') AS device,
           coalesce((array_agg(o.country))[1], '') AS country,
           (array_agg(o.page_location) FILTER (WHERE o.page_location IS NOT NULL))[1]
               AS landing_page,
           count(*) AS events,
           count(*) FILTER (WHERE o.event_name IN ('page_view', 'screen_view')) AS page_views,
           count(*) FILTER (WHERE o.event_name = 'view_item') AS item_views,
           count(*) FILTER (WHERE o.event_name = 'add_to_cart') AS cart_additions,
           count(*) FILTER (WHERE o.event_name = 'begin_checkout') AS checkouts,
           count(*) FILTER (WHERE o.event_name IN ('view_search_results', 'no_search_results'))
               AS searches,
           bool_or(o.is_active_user IS TRUE OR o.engagement_ms > 0
                   OR o.event_name IN ('first_visit', 'first_open')) IS TRUE AS active,
           bool_or(o.event_name IN ('first_visit', 'first_open')) AS new
    FROM (
        SELECT e.* FROM peer.events e
        WHERE e.user_pseudo_id IS NOT NULL AND e.ga_session_id IS NOT NULL
        ORDER BY e.user_pseudo_id, e.ga_session_id, e.stream_id, e.event_at
    ) AS o
    GROUP BY o.user_pseudo_id, o.ga_session_id, o.stream_id
) AS g;
ALTER TABLE peer.sessions ADD PRIMARY KEY (day, stream_id, user_pseudo_id, ga_session_id);
CREATE INDEX ON peer.sessions (user_pseudo_id, ga_session_id);

CREATE TABLE peer.purchases AS
SELECT DISTINCT ON (e.user_pseudo_id, coalesce(nullif(nullif(e.transaction_id, ''), '(not set)'),
                                               e.event_at::text))
       (e.event_at AT TIME ZONE '{zone}')::date AS day, e.event_at AS purchased_at, e.stream_id,
       e.user_pseudo_id, e.ga_session_id, e.transaction_id, e.currency, e.items,
       coalesce(e.purchase_revenue, 0)::numeric(20, 4) AS revenue,
       coalesce(s.location_id, e.location_id, '') AS location_id,
       coalesce(s.channel, '') AS channel, coalesce(s.device, '') AS device,
       coalesce(s.country, '') AS country
FROM peer.events e
LEFT JOIN peer.sessions s
  ON s.user_pseudo_id = e.user_pseudo_id AND s.ga_session_id = e.ga_session_id
 AND s.stream_id = coalesce(e.stream_id, '')
WHERE e.event_name = 'purchase'
ORDER BY e.user_pseudo_id, coalesce(nullif(nullif(e.transaction_id, ''), '(not set)'),
                                    e.event_at::text), e.event_at;
CREATE INDEX ON peer.purchases (day);

UPDATE peer.sessions s
SET purchases = p.purchases
FROM (
    SELECT coalesce(stream_id, '') AS stream_id, user_pseudo_id, ga_session_id, count(*) AS purchases
    FROM peer.purchases GROUP BY 1, 2, 3
) AS p
WHERE s.user_pseudo_id = p.user_pseudo_id AND s.ga_session_id = p.ga_session_id
  AND s.stream_id = p.stream_id;
ANALYZE peer.sessions;

CREATE TABLE peer.activity AS
SELECT (e.event_at AT TIME ZONE '{zone}')::date AS day,
       date_trunc('hour', e.event_at, '{zone}') AS hour_start,
       coalesce(s.location_id, e.location_id, '') AS location_id, e.user_pseudo_id,
       e.ga_session_id, coalesce(s.channel, '') AS channel, coalesce(s.device, '') AS device,
       coalesce(s.country, '') AS country, count(*) AS events,
       count(*) FILTER (WHERE e.event_name IN ('page_view', 'screen_view')) AS page_views,
       count(*) FILTER (WHERE e.event_name IN ('view_search_results', 'no_search_results'))
           AS searches,
       count(*) FILTER (WHERE e.event_name = 'no_search_results') AS failed_searches,
       bool_or(s.engaged IS TRUE OR e.is_active_user IS TRUE OR e.engagement_ms > 0
               OR e.event_name IN ('first_visit', 'first_open')) IS TRUE AS active,
       bool_or(e.event_name IN ('first_visit', 'first_open')) AS new,
       bool_or(e.ga_session_number > 1) IS TRUE AS "returning"
FROM peer.events e
LEFT JOIN peer.sessions s
  ON s.user_pseudo_id = e.user_pseudo_id AND s.ga_session_id = e.ga_session_id
 AND s.stream_id = coalesce(e.stream_id, '')
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8;
CREATE INDEX ON peer.activity (day);

CREATE TABLE peer.user_day AS
SELECT a.day, a.location_id, a.user_pseudo_id, bool_or(a.active) AS active, bool_or(a.new) AS new,
       bool_or(a."returning") AS "returning",
       EXISTS (SELECT FROM peer.purchases p
               WHERE p.day = a.day AND p.user_pseudo_id = a.user_pseudo_id) AS purchaser
FROM peer.activity a
WHERE a.user_pseudo_id IS NOT NULL
GROUP BY a.day, a.location_id, a.user_pseudo_id;
ALTER TABLE peer.user_day ADD PRIMARY KEY (day, location_id, user_pseudo_id);
CREATE INDEX ON peer.user_day (user_pseudo_id, day);

CREATE TABLE peer.visitor_parts AS
SELECT a.day, a.user_pseudo_id, a.channel, a.device, a.country, bool_or(a.active) AS active,
       bool_or(a.new) AS new, bool_or(a."returning") AS "returning"
FROM peer.activity a
WHERE a.user_pseudo_id IS NOT NULL
GROUP BY a.day, a.user_pseudo_id, a.channel, a.device, a.country;
ALTER TABLE peer.visitor_parts ADD PRIMARY KEY (day, user_pseudo_id, channel, device, country);
CREATE INDEX ON peer.visitor_parts (user_pseudo_id, day);

CREATE TABLE peer.hourly_rollup AS
SELECT u.day, u.hour_start, u.location_id, sum(u.events) AS events, sum(u.page_views) AS page_views,
       sum(u.sessions) AS sessions, sum(u.engaged) AS engaged_sessions,
       sum(u.with_cart) AS sessions_with_cart, sum(u.with_checkout) AS sessions_with_checkout,
       sum(u.with_purchase) AS sessions_with_purchase, sum(u.searches) AS searches,
       sum(u.failed_searches) AS failed_searches
FROM (
    SELECT a.day, a.hour_start, a.location_id, a.events, a.page_views, 0 AS sessions, 0 AS engaged,
           0 AS with_cart, 0 AS with_checkout, 0 AS with_purchase, a.searches, a.failed_searches
    FROM peer.activity a
    UNION ALL
    SELECT s.day, date_trunc('hour', s.started_at, '{zone}'), s.location_id, 0, 0, 1,
           s.engaged::integer, (s.cart_additions > 0)::integer, (s.checkouts > 0)::integer,
           (s.purchases > 0)::integer, 0, 0
    FROM peer.sessions s
) AS u
GROUP BY u.day, u.hour_start, u.location_id;

CREATE TABLE peer.daily_rollup AS
SELECT h.day, h.location_id, sum(h.events) AS events, sum(h.page_views) AS page_views,
       sum(h.sessions) AS sessions, sum(h.engaged_sessions) AS engaged_sessions,
       sum(h.sessions_with_cart) AS sessions_with_cart,
       sum(h.sessions_with_checkout) AS sessions_with_checkout,
       sum(h.sessions_with_purchase) AS sessions_with_purchase, sum(h.searches) AS searches,
       sum(h.failed_searches) AS failed_searches
FROM peer.hourly_rollup h
GROUP BY h.day, h.location_id;

CREATE TABLE peer.money_rollup AS
SELECT p.day, date_trunc('hour', p.purchased_at, '{zone}') AS hour_start, p.location_id, p.currency,
       p.channel, p.device, p.country, count(*) AS purchases, sum(p.revenue) AS gross_revenue
FROM peer.purchases p
GROUP BY 1, 2, 3, 4, 5, 6, 7;

CREATE TABLE peer.part_rollup AS
SELECT d.dimension, u.day, d.part, sum(u.events) AS events, sum(u.page_views) AS page_views,
       sum(u.sessions) AS sessions, sum(u.engaged) AS engaged_sessions,
       sum(u.with_purchase) AS sessions_with_purchase
FROM (
    SELECT a.day, a.channel, a.device, a.country, sum(a.events) AS events,
           sum(a.page_views) AS page_views, 0 AS sessions, 0 AS engaged, 0 AS with_purchase
    FROM peer.activity a
    GROUP BY 1, 2, 3, 4
    UNION ALL
    SELECT s.day, s.channel, s.device, s.country, 0, 0, count(*),
           count(*) FILTER (WHERE s.engaged), count(*) FILTER (WHERE s.purchases > 0)
    FROM peer.sessions s
    GROUP BY 1, 2, 3, 4
) AS u
CROSS JOIN LATERAL (VALUES
    ('channel', u.channel), ('device', u.device), ('country', u.country)) AS d (dimension, part)
GROUP BY 1, 2, 3;

CREATE TABLE peer.interests AS
SELECT (met.event_at AT TIME ZONE '{zone}')::date AS day, met.kind, left(met.subject, 512) AS subject,
       max(met.label) AS label, met.stream_id, met.user_pseudo_id, met.ga_session_id,
       min(met.event_at) AS first_at, sum(met.views) AS views,
       sum(met.cart_additions) AS cart_additions, sum(met.failures) AS failures
FROM (
    SELECT e.event_at, e.stream_id, e.user_pseudo_id, e.ga_session_id, 'page' AS kind,
           substring(e.page_location FROM '^[a-z]+://[^/?#]*([^?#]*)') AS subject,
           e.page_title AS label, 1 AS views, 0 AS cart_additions, 0 AS failures
    FROM peer.events e
    WHERE e.event_name IN ('page_view', 'screen_view')
    UNION ALL
    SELECT e.event_at, e.stream_id, e.user_pseudo_id, e.ga_session_id, 'product', item.id, item.name,
           (e.event_name = 'view_item')::integer, (e.event_name = 'add_to_cart')::integer, 0
    FROM peer.events e
    CROSS JOIN LATERAL (
        SELECT element ->> 'id' AS id, max(element ->> 'name') AS name
        FROM jsonb_array_elements(e.items::jsonb) AS element
        GROUP BY 1
    ) AS item
    WHERE e.event_name IN ('view_item', 'add_to_cart')
    UNION ALL
    SELECT e.event_at, e.stream_id, e.user_pseudo_id, e.ga_session_id, 'term',
           regexp_replace(btrim(lower(normalize(e.search_term, NFKC))), '\s+', ' ', 'g'),
           e.search_term, 1, 0, (e.event_name = 'no_search_results')::integer
    FROM peer.events e
    WHERE e.event_name IN ('view_search_results', 'no_search_results')
) AS met
WHERE met.subject NOT IN ('', '(not set)')
GROUP BY 1, 2, 3, met.stream_id, met.user_pseudo_id, met.ga_session_id;
CREATE INDEX ON peer.interests (kind, day, subject);
CREATE INDEX ON peer.interests (user_pseudo_id, ga_session_id);
ANALYZE;
