-- What sessions were interested in, and how far they got: derived like the rest (see derive.sql), in
-- the same transaction, from pg_temp.events_after.

-- name: drop_interests
-- $1 tenant, $2 source day.
DELETE FROM data.interests WHERE tenant_id = $1 AND source_day = $2

-- name: derive_interests
-- $1 tenant, $2 source day, $3 reporting zone, $4 the tenant's failed-search event. Of one event a
-- product counts once, however many of its items name it.
INSERT INTO data.interests (
    tenant_id, source_day, day, kind, subject, label, stream_id, user_pseudo_id, ga_session_id,
    own_location_id, first_at, views, cart_additions, failures)
SELECT $1, $2, h.day, h.kind, h.subject, left(max(h.label), 256), h.stream_id, h.user_pseudo_id,
       h.ga_session_id, h.own_location_id, min(h.event_at), sum(h.views), sum(h.cart_additions),
       sum(h.failures)
FROM (
    SELECT (e.event_at AT TIME ZONE $3)::date AS day, e.event_at, e.user_pseudo_id,
           CASE WHEN key.complete THEN coalesce(e.stream_id, '') END AS stream_id,
           CASE WHEN key.complete THEN e.ga_session_id END AS ga_session_id,
           CASE WHEN NOT key.complete THEN coalesce(e.location_id, '') END AS own_location_id,
           met.kind, left(met.subject, 1024) AS subject, met.label, met.views, met.cart_additions,
           met.failures
    FROM pg_temp.events_after e
    CROSS JOIN LATERAL (
        SELECT e.user_pseudo_id IS NOT NULL AND e.ga_session_id IS NOT NULL AS complete
    ) AS key
    CROSS JOIN LATERAL (
        SELECT 'page' AS kind, data.page_of(e.page_location) AS subject, e.page_title AS label,
               1 AS views, 0 AS cart_additions, 0 AS failures
        WHERE e.event_name IN ('page_view', 'screen_view')
        UNION ALL
        SELECT 'product', item.id, item.name, (e.event_name = 'view_item')::integer,
               (e.event_name = 'add_to_cart')::integer, 0
        FROM (
            SELECT element ->> 'id' AS id, max(element ->> 'name') AS name
            FROM jsonb_array_elements(
                CASE WHEN jsonb_typeof(e.items) = 'array' THEN e.items ELSE '[]' END) AS element
            GROUP BY 1
        ) AS item
        WHERE e.event_name IN ('view_item', 'add_to_cart')
        UNION ALL
        SELECT 'term', data.search_key(e.search_term), e.search_term, 1, 0,
               (e.event_name = $4)::integer
        WHERE e.event_name IN ('view_search_results', $4)
    ) AS met
    WHERE e.tenant_id = $1 AND e.source_day = $2
      AND e.event_name IN (
          'page_view', 'screen_view', 'view_item', 'add_to_cart', 'view_search_results', $4)
      AND met.subject NOT IN ('', '(not set)')
) AS h
GROUP BY h.day, date_trunc('hour', h.event_at, $3), h.kind, h.subject, h.stream_id,
         h.user_pseudo_id, h.ga_session_id, h.own_location_id

-- name: funnel_source_days
-- $1 tenant, $2 source day. Where else the changed sessions have events: those that span days, and
-- those of other days of which another purchase counts now.
SELECT coalesce(array_agg(DISTINCT spread.source_day), '{}')
FROM (
    SELECT generate_series(s.first_source_day, s.last_source_day, interval '1 day')::date
               AS source_day
    FROM pg_temp.changed_sessions c
    JOIN data.sessions s
      ON s.tenant_id = $1 AND s.user_pseudo_id = c.user_pseudo_id
     AND s.ga_session_id = c.ga_session_id AND s.stream_id = c.stream_id
    WHERE s.first_source_day <> $2 OR s.last_source_day <> $2
) AS spread
WHERE spread.source_day <> $2

-- name: derive_funnels
-- $1 tenant, $2 source day, $3 other source days. For each session the shortest time from a product
-- view to a later addition to the cart, to a checkout after that, to a counted purchase after that.
-- A chain that ends in a given event is shortest when it began latest; so each step hands on, for
-- every moment, the latest beginning of any chain that has got so far (peers of one instant included).
WITH step AS (
    SELECT coalesce(e.stream_id, '') AS stream_id, e.user_pseudo_id, e.ga_session_id, e.event_at AS at,
           array_position('{view_item,add_to_cart,begin_checkout}', e.event_name) AS number
    FROM pg_temp.events_after e
    WHERE e.tenant_id = $1 AND e.source_day = $2
      AND e.event_name IN ('view_item', 'add_to_cart', 'begin_checkout')
      AND e.user_pseudo_id IS NOT NULL AND e.ga_session_id IS NOT NULL
    UNION ALL
    SELECT c.stream_id, c.user_pseudo_id, c.ga_session_id, e.event_at,
           array_position('{view_item,add_to_cart,begin_checkout}', e.event_name)
    FROM data.events e
    JOIN pg_temp.changed_sessions c
      ON c.user_pseudo_id = e.user_pseudo_id AND c.ga_session_id = e.ga_session_id
     AND c.stream_id = coalesce(e.stream_id, '')
    WHERE e.tenant_id = $1 AND e.source_day = ANY ($3::date[])
      AND e.event_name IN ('view_item', 'add_to_cart', 'begin_checkout')
    UNION ALL
    SELECT c.stream_id, c.user_pseudo_id, c.ga_session_id, p.purchased_at, 4
    FROM pg_temp.changed_sessions c
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
