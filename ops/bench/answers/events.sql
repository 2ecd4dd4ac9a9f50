-- Events of a shop, made inside the database, and the tables that a first version would have.

-- name: prepare
-- As the superuser, once: dice that fall the same way every time, from 0 to 1.
CREATE SCHEMA bench;
CREATE SCHEMA naive;
GRANT USAGE ON SCHEMA bench, naive TO troupe_runtime;
CREATE FUNCTION bench.dice(p_number bigint, p_seed bigint) RETURNS float8
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (hashint8extended(p_number, p_seed) & 2147483647)::float8 / 2147483647.0;

-- name: day
-- $1 tenant, $2 source day, $3 sessions, $4 visitors of the shop. Some eleven events a session; a
-- visitor who came often comes more often.
INSERT INTO staging.{table} (
    tenant_id, source_day, event_at, event_name, stream_id, user_pseudo_id, ga_session_id,
    ga_session_number, session_engaged, engagement_ms, is_active_user, customer_id, location_id,
    page_location, page_title, search_term, source, medium, channel, device_category, country,
    currency, event_value, transaction_id, purchase_revenue, items, parameters,
    bundle_sequence_id, batch_event_index)
SELECT $1, $2, v.began + n * interval '41 seconds' * (0.2 + 1.6 * d.a), e.name, 'web', v.visitor,
       extract(epoch FROM v.began)::bigint, v.number, n > 1 AND v.engaged,
       CASE WHEN d.b < 0.5 THEN (d.a * 20000)::bigint END, v.engaged,
       CASE WHEN v.login < 0.2 THEN 'C' || v.visitor END,
       CASE WHEN v.branch < 0.85 THEN 'L' || (1 + floor(v.branch * 14))::int END,
       'https://shop.example/' || page.path || '?utm_source=x' || (d.c * 9)::int,
       'Page ' || page.path,
       CASE WHEN e.name IN ('view_search_results', 'no_search_results')
            THEN 'term ' || floor(power(d.a, 3) * 800)::int END,
       v.source, v.medium, v.channel, v.device, v.country,
       CASE WHEN e.name = 'purchase' THEN 'EUR' END,
       CASE WHEN e.name = 'purchase' THEN trade.amount END,
       CASE WHEN e.name = 'purchase' THEN 'T' || to_char($2::date, 'YYYYMMDD') || '-' || s END,
       CASE WHEN e.name = 'purchase' THEN trade.amount END,
       CASE WHEN e.name IN ('view_item', 'add_to_cart', 'begin_checkout', 'purchase') THEN
           jsonb_build_array(jsonb_build_object(
               'id', 'P' || trade.product, 'name', 'Product ' || trade.product,
               'category', 'Tools', 'price', trade.amount, 'quantity', 1, 'revenue', trade.amount))
       END,
       jsonb_build_object('ga_page_height', n * 100, 'percent_scrolled', 90),
       s, n
FROM generate_series(1, $3::int) AS s
CROSS JOIN LATERAL (
    SELECT $2::timestamp AT TIME ZONE 'Europe/Berlin'
               + interval '7 hours' + bench.dice(s, seed + 1) * interval '14 hours' AS began,
           'v' || floor(power(bench.dice(s, seed + 2), 1.6) * $4::int)::int AS visitor,
           1 + floor(bench.dice(s, seed + 3) * 4)::int AS number,
           bench.dice(s, seed + 4) < 0.6 AS engaged,
           bench.dice(s, seed + 5) AS login, bench.dice(s, seed + 6) AS branch,
           (ARRAY['google', 'newsletter', '(direct)', 'bing'])[
               1 + floor(bench.dice(s, seed + 7) * 4)::int] AS source,
           (ARRAY['organic', 'email', '(none)', 'cpc'])[
               1 + floor(bench.dice(s, seed + 7) * 4)::int] AS medium,
           (ARRAY['Organic Search', 'Email', 'Direct', 'Paid Search'])[
               1 + floor(bench.dice(s, seed + 7) * 4)::int] AS channel,
           (ARRAY['desktop', 'mobile', 'tablet'])[
               1 + floor(power(bench.dice(s, seed + 8), 2) * 3)::int] AS device,
           (ARRAY['Germany', 'Austria', 'Switzerland', 'France', 'Poland'])[
               1 + floor(power(bench.dice(s, seed + 9), 3) * 5)::int] AS country,
           2 + floor(-ln(1.000001 - bench.dice(s, seed + 10)) * 9.6)::int AS length
    FROM (SELECT ($2::date - date '2000-01-01') * 100 AS seed) AS day
) AS v
CROSS JOIN LATERAL generate_series(1, least(v.length, 80)) AS n
CROSS JOIN LATERAL (
    SELECT bench.dice(s * 100 + n, 1) AS a, bench.dice(s * 100 + n, 2) AS b,
           bench.dice(s * 100 + n, 3) AS c, bench.dice(s * 100 + n, 4) AS d
) AS d
CROSS JOIN LATERAL (
    SELECT CASE WHEN n = 1 AND v.number = 1 THEN 'first_visit'
                WHEN n = 1 THEN 'session_start'
                WHEN d.d < 0.44 THEN 'page_view' WHEN d.d < 0.60 THEN 'scroll'
                WHEN d.d < 0.74 THEN 'user_engagement' WHEN d.d < 0.90 THEN 'view_item'
                WHEN d.d < 0.93 THEN 'add_to_cart' WHEN d.d < 0.965 THEN 'view_search_results'
                WHEN d.d < 0.97 THEN 'no_search_results' WHEN d.d < 0.985 THEN 'begin_checkout'
                WHEN d.d < 0.99 THEN 'purchase' ELSE 'click' END AS name
) AS e
CROSS JOIN LATERAL (SELECT 'p' || floor(power(d.b, 2) * 600)::int AS path) AS page
CROSS JOIN LATERAL (
    SELECT round((5 + d.c * 200)::numeric, 2) AS amount, floor(power(d.c, 2) * 2000)::int AS product
) AS trade

-- name: customers
-- $1 tenant, $2 visitors of the shop. The master data know every other of those who log in.
INSERT INTO data.customers (tenant_id, customer_id, company, contact, email, phone, location_id)
SELECT $1, 'Cv' || n, 'Company ' || n, 'Contact ' || n, 'c' || n || '@example.com', '+49 30 ' || n,
       'L' || 1 + n % 12
FROM generate_series(0, $2::int, 2) AS n

-- name: naive_tables
-- What a first version keeps: a table for each kind of event it looks at, and its indexes.
CREATE TABLE naive.events AS
    SELECT tenant_id, source_day AS event_date, event_at, event_name, user_pseudo_id, ga_session_id,
           session_engaged, location_id, is_active_user
    FROM data.events;
CREATE TABLE naive.purchase AS
    SELECT tenant_id, source_day AS event_date, event_at, user_pseudo_id, ga_session_id, location_id,
           customer_id, transaction_id, purchase_revenue AS revenue, items
    FROM data.events WHERE event_name = 'purchase';
CREATE TABLE naive.add_to_cart AS
    SELECT tenant_id, source_day AS event_date, event_at, user_pseudo_id, ga_session_id, location_id
    FROM data.events WHERE event_name = 'add_to_cart';
CREATE TABLE naive.search AS
    SELECT tenant_id, source_day AS event_date, event_at, event_name, user_pseudo_id, ga_session_id,
           location_id, search_term
    FROM data.events WHERE event_name IN ('view_search_results', 'no_search_results');
CREATE TABLE naive.page_view AS
    SELECT tenant_id, source_day AS event_date, event_at, user_pseudo_id, ga_session_id, location_id,
           page_location
    FROM data.events WHERE event_name = 'page_view';
CREATE TABLE naive.locations AS SELECT tenant_id, location_id, name FROM data.locations;
CREATE TABLE naive.customers AS
    SELECT tenant_id, customer_id, company, contact, email, phone FROM data.customers;
CREATE INDEX ON naive.customers (tenant_id, customer_id);
CREATE INDEX ON naive.events (tenant_id, event_date);
CREATE INDEX ON naive.events (tenant_id, user_pseudo_id, ga_session_id);
CREATE INDEX ON naive.purchase (tenant_id, event_date);
CREATE INDEX ON naive.purchase (tenant_id, user_pseudo_id, ga_session_id);
CREATE INDEX ON naive.add_to_cart (tenant_id, event_date);
CREATE INDEX ON naive.add_to_cart (tenant_id, user_pseudo_id, ga_session_id);
CREATE INDEX ON naive.search (tenant_id, event_date);
CREATE INDEX ON naive.search (tenant_id, user_pseudo_id, ga_session_id);
CREATE INDEX ON naive.page_view (tenant_id, event_date);
CREATE INDEX ON naive.page_view (tenant_id, user_pseudo_id, ga_session_id);
GRANT SELECT ON ALL TABLES IN SCHEMA naive TO troupe_runtime;

-- name: tidy
VACUUM (ANALYZE)
