-- Figures by the thousand, made inside the database.

-- name: tenant
-- $1 tenant.
INSERT INTO platform.tenants (tenant_id, name) VALUES ($1, 'One of many')

-- name: version
-- $1 tenant.
INSERT INTO data.versions (tenant_id, data_version) VALUES ($1, 1)

-- name: locations
-- $1 tenant, $2 branches.
INSERT INTO data.locations (tenant_id, location_id, name)
SELECT $1, 'b' || b, 'Branch ' || b FROM generate_series(1, $2::int) AS b

-- name: hours
-- $1 tenant, $2 first day, $3 days, $4 branches.
INSERT INTO data.hourly_rollup
SELECT $1, day, day + make_interval(hours => h), 'b' || b, 9, 1, 3, 2, 1, 1, 1, 0, 1, 0, 0
FROM generate_series($2::date, $2::date + $3::int - 1, interval '1 day') AS day,
     generate_series(1, $4::int) AS b, generate_series(8, 19) AS h

-- name: days
-- $1 tenant.
INSERT INTO data.daily_rollup
SELECT tenant_id, day, location_id, sum(events), sum(events_without_consent), sum(page_views),
       sum(sessions), sum(engaged_sessions), sum(sessions_with_cart), sum(sessions_with_checkout),
       sum(sessions_with_purchase), sum(sessions_with_cart_without_purchase), sum(searches),
       sum(failed_searches)
FROM data.hourly_rollup WHERE tenant_id = $1 GROUP BY tenant_id, day, location_id

-- name: money
-- $1 tenant.
INSERT INTO data.money_rollup
SELECT tenant_id, day, hour_start, location_id, 'EUR', 1, 49.9, 0, 0
FROM data.hourly_rollup WHERE tenant_id = $1 AND extract(hour FROM hour_start)::int % 3 = 0

-- name: daily_money
-- $1 tenant.
INSERT INTO data.daily_money
SELECT tenant_id, day, location_id, currency, sum(purchases), sum(gross_revenue), sum(refund_value)
FROM data.money_rollup WHERE tenant_id = $1 GROUP BY tenant_id, day, location_id, currency

-- name: users
-- $1 tenant, $2 first day, $3 days, $4 branches, $5 visitors a day and branch. The same visitor
-- comes back, to the same branch and to others.
INSERT INTO data.user_day
SELECT $1, day, 'b' || b,
       'v' || ((extract(doy FROM day)::int * 7 + b * 131 + v * 37) % ($5::int * 40)),
       v % 2 = 0, v % 5 = 0, v % 3 = 0, v % 20 = 0
FROM generate_series($2::date, $2::date + $3::int - 1, interval '1 day') AS day,
     generate_series(1, $4::int) AS b, generate_series(1, $5::int) AS v
ON CONFLICT DO NOTHING

-- name: tidy
-- What autovacuum would have done by now.
VACUUM (ANALYZE) data.user_day, data.hourly_rollup, data.daily_rollup, data.money_rollup, data.daily_money,
    data.locations, data.versions, platform.tenants, data.visitor_returns, data.location_returns
