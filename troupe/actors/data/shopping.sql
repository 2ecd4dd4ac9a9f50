-- What sessions were interested in, and how far they got: derived like the rest (see derive.sql), in
-- the same transaction, from the day's digest.

-- name: days_of_activity
-- $1 tenant, $2 source day. The days on which it has events, as things are.
SELECT coalesce(array_agg(DISTINCT a.day), '{}')
FROM data.activity a
WHERE a.tenant_id = $1 AND a.source_day = $2

-- name: drop_interests
-- $1 tenant, $2 source day, $3 the days of its activity, on which they lie. Told, not looked up here: of
-- days that a planner does not know it would read all that the tenant has.
DELETE FROM data.interests i
WHERE i.tenant_id = $1 AND i.kind IN ('page', 'product', 'term') AND i.source_day = $2
  AND i.day = ANY ($3::date[])

-- name: put_interests
-- $1 tenant.
INSERT INTO data.interests (
    tenant_id, source_day, day, kind, subject, label, stream_id, user_pseudo_id, ga_session_id,
    own_location_id, first_at, views, cart_additions, failures)
SELECT d.tenant_id, d.source_day, d.day, d.kind, d.subject, d.label, d.stream_id, d.user_pseudo_id,
       d.ga_session_id, d.own_location_id, d.first_at, d.views, d.cart_additions, d.failures
FROM pg_temp.day_interests d
WHERE d.tenant_id = $1

-- name: funnel_source_days
-- $1 tenant, $2 source day. Where else there are events of sessions that span days, and of those of
-- other days of which another purchase counts now.
SELECT coalesce(array_agg(DISTINCT spread.source_day), '{}')
FROM (
    SELECT generate_series(s.first_source_day, s.last_source_day, interval '1 day')::date
               AS source_day
    FROM (
        SELECT c.stream_id, c.user_pseudo_id, c.ga_session_id FROM pg_temp.spanning_sessions c
        UNION
        SELECT c.stream_id, c.user_pseudo_id, c.ga_session_id
        FROM pg_temp.changed_sessions c
        WHERE NOT EXISTS (
            SELECT FROM pg_temp.day_sessions d
            WHERE d.user_pseudo_id = c.user_pseudo_id AND d.ga_session_id = c.ga_session_id
              AND d.stream_id = c.stream_id)
    ) AS c
    JOIN data.sessions s
      ON s.tenant_id = $1 AND s.user_pseudo_id = c.user_pseudo_id
     AND s.ga_session_id = c.ga_session_id AND s.stream_id = c.stream_id
) AS spread
WHERE spread.source_day <> $2

-- name: derive_funnels
-- $1 tenant, $2 other source days. For each session the shortest time from a product view to a later
-- addition to the cart, to a checkout after that, to a counted purchase after that. A chain that ends
-- in a given event is shortest when it began latest; so each step hands on, for every moment, the latest
-- beginning of any chain that has got so far (peers of one instant included). A session without a
-- product view or without an addition to the cart has no chain.
WITH elsewhere AS MATERIALIZED (
    SELECT c.stream_id, c.user_pseudo_id, c.ga_session_id
    FROM pg_temp.changed_sessions c
    WHERE NOT EXISTS (
        SELECT FROM pg_temp.day_sessions d
        WHERE d.user_pseudo_id = c.user_pseudo_id AND d.ga_session_id = c.ga_session_id
          AND d.stream_id = c.stream_id)
), shoppers AS MATERIALIZED (
    SELECT d.stream_id, d.user_pseudo_id, d.ga_session_id
    FROM pg_temp.day_sessions d
    WHERE d.tenant_id = $1 AND d.item_views > 0 AND d.cart_additions > 0
    UNION ALL
    SELECT c.stream_id, c.user_pseudo_id, c.ga_session_id FROM elsewhere c
), step AS (
    SELECT c.stream_id, c.user_pseudo_id, c.ga_session_id, e.event_at AS at,
           array_position('{view_item,add_to_cart,begin_checkout}', e.event_name) AS number
    FROM pg_temp.day_acts e
    JOIN shoppers c
      ON c.user_pseudo_id = e.user_pseudo_id AND c.ga_session_id = e.ga_session_id
     AND c.stream_id = coalesce(e.stream_id, '')
    WHERE e.tenant_id = $1 AND e.event_name IN ('view_item', 'add_to_cart', 'begin_checkout')
    UNION ALL
    SELECT c.stream_id, c.user_pseudo_id, c.ga_session_id, e.event_at,
           array_position('{view_item,add_to_cart,begin_checkout}', e.event_name)
    FROM (
        SELECT c.stream_id, c.user_pseudo_id, c.ga_session_id FROM pg_temp.spanning_sessions c
        UNION
        SELECT c.stream_id, c.user_pseudo_id, c.ga_session_id FROM elsewhere c
    ) AS c
    CROSS JOIN LATERAL (
        -- By the index, session by session: they are few, but a planner does not know how few the
        -- elsewhere are, and would read the other days whole.
        SELECT d.event_at, d.event_name
        FROM pg_temp.events_after d
        WHERE d.tenant_id = $1 AND d.source_day = ANY ($2::date[])
          AND d.user_pseudo_id = c.user_pseudo_id AND d.ga_session_id = c.ga_session_id
          AND coalesce(d.stream_id, '') = c.stream_id
          AND d.event_name IN ('view_item', 'add_to_cart', 'begin_checkout')
        OFFSET 0
    ) AS e
    UNION ALL
    SELECT c.stream_id, c.user_pseudo_id, c.ga_session_id, p.purchased_at, 4
    FROM shoppers c
    JOIN data.purchases p
      ON p.tenant_id = $1 AND p.user_pseudo_id = c.user_pseudo_id
     AND p.ga_session_id = c.ga_session_id AND coalesce(p.stream_id, '') = c.stream_id
    WHERE p.counted
), viewed AS (
    SELECT *, max(at) FILTER (WHERE number = 1) OVER so_far AS began
    FROM step
    WINDOW so_far AS (PARTITION BY user_pseudo_id, ga_session_id, stream_id ORDER BY at)
), carted AS (
    SELECT *, max(began) FILTER (WHERE number = 2) OVER so_far AS cart_began
    FROM viewed
    WHERE began IS NOT NULL
    WINDOW so_far AS (PARTITION BY user_pseudo_id, ga_session_id, stream_id ORDER BY at)
), checked_out AS (
    SELECT *, max(cart_began) FILTER (WHERE number = 3) OVER so_far AS checkout_began
    FROM carted
    WHERE cart_began IS NOT NULL
    WINDOW so_far AS (PARTITION BY user_pseudo_id, ga_session_id, stream_id ORDER BY at)
), funnel AS (
    SELECT stream_id, user_pseudo_id, ga_session_id,
           min(at - began) FILTER (WHERE number = 2) AS to_cart,
           min(at - cart_began) FILTER (WHERE number = 3) AS to_checkout,
           min(at - checkout_began) FILTER (WHERE number = 4) AS to_purchase
    FROM checked_out
    GROUP BY stream_id, user_pseudo_id, ga_session_id
)
UPDATE data.sessions s
SET cart_within = extract(epoch FROM f.to_cart) * 1000000,
    checkout_within = extract(epoch FROM f.to_checkout) * 1000000,
    purchase_within = extract(epoch FROM f.to_purchase) * 1000000
FROM funnel f
WHERE s.tenant_id = $1 AND s.user_pseudo_id = f.user_pseudo_id
  AND s.ga_session_id = f.ga_session_id AND s.stream_id = f.stream_id
