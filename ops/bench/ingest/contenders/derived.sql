-- What somebody writes who loads with dlt and wants what Troupe answers from: all tables of its data schema
-- that follow from events, made at once from all rows, in plain SQL, by the definitions of METRICS. They hold
-- the rows that Troupe's own tables hold; what purchases sold is a table, not a column.
--
-- Left out, because only days that can be replaced need it: parts by source day (a day here is one of the
-- reporting zone, which in the benchmark is the export's), marks of what changes, versions, the state of
-- days, and the indexes by which changes are found. Left out, because the benchmark has none: branches that
-- customers have in the master data, and persons who are erased. Since no later load moves them, activity
-- and sales stand under their session's branch and channel at once; Troupe joins sessions when it adds up.
--
-- What is looked at event by event is picked out once (acts), sessions are grouped with what follows from
-- that at hand, and no table is written twice. Dashboards of theirs look things up as ours do, so that the
-- rows and the tables have the indexes that ours have for them. {zone} is the reporting zone, {currency}
-- the reporting currency.

-- Everything at once does not fit what the server grants a session of a running program.
SET LOCAL work_mem = '128MB';

-- What no row has is no column with dlt.
ALTER TABLE peer.events
    ADD COLUMN IF NOT EXISTS is_active_user boolean,
    ADD COLUMN IF NOT EXISTS customer_id text,
    ADD COLUMN IF NOT EXISTS erp_customer_id text,
    ADD COLUMN IF NOT EXISTS refund_value double precision;
CREATE INDEX ON peer.events (user_pseudo_id, event_at);
-- As ours: the sample that seal_day takes, of the columns that anything is looked up or grouped by.
SET LOCAL default_statistics_target = 20;
ANALYZE peer.events (event_at, event_name, stream_id, user_pseudo_id, ga_session_id);

-- ---- what is looked at event by event

CREATE TEMP TABLE acts ON COMMIT DROP AS
SELECT e.event_at, e.event_name, e.stream_id, e.user_pseudo_id, e.ga_session_id,
       CASE WHEN e.user_pseudo_id IS NOT NULL AND e.ga_session_id IS NOT NULL
            THEN coalesce(e.stream_id, '') END AS session_stream,
       e.customer_id, e.location_id, e.search_term, coalesce(upper(e.currency), '{currency}') AS currency,
       e.currency IS NULL AS currency_missing, e.event_value::numeric(20, 4) AS event_value,
       CASE WHEN btrim(e.transaction_id) NOT IN ('', '(not set)') THEN e.transaction_id END
           AS transaction_id,
       coalesce(e.purchase_revenue, 0)::numeric(20, 4) AS revenue,
       coalesce(e.refund_value, 0)::numeric(20, 4) AS refund_value,
       CASE WHEN e.event_name IN ('view_item', 'add_to_cart', 'remove_from_cart', 'purchase')
            THEN e.items::jsonb END AS items,
       e.bundle_sequence_id, e.batch_event_index
FROM peer.events e
WHERE e.event_name IN (
    'purchase', 'refund', 'view_item', 'add_to_cart', 'remove_from_cart', 'view_cart',
    'begin_checkout', 'add_shipping_info', 'add_payment_info', 'view_search_results',
    'no_search_results');

-- Of one visitor's purchases with one transaction id the earliest counts; sent several times, one that names
-- its session.
CREATE TEMP TABLE sales ON COMMIT DROP AS
SELECT b.*, b.transaction_id IS NULL OR b.user_pseudo_id IS NULL OR row_number() OVER (
               PARTITION BY b.user_pseudo_id, b.transaction_id ORDER BY b.purchase_id) = 1 AS counted
FROM (
    SELECT a.*, row_number() OVER (
               ORDER BY a.event_at, a.bundle_sequence_id, a.batch_event_index, a.ga_session_id)
               AS purchase_id
    FROM acts a
    WHERE a.event_name = 'purchase'
) AS b;

-- Different terms are few, whatever the number of searches.
CREATE TEMP TABLE terms ON COMMIT DROP AS
SELECT t.search_term,
       left(btrim(regexp_replace(casefold(normalize(t.search_term, NFKC) COLLATE pg_unicode_fast),
                                 '\s+', ' ', 'g')), 256) AS term
FROM (
    SELECT DISTINCT a.search_term FROM acts a
    WHERE a.event_name IN ('view_search_results', 'no_search_results') AND a.search_term IS NOT NULL
) AS t;
ANALYZE acts (event_name, session_stream, user_pseudo_id, ga_session_id, search_term), terms,
    sales (session_stream, user_pseudo_id, ga_session_id);

-- ---- sessions

-- Google's published rules for sessions of which the export names no channel.
CREATE FUNCTION peer.default_channel_group(p_source text, p_medium text, p_campaign text) RETURNS text
    LANGUAGE sql IMMUTABLE
AS $$
    SELECT CASE
        WHEN source IS NULL AND medium IS NULL AND campaign IS NULL THEN 'Direct'
        WHEN source = '(direct)' AND coalesce(medium, '(none)') IN ('(none)', '(not set)')
            THEN 'Direct'
        WHEN campaign LIKE '%cross-network%' THEN 'Cross-network'
        WHEN paid AND (shopping OR shop_campaign) THEN 'Paid Shopping'
        WHEN paid AND search THEN 'Paid Search'
        WHEN paid AND social THEN 'Paid Social'
        WHEN paid AND video THEN 'Paid Video'
        WHEN medium IN ('display', 'banner', 'expandable', 'interstitial', 'cpm') THEN 'Display'
        WHEN paid THEN 'Paid Other'
        WHEN shopping OR shop_campaign THEN 'Organic Shopping'
        WHEN social OR medium IN ('social', 'social-network', 'social-media', 'sm', 'social network',
                                  'social media') THEN 'Organic Social'
        WHEN video OR medium LIKE '%video%' THEN 'Organic Video'
        WHEN search OR medium = 'organic' THEN 'Organic Search'
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
        SELECT t.*,
               coalesce(t.medium ~ '^(.*cp.*|ppc|retargeting|paid.*)$', false) AS paid,
               coalesce(t.campaign ~ '(([^a-df-z]|^)shop|shopping)', false) AS shop_campaign,
               coalesce(t.source ~ ('^(.*\.)?(amazon|ebay|etsy|alibaba|aliexpress|shopzilla|idealo'
                   '|mercadolibre|rakuten|walmart|zalando|igshopping|shopping\.google)'
                   '(\.[a-z]{2,3}){0,2}$'), false) AS shopping,
               coalesce(t.source ~ ('^(.*\.)?(youtube|youtu\.be|vimeo|dailymotion|twitch|netflix|hulu'
                   '|disneyplus|wistia|crackle|iqiyi|veoh|youku)(\.[a-z]{2,3}){0,2}$'), false) AS video,
               coalesce(t.source ~ ('^(.*\.)?(facebook|instagram|linkedin|lnkd\.in|twitter|pinterest'
                   '|reddit|tiktok|snapchat|threads|tumblr|quora|vkontakte|weibo|wechat|whatsapp|xing'
                   '|bsky|messenger|telegram|flickr|meetup|yelp|tripadvisor)(\.[a-z]{2,6}){0,2}$')
                   OR t.source IN ('fb', 'ig', 'x', 'x.com', 't.co', 't.me', 'vk', 'vk.com'), false)
                   AS social,
               coalesce(t.source ~ ('^([a-z]{2,3}\.)?((www|m|search|images|news)\.)?(google|bing|yahoo'
                   '|duckduckgo|baidu|yandex|ecosia|qwant|naver|daum|seznam|ask|aol|startpage|brave'
                   '|sogou|so|lycos|msn|rambler)(\.[a-z]{2,3}){0,2}$'), false) AS search
        FROM (
            SELECT lower(nullif(btrim(p_source), '')) AS source,
                   lower(nullif(btrim(p_medium), '')) AS medium,
                   lower(nullif(btrim(p_campaign), '')) AS campaign
        ) AS t
    ) AS traffic
$$;

-- The shortest time from a product view to a later addition to the cart, to a checkout after that, to a
-- purchase after that. A chain is shortest when it began latest, so each step hands on the latest
-- beginning of any chain that has got so far.
CREATE TEMP TABLE funnels ON COMMIT DROP AS
WITH shoppers AS (
    SELECT DISTINCT a.session_stream, a.user_pseudo_id, a.ga_session_id
    FROM acts a
    WHERE a.event_name = 'add_to_cart' AND a.session_stream IS NOT NULL
), step AS (
    SELECT a.session_stream, a.user_pseudo_id, a.ga_session_id, a.event_at AS at,
           CASE a.event_name WHEN 'view_item' THEN 1 WHEN 'add_to_cart' THEN 2 ELSE 3 END AS number
    FROM acts a
    JOIN shoppers USING (session_stream, user_pseudo_id, ga_session_id)
    WHERE a.event_name IN ('view_item', 'add_to_cart', 'begin_checkout')
    UNION ALL
    SELECT b.session_stream, b.user_pseudo_id, b.ga_session_id, b.event_at, 4
    FROM sales b
    WHERE b.counted AND b.session_stream IS NOT NULL
), viewed AS (
    SELECT *, max(at) FILTER (WHERE number = 1) OVER so_far AS began
    FROM step
    WINDOW so_far AS (PARTITION BY user_pseudo_id, ga_session_id, session_stream ORDER BY at)
), carted AS (
    SELECT *, max(began) FILTER (WHERE number = 2) OVER so_far AS cart_began
    FROM viewed
    WHERE began IS NOT NULL
    WINDOW so_far AS (PARTITION BY user_pseudo_id, ga_session_id, session_stream ORDER BY at)
), checked_out AS (
    SELECT *, max(cart_began) FILTER (WHERE number = 3) OVER so_far AS checkout_began
    FROM carted
    WHERE cart_began IS NOT NULL
    WINDOW so_far AS (PARTITION BY user_pseudo_id, ga_session_id, session_stream ORDER BY at)
)
SELECT session_stream AS stream_id, user_pseudo_id, ga_session_id,
       min(at - began) FILTER (WHERE number = 2) AS cart_within,
       min(at - cart_began) FILTER (WHERE number = 3) AS checkout_within,
       min(at - checkout_began) FILTER (WHERE number = 4) AS purchase_within
FROM checked_out
GROUP BY user_pseudo_id, ga_session_id, session_stream;
ANALYZE funnels;

-- Events are sorted once for all that is first or last in a session: an aggregate takes its rows as a sorted
-- subquery right below it gives them.
CREATE TABLE peer.sessions AS
SELECT (g.started_at AT TIME ZONE '{zone}')::date AS day, g.stream_id, g.user_pseudo_id,
       g.ga_session_id, g.started_at, g.ended_at, (g.ended_at AT TIME ZONE '{zone}')::date AS last_day,
       g.session_number, g.engaged, g.engagement_ms,
       g.customer_ids[cardinality(g.customer_ids)] AS customer_id,
       g.erp_customer_ids[cardinality(g.erp_customer_ids)] AS erp_customer_id,
       coalesce(g.location_ids[cardinality(g.location_ids)], '') AS location_id,
       coalesce(g.channels[1], peer.default_channel_group(g.sources[1], g.media[1], g.campaigns[1]))
           AS channel,
       g.channels[1] IS NULL AS channel_by_rules, g.sources[1] AS source, g.media[1] AS medium,
       g.campaigns[1] AS campaign, coalesce(g.devices[1], '') AS device,
       coalesce(g.countries[1], '') AS country, g.pages[1] AS landing_page, g.events, g.page_views,
       g.item_views, g.cart_additions, g.checkouts, coalesce(b.purchases, 0) AS purchases, g.searches,
       g.failed_searches, g.active, g.new,
       (extract(epoch FROM f.cart_within) * 1000000)::bigint AS cart_within,
       (extract(epoch FROM f.checkout_within) * 1000000)::bigint AS checkout_within,
       (extract(epoch FROM f.purchase_within) * 1000000)::bigint AS purchase_within
FROM (
    SELECT o.stream_id, o.user_pseudo_id, o.ga_session_id,
           min(o.event_at) AS started_at, max(o.event_at) AS ended_at,
           max(o.ga_session_number) AS session_number,
           coalesce(bool_or(o.session_engaged), false) AS engaged,
           coalesce(sum(o.engagement_ms), 0)::bigint AS engagement_ms,
           array_agg(o.customer_id) FILTER (WHERE o.customer_id IS NOT NULL) AS customer_ids,
           array_agg(o.erp_customer_id)
               FILTER (WHERE o.erp_customer_id IS NOT NULL) AS erp_customer_ids,
           array_agg(o.location_id) FILTER (WHERE o.location_id IS NOT NULL) AS location_ids,
           array_agg(o.channel) FILTER (WHERE o.channel IS NOT NULL) AS channels,
           array_agg(o.source)
               FILTER (WHERE coalesce(o.source, o.medium, o.campaign) IS NOT NULL) AS sources,
           array_agg(o.medium)
               FILTER (WHERE coalesce(o.source, o.medium, o.campaign) IS NOT NULL) AS media,
           array_agg(o.campaign)
               FILTER (WHERE coalesce(o.source, o.medium, o.campaign) IS NOT NULL) AS campaigns,
           array_agg(o.device_category)
               FILTER (WHERE o.device_category IS NOT NULL) AS devices,
           array_agg(o.country) FILTER (WHERE o.country IS NOT NULL) AS countries,
           array_agg(o.page_location) FILTER (WHERE o.page_location IS NOT NULL) AS pages,
           count(*) AS events,
           count(*) FILTER (WHERE o.event_name IN ('page_view', 'screen_view')) AS page_views,
           count(*) FILTER (WHERE o.event_name = 'view_item') AS item_views,
           count(*) FILTER (WHERE o.event_name = 'add_to_cart') AS cart_additions,
           count(*) FILTER (WHERE o.event_name = 'begin_checkout') AS checkouts,
           count(*) FILTER (WHERE o.event_name IN ('view_search_results', 'no_search_results'))
               AS searches,
           count(*) FILTER (WHERE o.event_name = 'no_search_results') AS failed_searches,
           bool_or(o.is_active_user IS TRUE OR o.engagement_ms > 0
                   OR o.event_name IN ('first_visit', 'first_open')) IS TRUE AS active,
           bool_or(o.event_name IN ('first_visit', 'first_open')) AS new
    FROM (
        SELECT coalesce(e.stream_id, '') AS stream_id, e.user_pseudo_id, e.ga_session_id, e.event_at,
               e.event_name, e.ga_session_number, e.session_engaged, e.engagement_ms,
               e.is_active_user, e.customer_id, e.erp_customer_id, e.location_id, e.channel, e.source,
               e.medium, e.campaign, e.device_category, e.country, e.page_location
        FROM peer.events e
        WHERE e.user_pseudo_id IS NOT NULL AND e.ga_session_id IS NOT NULL
        ORDER BY e.user_pseudo_id, e.ga_session_id, coalesce(e.stream_id, ''), e.event_at,
                 e.bundle_sequence_id, e.batch_event_index
    ) AS o
    GROUP BY o.user_pseudo_id, o.ga_session_id, o.stream_id
) AS g
LEFT JOIN (
    SELECT session_stream AS stream_id, user_pseudo_id, ga_session_id, count(*) AS purchases
    FROM sales
    WHERE counted AND session_stream IS NOT NULL
    GROUP BY 1, 2, 3
) AS b USING (stream_id, user_pseudo_id, ga_session_id)
LEFT JOIN funnels f USING (stream_id, user_pseudo_id, ga_session_id);
ALTER TABLE peer.sessions ADD PRIMARY KEY (day, stream_id, user_pseudo_id, ga_session_id);
CREATE INDEX ON peer.sessions (user_pseudo_id, ga_session_id);
CREATE INDEX ON peer.sessions (last_day) WHERE last_day > day;
CREATE INDEX ON peer.sessions (customer_id) WHERE customer_id IS NOT NULL;
ANALYZE peer.sessions;

CREATE TABLE peer.entrances AS
SELECT s.day, coalesce(left(split_part(split_part(s.landing_page, '?', 1), '#', 1), 1024), '') AS page,
       count(*) AS sessions, count(*) FILTER (WHERE NOT s.engaged) AS bounces,
       count(*) FILTER (WHERE s.purchases > 0) AS conversions
FROM peer.sessions s
GROUP BY 1, 2;
ALTER TABLE peer.entrances ADD PRIMARY KEY (day, page);

-- ---- sales

CREATE TABLE peer.purchases AS
SELECT b.purchase_id, (b.event_at AT TIME ZONE '{zone}')::date AS day, b.event_at AS purchased_at,
       b.stream_id, b.user_pseudo_id, b.ga_session_id, coalesce(s.customer_id, b.customer_id)
           AS customer_id,
       coalesce(s.location_id, b.location_id, '') AS location_id, coalesce(s.channel, '') AS channel,
       coalesce(s.device, '') AS device, coalesce(s.country, '') AS country, b.transaction_id,
       b.currency, b.currency_missing, b.revenue, b.event_value, b.items, b.counted,
       coalesce(abs(b.event_value - b.revenue) > 0.01, false) AS value_mismatch
FROM sales b
LEFT JOIN peer.sessions s
  ON s.user_pseudo_id = b.user_pseudo_id AND s.ga_session_id = b.ga_session_id
 AND s.stream_id = b.session_stream;
ALTER TABLE peer.purchases ADD PRIMARY KEY (purchase_id);
CREATE INDEX ON peer.purchases (day);
CREATE INDEX ON peer.purchases (user_pseudo_id, ga_session_id)
    WHERE user_pseudo_id IS NOT NULL AND ga_session_id IS NOT NULL;

CREATE TABLE peer.sold_items AS
SELECT p.purchase_id, left(i.item ->> 'id', 1024) AS product, max(i.item ->> 'name') AS label,
       sum(coalesce(given.quantity, 1)) AS quantity,
       sum(coalesce(given.revenue, given.price * coalesce(given.quantity, 1), 0)) AS revenue
FROM peer.purchases p
CROSS JOIN jsonb_array_elements(p.items) AS i (item)
CROSS JOIN LATERAL (
    SELECT (i.item ->> 'quantity')::numeric AS quantity, (i.item ->> 'revenue')::numeric AS revenue,
           (i.item ->> 'price')::numeric AS price
) AS given
WHERE i.item ->> 'id' NOT IN ('', '(not set)')
GROUP BY 1, 2;
ALTER TABLE peer.sold_items ADD PRIMARY KEY (purchase_id, product);

CREATE TABLE peer.refunds AS
SELECT row_number() OVER (ORDER BY a.event_at, a.bundle_sequence_id, a.batch_event_index) AS refund_id,
       (a.event_at AT TIME ZONE '{zone}')::date AS day, a.event_at AS refunded_at, a.stream_id,
       a.user_pseudo_id, a.ga_session_id, coalesce(s.location_id, a.location_id, '') AS location_id,
       coalesce(s.channel, '') AS channel, coalesce(s.device, '') AS device,
       coalesce(s.country, '') AS country, a.transaction_id, a.currency, a.refund_value
FROM acts a
LEFT JOIN peer.sessions s
  ON s.user_pseudo_id = a.user_pseudo_id AND s.ga_session_id = a.ga_session_id
 AND s.stream_id = a.session_stream
WHERE a.event_name = 'refund';
ALTER TABLE peer.refunds ADD PRIMARY KEY (refund_id);
CREATE INDEX ON peer.refunds (day);
CREATE INDEX ON peer.refunds (user_pseudo_id, ga_session_id)
    WHERE user_pseudo_id IS NOT NULL AND ga_session_id IS NOT NULL;
ANALYZE peer.purchases, peer.refunds;

CREATE TABLE peer.money_rollup AS
SELECT m.day, m.hour_start, m.location_id, m.currency, sum(m.purchases) AS purchases,
       sum(m.revenue) AS gross_revenue, sum(m.refunds) AS refunds, sum(m.refund_value) AS refund_value
FROM (
    SELECT p.day, date_trunc('hour', p.purchased_at, '{zone}') AS hour_start, p.location_id, p.currency,
           1 AS purchases, p.revenue, 0 AS refunds, 0::numeric AS refund_value
    FROM peer.purchases p
    WHERE p.counted
    UNION ALL
    SELECT r.day, date_trunc('hour', r.refunded_at, '{zone}'), r.location_id, r.currency, 0, 0, 1,
           r.refund_value
    FROM peer.refunds r
) AS m
GROUP BY m.day, m.hour_start, m.location_id, m.currency;
ALTER TABLE peer.money_rollup ADD PRIMARY KEY (day, hour_start, location_id, currency);

CREATE TABLE peer.daily_money AS
SELECT m.day, m.location_id, m.currency, sum(m.purchases) AS purchases,
       sum(m.gross_revenue) AS gross_revenue, sum(m.refund_value) AS refund_value
FROM peer.money_rollup m
GROUP BY m.day, m.location_id, m.currency;
ALTER TABLE peer.daily_money ADD PRIMARY KEY (day, location_id, currency);

CREATE TABLE peer.part_money AS
SELECT d.dimension, t.day, d.part, t.currency, sum(t.purchases) AS purchases,
       sum(t.revenue) AS gross_revenue, sum(t.refund_value) AS refund_value
FROM (
    SELECT p.day, p.channel, p.device, p.country, p.currency, 1 AS purchases, p.revenue,
           0::numeric AS refund_value
    FROM peer.purchases p
    WHERE p.counted
    UNION ALL
    SELECT r.day, r.channel, r.device, r.country, r.currency, 0, 0, r.refund_value
    FROM peer.refunds r
) AS t
CROSS JOIN LATERAL (VALUES
    ('channel', t.channel), ('device', t.device), ('country', t.country)) AS d (dimension, part)
GROUP BY d.dimension, t.day, d.part, t.currency;
ALTER TABLE peer.part_money ADD PRIMARY KEY (dimension, day, part, currency);

-- ---- hours and visitors

-- Grouped before sessions are joined: there are some ten times fewer rows then.
CREATE TABLE peer.activity AS
SELECT (h.hour_start AT TIME ZONE '{zone}')::date AS day, h.hour_start,
       coalesce(s.location_id, h.own_location_id, '') AS location_id, h.stream_id, h.user_pseudo_id,
       h.ga_session_id, coalesce(s.channel, '') AS channel, coalesce(s.device, '') AS device,
       coalesce(s.country, '') AS country, h.events, h.page_views, h.searches, h.failed_searches,
       h.active OR s.engaged IS TRUE AS active, h.new, h."returning"
FROM (
    SELECT date_trunc('hour', e.event_at, '{zone}') AS hour_start, e.stream_id, e.user_pseudo_id,
           e.ga_session_id, e.own_location_id, count(*) AS events,
           count(*) FILTER (WHERE e.event_name IN ('page_view', 'screen_view')) AS page_views,
           count(*) FILTER (WHERE e.event_name IN ('view_search_results', 'no_search_results'))
               AS searches,
           count(*) FILTER (WHERE e.event_name = 'no_search_results') AS failed_searches,
           bool_or(e.is_active_user IS TRUE OR e.engagement_ms > 0
                   OR e.event_name IN ('first_visit', 'first_open')) IS TRUE AS active,
           bool_or(e.event_name IN ('first_visit', 'first_open')) AS new,
           bool_or(e.ga_session_number > 1) IS TRUE AS "returning"
    FROM (
        SELECT d.event_at, d.event_name, d.user_pseudo_id, d.is_active_user, d.engagement_ms,
               d.ga_session_number,
               CASE WHEN key.complete THEN coalesce(d.stream_id, '') END AS stream_id,
               CASE WHEN key.complete THEN d.ga_session_id END AS ga_session_id,
               CASE WHEN NOT key.complete THEN coalesce(d.location_id, '') END AS own_location_id
        FROM peer.events d
        CROSS JOIN LATERAL (
            SELECT d.user_pseudo_id IS NOT NULL AND d.ga_session_id IS NOT NULL AS complete
        ) AS key
    ) AS e
    GROUP BY 1, 2, 3, 4, 5
) AS h
LEFT JOIN peer.sessions s
  ON s.user_pseudo_id = h.user_pseudo_id AND s.ga_session_id = h.ga_session_id
 AND s.stream_id = h.stream_id;
CREATE INDEX ON peer.activity (day);
CREATE INDEX ON peer.activity (day) WHERE ga_session_id IS NULL;
ANALYZE peer.activity;

CREATE TABLE peer.user_day AS
SELECT v.day, v.location_id, v.user_pseudo_id, bool_or(v.active) AS active, bool_or(v.new) AS new,
       bool_or(v."returning") AS "returning", bool_or(v.purchaser) AS purchaser
FROM (
    SELECT a.day, a.location_id, a.user_pseudo_id, true AS seen, a.active, a.new, a."returning",
           false AS purchaser
    FROM peer.activity a
    WHERE a.user_pseudo_id IS NOT NULL
    UNION ALL
    SELECT p.day, p.location_id, p.user_pseudo_id, false, false, false, false, true
    FROM peer.purchases p
    WHERE p.counted AND p.user_pseudo_id IS NOT NULL
) AS v
GROUP BY v.day, v.location_id, v.user_pseudo_id
HAVING bool_or(v.seen);
ALTER TABLE peer.user_day ADD PRIMARY KEY (day, location_id, user_pseudo_id);
CREATE INDEX ON peer.user_day (user_pseudo_id, day);

CREATE TABLE peer.visitor_parts AS
SELECT v.day, v.user_pseudo_id, v.channel, v.device, v.country, bool_or(v.active) AS active,
       bool_or(v.new) AS new, bool_or(v."returning") AS "returning", bool_or(v.purchaser) AS purchaser
FROM (
    SELECT a.day, a.user_pseudo_id, a.channel, a.device, a.country, true AS seen, a.active, a.new,
           a."returning", false AS purchaser
    FROM peer.activity a
    WHERE a.user_pseudo_id IS NOT NULL
    UNION ALL
    SELECT p.day, p.user_pseudo_id, p.channel, p.device, p.country, false, false, false, false, true
    FROM peer.purchases p
    WHERE p.counted AND p.user_pseudo_id IS NOT NULL
) AS v
GROUP BY v.day, v.user_pseudo_id, v.channel, v.device, v.country
HAVING bool_or(v.seen);
ALTER TABLE peer.visitor_parts ADD PRIMARY KEY (day, user_pseudo_id, channel, device, country);
CREATE INDEX ON peer.visitor_parts (user_pseudo_id, day);
ANALYZE peer.user_day, peer.visitor_parts;

-- How visitors come back: of each day, how many of its visitors were last seen on which earlier day. The
-- visitors of [a, b] are then those of the days within whose previous day lies before a. Each flag has a
-- chain of its own. Visitors who are alike are added up before flags are told apart.
CREATE TABLE peer.visitor_returns AS
SELECT k.day, link.previous_day, sum(link.t) AS total, sum(link.a) AS active, sum(link.n) AS new,
       sum(link.r) AS "returning", sum(link.p) AS purchasers
FROM (
    SELECT c.day, coalesce(c.t_last, '-infinity') AS t,
           CASE WHEN c.active THEN coalesce(c.a_last, '-infinity') END AS a,
           CASE WHEN c.new THEN coalesce(c.n_last, '-infinity') END AS n,
           CASE WHEN c."returning" THEN coalesce(c.r_last, '-infinity') END AS r,
           CASE WHEN c.purchaser THEN coalesce(c.p_last, '-infinity') END AS p, count(*) AS visitors
    FROM (
        SELECT u.*, lag(u.day) OVER before AS t_last,
               max(u.day) FILTER (WHERE u.active) OVER before AS a_last,
               max(u.day) FILTER (WHERE u.new) OVER before AS n_last,
               max(u.day) FILTER (WHERE u."returning") OVER before AS r_last,
               max(u.day) FILTER (WHERE u.purchaser) OVER before AS p_last
        FROM (
            SELECT d.user_pseudo_id, d.day, bool_or(d.active) AS active, bool_or(d.new) AS new,
                   bool_or(d."returning") AS "returning", bool_or(d.purchaser) AS purchaser
            FROM peer.user_day d
            GROUP BY d.user_pseudo_id, d.day
        ) AS u
        WINDOW before AS (PARTITION BY u.user_pseudo_id ORDER BY u.day
                          ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
    ) AS c
    GROUP BY 1, 2, 3, 4, 5, 6
) AS k
CROSS JOIN LATERAL (VALUES
    (k.t, k.visitors, 0, 0, 0, 0), (k.a, 0, k.visitors, 0, 0, 0), (k.n, 0, 0, k.visitors, 0, 0),
    (k.r, 0, 0, 0, k.visitors, 0), (k.p, 0, 0, 0, 0, k.visitors)
) AS link (previous_day, t, a, n, r, p)
WHERE link.previous_day IS NOT NULL
GROUP BY k.day, link.previous_day;
ALTER TABLE peer.visitor_returns ADD PRIMARY KEY (day, previous_day);

CREATE TABLE peer.location_returns AS
SELECT k.location_id, k.day, link.previous_day, sum(link.t) AS total, sum(link.a) AS active,
       sum(link.n) AS new, sum(link.r) AS "returning", sum(link.p) AS purchasers
FROM (
    SELECT c.location_id, c.day, coalesce(c.t_last, '-infinity') AS t,
           CASE WHEN c.active THEN coalesce(c.a_last, '-infinity') END AS a,
           CASE WHEN c.new THEN coalesce(c.n_last, '-infinity') END AS n,
           CASE WHEN c."returning" THEN coalesce(c.r_last, '-infinity') END AS r,
           CASE WHEN c.purchaser THEN coalesce(c.p_last, '-infinity') END AS p, count(*) AS visitors
    FROM (
        SELECT u.*, lag(u.day) OVER before AS t_last,
               max(u.day) FILTER (WHERE u.active) OVER before AS a_last,
               max(u.day) FILTER (WHERE u.new) OVER before AS n_last,
               max(u.day) FILTER (WHERE u."returning") OVER before AS r_last,
               max(u.day) FILTER (WHERE u.purchaser) OVER before AS p_last
        FROM peer.user_day u
        WINDOW before AS (PARTITION BY u.user_pseudo_id, u.location_id ORDER BY u.day
                          ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
    ) AS c
    GROUP BY 1, 2, 3, 4, 5, 6, 7
) AS k
CROSS JOIN LATERAL (VALUES
    (k.t, k.visitors, 0, 0, 0, 0), (k.a, 0, k.visitors, 0, 0, 0), (k.n, 0, 0, k.visitors, 0, 0),
    (k.r, 0, 0, 0, k.visitors, 0), (k.p, 0, 0, 0, 0, k.visitors)
) AS link (previous_day, t, a, n, r, p)
WHERE link.previous_day IS NOT NULL
GROUP BY k.location_id, k.day, link.previous_day;
ALTER TABLE peer.location_returns ADD PRIMARY KEY (location_id, day, previous_day);
CREATE INDEX ON peer.location_returns (day, previous_day);

CREATE TABLE peer.part_returns AS
SELECT k.dimension, k.part, k.day, link.previous_day, sum(link.t) AS total, sum(link.a) AS active,
       sum(link.n) AS new, sum(link.r) AS "returning", sum(link.p) AS purchasers
FROM (
    SELECT c.dimension, c.part, c.day, coalesce(c.t_last, '-infinity') AS t,
           CASE WHEN c.active THEN coalesce(c.a_last, '-infinity') END AS a,
           CASE WHEN c.new THEN coalesce(c.n_last, '-infinity') END AS n,
           CASE WHEN c."returning" THEN coalesce(c.r_last, '-infinity') END AS r,
           CASE WHEN c.purchaser THEN coalesce(c.p_last, '-infinity') END AS p, count(*) AS visitors
    FROM (
        SELECT u.*, lag(u.day) OVER before AS t_last,
               max(u.day) FILTER (WHERE u.active) OVER before AS a_last,
               max(u.day) FILTER (WHERE u.new) OVER before AS n_last,
               max(u.day) FILTER (WHERE u."returning") OVER before AS r_last,
               max(u.day) FILTER (WHERE u.purchaser) OVER before AS p_last
        FROM (
            SELECT v.user_pseudo_id, d.dimension, d.part, v.day, bool_or(v.active) AS active,
                   bool_or(v.new) AS new, bool_or(v."returning") AS "returning",
                   bool_or(v.purchaser) AS purchaser
            FROM peer.visitor_parts v
            CROSS JOIN LATERAL (VALUES
                ('channel', v.channel), ('device', v.device), ('country', v.country)
            ) AS d (dimension, part)
            GROUP BY v.user_pseudo_id, d.dimension, d.part, v.day
        ) AS u
        WINDOW before AS (PARTITION BY u.user_pseudo_id, u.dimension, u.part ORDER BY u.day
                          ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
    ) AS c
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
) AS k
CROSS JOIN LATERAL (VALUES
    (k.t, k.visitors, 0, 0, 0, 0), (k.a, 0, k.visitors, 0, 0, 0), (k.n, 0, 0, k.visitors, 0, 0),
    (k.r, 0, 0, 0, k.visitors, 0), (k.p, 0, 0, 0, 0, k.visitors)
) AS link (previous_day, t, a, n, r, p)
WHERE link.previous_day IS NOT NULL
GROUP BY k.dimension, k.part, k.day, link.previous_day;
ALTER TABLE peer.part_returns ADD PRIMARY KEY (dimension, part, day, previous_day);
CREATE INDEX ON peer.part_returns (dimension, day, previous_day);

-- ---- rollups

CREATE TABLE peer.hourly_rollup AS
SELECT u.day, u.hour_start, u.location_id, sum(u.events) AS events,
       sum(u.events_without_consent) AS events_without_consent, sum(u.page_views) AS page_views,
       sum(u.sessions) AS sessions, sum(u.engaged) AS engaged_sessions,
       sum(u.with_cart) AS sessions_with_cart, sum(u.with_checkout) AS sessions_with_checkout,
       sum(u.with_purchase) AS sessions_with_purchase,
       sum(u.with_cart_without_purchase) AS sessions_with_cart_without_purchase,
       sum(u.searches) AS searches, sum(u.failed_searches) AS failed_searches
FROM (
    SELECT a.day, a.hour_start, a.location_id, a.events,
           CASE WHEN a.ga_session_id IS NULL THEN a.events ELSE 0 END AS events_without_consent,
           a.page_views, 0 AS sessions, 0 AS engaged, 0 AS with_cart, 0 AS with_checkout,
           0 AS with_purchase, 0 AS with_cart_without_purchase, a.searches, a.failed_searches
    FROM peer.activity a
    UNION ALL
    SELECT s.day, date_trunc('hour', s.started_at, '{zone}'), s.location_id, 0, 0, 0, 1,
           s.engaged::integer, (s.cart_additions > 0)::integer, (s.checkouts > 0)::integer,
           (s.purchases > 0)::integer, (s.cart_additions > 0 AND s.purchases = 0)::integer, 0, 0
    FROM peer.sessions s
) AS u
GROUP BY u.day, u.hour_start, u.location_id;
ALTER TABLE peer.hourly_rollup ADD PRIMARY KEY (day, hour_start, location_id);

CREATE TABLE peer.daily_rollup AS
SELECT h.day, h.location_id, sum(h.events) AS events,
       sum(h.events_without_consent) AS events_without_consent, sum(h.page_views) AS page_views,
       sum(h.sessions) AS sessions, sum(h.engaged_sessions) AS engaged_sessions,
       sum(h.sessions_with_cart) AS sessions_with_cart,
       sum(h.sessions_with_checkout) AS sessions_with_checkout,
       sum(h.sessions_with_purchase) AS sessions_with_purchase,
       sum(h.sessions_with_cart_without_purchase) AS sessions_with_cart_without_purchase,
       sum(h.searches) AS searches, sum(h.failed_searches) AS failed_searches
FROM peer.hourly_rollup h
GROUP BY h.day, h.location_id;
ALTER TABLE peer.daily_rollup ADD PRIMARY KEY (day, location_id);

CREATE TABLE peer.part_rollup AS
SELECT d.dimension, u.day, d.part, sum(u.events) AS events,
       sum(u.events_without_consent) AS events_without_consent, sum(u.page_views) AS page_views,
       sum(u.sessions) AS sessions, sum(u.engaged) AS engaged_sessions,
       sum(u.with_cart) AS sessions_with_cart, sum(u.with_checkout) AS sessions_with_checkout,
       sum(u.with_purchase) AS sessions_with_purchase,
       sum(u.with_cart_without_purchase) AS sessions_with_cart_without_purchase,
       sum(u.searches) AS searches, sum(u.failed_searches) AS failed_searches
FROM (
    SELECT a.day, a.channel, a.device, a.country, sum(a.events) AS events,
           coalesce(sum(a.events) FILTER (WHERE a.ga_session_id IS NULL), 0) AS events_without_consent,
           sum(a.page_views) AS page_views, 0 AS sessions, 0 AS engaged, 0 AS with_cart,
           0 AS with_checkout, 0 AS with_purchase, 0 AS with_cart_without_purchase,
           sum(a.searches) AS searches, sum(a.failed_searches) AS failed_searches
    FROM peer.activity a
    GROUP BY 1, 2, 3, 4
    UNION ALL
    SELECT s.day, s.channel, s.device, s.country, 0, 0, 0, count(*),
           count(*) FILTER (WHERE s.engaged), count(*) FILTER (WHERE s.cart_additions > 0),
           count(*) FILTER (WHERE s.checkouts > 0), count(*) FILTER (WHERE s.purchases > 0),
           count(*) FILTER (WHERE s.cart_additions > 0 AND s.purchases = 0), 0, 0
    FROM peer.sessions s
    GROUP BY 1, 2, 3, 4
) AS u
CROSS JOIN LATERAL (VALUES
    ('channel', u.channel), ('device', u.device), ('country', u.country)) AS d (dimension, part)
GROUP BY 1, 2, 3;
ALTER TABLE peer.part_rollup ADD PRIMARY KEY (dimension, day, part);

-- ---- pages, products, terms

CREATE TABLE peer.interests AS
SELECT (h.hour_start AT TIME ZONE '{zone}')::date AS day, h.kind, h.subject, h.label, h.stream_id,
       h.user_pseudo_id, h.ga_session_id, h.own_location_id, h.first_at, h.views, h.cart_additions,
       h.failures
FROM (
    SELECT date_trunc('hour', met.event_at, '{zone}') AS hour_start, met.kind,
           left(met.subject, 1024) AS subject, left(max(met.label), 256) AS label,
           CASE WHEN key.complete THEN coalesce(met.stream_id, '') END AS stream_id, met.user_pseudo_id,
           CASE WHEN key.complete THEN met.ga_session_id END AS ga_session_id,
           CASE WHEN NOT key.complete THEN coalesce(met.location_id, '') END AS own_location_id,
           min(met.event_at) AS first_at, sum(met.views) AS views,
           sum(met.cart_additions) AS cart_additions, sum(met.failures) AS failures
    FROM (
        SELECT e.event_at, e.stream_id, e.user_pseudo_id, e.ga_session_id, e.location_id,
               'page' AS kind, split_part(split_part(e.page_location, '?', 1), '#', 1) AS subject,
               e.page_title AS label, 1 AS views, 0 AS cart_additions, 0 AS failures
        FROM peer.events e
        WHERE e.event_name IN ('page_view', 'screen_view')
        UNION ALL
        SELECT a.event_at, a.stream_id, a.user_pseudo_id, a.ga_session_id, a.location_id, 'product',
               item.id, item.name, (a.event_name = 'view_item')::integer,
               (a.event_name = 'add_to_cart')::integer, 0
        FROM acts a
        CROSS JOIN LATERAL (
            SELECT element ->> 'id' AS id, max(element ->> 'name') AS name
            FROM jsonb_array_elements(a.items) AS element
            GROUP BY 1
        ) AS item
        WHERE a.event_name IN ('view_item', 'add_to_cart')
        UNION ALL
        SELECT a.event_at, a.stream_id, a.user_pseudo_id, a.ga_session_id, a.location_id, 'term',
               t.term, a.search_term, 1, 0, (a.event_name = 'no_search_results')::integer
        FROM acts a
        JOIN terms t USING (search_term)
        WHERE a.event_name IN ('view_search_results', 'no_search_results')
    ) AS met
    CROSS JOIN LATERAL (
        SELECT met.user_pseudo_id IS NOT NULL AND met.ga_session_id IS NOT NULL AS complete
    ) AS key
    WHERE met.subject NOT IN ('', '(not set)')
    GROUP BY 1, 2, 3, 5, 6, 7, 8
) AS h;
CREATE INDEX ON peer.interests (kind, day, subject);
CREATE INDEX ON peer.interests (user_pseudo_id, ga_session_id)
    WHERE kind = 'product' AND ga_session_id IS NOT NULL;

CREATE TABLE peer.subject_days AS
SELECT i.kind, i.day, i.subject, sum(i.views) AS views, sum(i.cart_additions) AS cart_additions,
       sum(i.failures) AS failures
FROM peer.interests i
GROUP BY i.kind, i.day, i.subject;
ALTER TABLE peer.subject_days ADD PRIMARY KEY (kind, day, subject);

CREATE TABLE peer.searches AS
SELECT q.day, min(q.event_at) AS first_at, max(q.event_at) AS last_at, q.stream_id, q.user_pseudo_id,
       q.ga_session_id, q.location_id, q.term, count(*) AS searches,
       count(*) FILTER (WHERE q.failed) AS failed_searches,
       coalesce(max(q.last_purchase) > min(q.event_at), false) AS purchased
FROM (
    SELECT (a.event_at AT TIME ZONE '{zone}')::date AS day, a.event_at,
           a.event_name = 'no_search_results' AS failed, a.session_stream AS stream_id, a.user_pseudo_id,
           CASE WHEN a.session_stream IS NOT NULL THEN a.ga_session_id END AS ga_session_id,
           coalesce(s.location_id, a.location_id, '') AS location_id, coalesce(t.term, '') AS term,
           b.last_purchase
    FROM acts a
    LEFT JOIN terms t USING (search_term)
    LEFT JOIN peer.sessions s
      ON s.user_pseudo_id = a.user_pseudo_id AND s.ga_session_id = a.ga_session_id
     AND s.stream_id = a.session_stream
    LEFT JOIN (
        SELECT session_stream, user_pseudo_id, ga_session_id, max(event_at) AS last_purchase
        FROM sales
        WHERE counted
        GROUP BY 1, 2, 3
    ) AS b
      ON b.user_pseudo_id = a.user_pseudo_id AND b.ga_session_id = a.ga_session_id
     AND b.session_stream = a.session_stream
    WHERE a.event_name IN ('view_search_results', 'no_search_results')
) AS q
GROUP BY q.day, q.stream_id, q.user_pseudo_id, q.ga_session_id, q.location_id, q.term;
CREATE INDEX ON peer.searches (day);
CREATE INDEX ON peer.searches (user_pseudo_id, ga_session_id) WHERE ga_session_id IS NOT NULL;

-- ---- carts

-- One row per item of each event; an event without items is a look at the cart. An item without an id
-- goes by its name.
CREATE TABLE peer.cart_events AS
SELECT row_number() OVER (
           ORDER BY a.event_at, a.bundle_sequence_id, a.batch_event_index, a.event_name,
                    a.ga_session_id, i.number) AS position,
       (a.event_at AT TIME ZONE '{zone}')::date AS day, a.event_at,
       CASE WHEN i.item_id IS NULL AND a.event_name <> 'purchase' THEN 'look'
            WHEN a.event_name = 'add_to_cart' THEN 'add'
            WHEN a.event_name = 'remove_from_cart' THEN 'remove'
            WHEN a.event_name = 'purchase' THEN 'purchase'
            ELSE 'look' END AS action,
       s.stream_id, a.user_pseudo_id, s.ga_session_id,
       coalesce(s.customer_id, a.customer_id) AS customer_id,
       coalesce(s.location_id, a.location_id, '') AS location_id, i.item_id, i.name AS item_name,
       i.category AS item_category, i.price, coalesce(i.quantity, 0) AS quantity, a.currency
FROM acts a
LEFT JOIN peer.sessions s
  ON s.user_pseudo_id = a.user_pseudo_id AND s.ga_session_id = a.ga_session_id
 AND s.stream_id = a.session_stream
LEFT JOIN LATERAL (
    SELECT r.number, left(coalesce(nullif(r.item ->> 'id', ''), r.item ->> 'name'), 256) AS item_id,
           r.item ->> 'name' AS name, r.item ->> 'category' AS category,
           (r.item ->> 'price')::numeric AS price,
           coalesce(greatest((r.item ->> 'quantity')::numeric, 0), 1)::bigint AS quantity
    FROM jsonb_array_elements(a.items) WITH ORDINALITY AS r (item, number)
    WHERE coalesce(nullif(r.item ->> 'id', ''), nullif(r.item ->> 'name', '')) IS NOT NULL
) AS i ON true
WHERE a.event_name IN ('add_to_cart', 'remove_from_cart', 'purchase', 'view_cart', 'begin_checkout',
                       'add_shipping_info', 'add_payment_info')
  AND (a.user_pseudo_id IS NOT NULL OR a.customer_id IS NOT NULL);
ANALYZE peer.cart_events;

CREATE TABLE peer.cart_episodes (
    is_customer boolean NOT NULL, person_id text NOT NULL, opened_at timestamptz NOT NULL,
    day date NOT NULL, last_activity_at timestamptz NOT NULL, idle_at timestamptz NOT NULL,
    location_id text NOT NULL, user_pseudo_id text, stream_id text, ga_session_id bigint,
    items integer NOT NULL, items_left integer NOT NULL, items_open integer NOT NULL
);
CREATE TABLE peer.cart_items (
    is_customer boolean NOT NULL, person_id text NOT NULL, opened_at timestamptz NOT NULL,
    item_id text NOT NULL, item_name text, item_category text, added_quantity bigint NOT NULL,
    left_quantity bigint NOT NULL, open_quantity bigint NOT NULL, price numeric NOT NULL,
    currency text NOT NULL, bought_at timestamptz
);

-- A purchase of a customer also closes what its visitor left before they were known. A cart never falls
-- below nothing: with s the sum of what was put in and taken out so far, that is s - least(0, smallest
-- s so far). A purchase empties it of its items. Every window is ordered by position, so that rows are
-- sorted by person once and then only within what is a person's.
WITH acted AS (
    SELECT k.customer_id IS NOT NULL AS is_customer, coalesce(k.customer_id, k.user_pseudo_id)
               AS person_id, k.*
    FROM peer.cart_events k
    UNION ALL
    SELECT false, k.user_pseudo_id, k.*
    FROM peer.cart_events k
    WHERE k.customer_id IS NOT NULL AND k.user_pseudo_id IS NOT NULL AND k.action = 'purchase'
), rested AS (
    SELECT a.*, a.event_at - lag(a.event_at) OVER (
               PARTITION BY a.is_customer, a.person_id ORDER BY a.position) > interval '24 hours' AS rested
    FROM acted a
), spells AS (
    SELECT r.*,
           count(*) FILTER (WHERE r.rested) OVER (
               PARTITION BY r.is_customer, r.person_id ORDER BY r.position) AS spell,
           min(r.event_at) FILTER (WHERE r.action = 'purchase') OVER (
               PARTITION BY r.is_customer, r.person_id, r.item_id ORDER BY r.position DESC
               ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bought_next
    FROM rested r
), opened AS (
    SELECT s.*,
           min(s.position) FILTER (WHERE s.action = 'add') OVER whole AS opened_position,
           min(s.event_at) FILTER (WHERE s.action = 'add') OVER whole AS opened_at,
           last_value(s.event_at) OVER whole AS last_at,
           last_value(s.location_id) OVER whole AS last_location,
           last_value(s.user_pseudo_id) OVER whole AS last_visitor,
           last_value(s.stream_id) OVER whole AS last_stream,
           last_value(s.ga_session_id) OVER whole AS last_session
    FROM spells s
    WINDOW whole AS (PARTITION BY s.is_customer, s.person_id, s.spell ORDER BY s.position
                     ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
), moves AS (
    SELECT o.*, coalesce(max(o.position) FILTER (WHERE o.action = 'purchase') OVER (
               PARTITION BY o.is_customer, o.person_id, o.spell, o.item_id ORDER BY o.position
               ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING), 0) AS emptied
    FROM opened o
    WHERE o.position >= o.opened_position AND o.item_id IS NOT NULL
), carried AS (
    SELECT m.*, sum(CASE WHEN m.position <= m.emptied THEN 0
                         WHEN m.action = 'add' THEN m.quantity ELSE -m.quantity END) OVER (
               PARTITION BY m.is_customer, m.person_id, m.spell, m.item_id ORDER BY m.position) AS s
    FROM moves m
), gathered AS (
    SELECT c.is_customer, c.person_id, c.item_id, min(c.opened_at) AS opened_at,
           sum(c.quantity) FILTER (WHERE c.action = 'add') AS added, min(c.s) AS least_s,
           array_agg(c.s ORDER BY c.position) AS sums,
           array_agg(c.bought_next ORDER BY c.position) AS purchases,
           array_agg(c.item_name ORDER BY c.position)
               FILTER (WHERE c.action <> 'purchase' AND c.item_name IS NOT NULL) AS names,
           array_agg(c.item_category ORDER BY c.position)
               FILTER (WHERE c.action <> 'purchase' AND c.item_category IS NOT NULL) AS categories,
           array_agg(c.price ORDER BY c.position)
               FILTER (WHERE c.action = 'add' AND c.price IS NOT NULL) AS prices,
           array_agg(c.currency ORDER BY c.position)
               FILTER (WHERE c.action = 'add' AND c.price IS NOT NULL) AS price_currencies,
           array_agg(c.currency ORDER BY c.position)
               FILTER (WHERE c.action <> 'purchase') AS currencies,
           max(c.last_at) AS last_at, max(c.last_location) AS last_location,
           max(c.last_visitor) AS last_visitor, max(c.last_stream) AS last_stream,
           max(c.last_session) AS last_session
    FROM carried c
    GROUP BY c.is_customer, c.person_id, c.spell, c.item_id
    HAVING bool_or(c.action = 'add')
), items AS MATERIALIZED (
    SELECT g.is_customer, g.person_id, g.opened_at, g.item_id, g.names[cardinality(g.names)] AS item_name,
           g.categories[cardinality(g.categories)] AS item_category, g.added,
           g.sums[cardinality(g.sums)] - least(g.least_s, 0) AS left_over,
           coalesce(g.prices[cardinality(g.prices)], 0) AS price,
           coalesce(g.price_currencies[cardinality(g.price_currencies)],
                    g.currencies[cardinality(g.currencies)]) AS currency,
           g.purchases[cardinality(g.purchases)] AS bought_at, g.last_at, g.last_location,
           g.last_visitor, g.last_stream, g.last_session
    FROM gathered g
), episodes AS (
    INSERT INTO peer.cart_episodes
    SELECT i.is_customer, i.person_id, i.opened_at, (i.opened_at AT TIME ZONE '{zone}')::date,
           max(i.last_at), max(i.last_at) + interval '24 hours', max(i.last_location),
           max(i.last_visitor), max(i.last_stream), max(i.last_session), count(*),
           count(*) FILTER (WHERE i.left_over > 0),
           count(*) FILTER (WHERE i.left_over > 0 AND i.bought_at IS NULL)
    FROM items i
    GROUP BY i.is_customer, i.person_id, i.opened_at
)
INSERT INTO peer.cart_items
SELECT i.is_customer, i.person_id, i.opened_at, i.item_id, i.item_name, i.item_category, i.added,
       i.left_over, CASE WHEN i.bought_at IS NULL THEN i.left_over ELSE 0 END, i.price, i.currency,
       i.bought_at
FROM items i;
ALTER TABLE peer.cart_episodes ADD PRIMARY KEY (is_customer, person_id, opened_at);
CREATE INDEX ON peer.cart_episodes (day);
CREATE INDEX ON peer.cart_episodes (idle_at) WHERE items_open > 0;
ALTER TABLE peer.cart_items ADD PRIMARY KEY (is_customer, person_id, opened_at, item_id);

-- ---- quality

-- Rows that agree in all of these are one event that was sent several times.
CREATE TABLE peer.event_counts AS
SELECT same.day, same.event_name, sum(same.rows) AS loaded_rows,
       coalesce(sum(same.rows) FILTER (WHERE same.user_pseudo_id IS NULL), 0) AS without_visitor,
       coalesce(sum(same.rows) FILTER (
           WHERE same.user_pseudo_id IS NULL OR same.ga_session_id IS NULL), 0) AS without_session,
       sum(same.rows) - count(*) AS duplicates
FROM (
    SELECT (e.event_at AT TIME ZONE '{zone}')::date AS day, e.event_name, e.user_pseudo_id,
           e.ga_session_id, count(*) AS rows
    FROM peer.events e
    GROUP BY e.event_at, e.event_name, e.user_pseudo_id, e.ga_session_id, e.bundle_sequence_id,
             e.batch_event_index
) AS same
GROUP BY same.day, same.event_name;
ALTER TABLE peer.event_counts ADD PRIMARY KEY (day, event_name);

ANALYZE peer.entrances, peer.sold_items, peer.money_rollup, peer.daily_money, peer.part_money,
    peer.visitor_returns, peer.location_returns, peer.part_returns, peer.hourly_rollup,
    peer.daily_rollup, peer.part_rollup, peer.interests, peer.subject_days, peer.searches,
    peer.cart_episodes, peer.cart_items, peer.event_counts;
