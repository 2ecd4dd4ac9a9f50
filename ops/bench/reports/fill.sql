-- name: branches
-- $1 tenant, $2 how many.
INSERT INTO data.locations (tenant_id, location_id, name)
SELECT $1, 'b' || n, 'Branch ' || n FROM generate_series(1, $2) n;

-- name: rollups
-- $1 tenant, $2 branches, $3 last day, $4 days.
INSERT INTO data.daily_rollup
    (tenant_id, day, location_id, events, events_without_consent, page_views, sessions,
     engaged_sessions, sessions_with_cart, sessions_with_checkout, sessions_with_purchase,
     sessions_with_cart_without_purchase, searches, failed_searches)
SELECT $1, $3::date - d, 'b' || n, 900 + (n * 7 + d) % 300, 10, 500, 120, 80, 30, 20, 12, 18, 40, 4
FROM generate_series(1, $2) n, generate_series(0, $4 - 1) d;

-- name: money
-- $1 tenant, $2 branches, $3 last day, $4 days.
INSERT INTO data.money_rollup
    (tenant_id, day, hour_start, location_id, currency, purchases, gross_revenue, refunds,
     refund_value)
SELECT $1, $3::date - d, ($3::date - d)::timestamp AT TIME ZONE 'UTC' + interval '9 hours',
       'b' || n, 'EUR', 12, 1000 + (n * 31 + d * 17) % 4000, 1, 20
FROM generate_series(1, $2) n, generate_series(0, $4 - 1) d;

-- name: daily_money
-- $1 tenant.
INSERT INTO data.daily_money
SELECT tenant_id, day, location_id, currency, purchases, gross_revenue, refund_value
FROM data.money_rollup WHERE tenant_id = $1;

-- name: version
-- $1 tenant, $2 last day, $3 days.
INSERT INTO data.versions (tenant_id, data_version, first_day, data_until)
VALUES ($1, 1, $2::date - $3::integer + 1, $2);

-- name: recipients
-- $1 tenant, $2 branches, $3 recipients of each.
INSERT INTO analytics.report_recipients
    (tenant_id, recipient_id, location_id, address, language, time_zone, format, secret)
SELECT $1, gen_random_uuid(), 'b' || n, 'r' || r || '.b' || n || '@branch.example',
       CASE r % 2 WHEN 0 THEN 'en' ELSE 'de' END, 'UTC', 'html', decode(md5(n || '.' || r), 'hex')
FROM generate_series(1, $2) n, generate_series(1, $3) r;
