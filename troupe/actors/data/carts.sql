-- Carts, and what was left in them. METRICS "Cart abandonment"; run by carts.py inside a publication.
--
-- Two steps. What the events of one source day did to carts stands in data.cart_events, replaced with
-- the day. Of every person whom that concerns, before or after, the whole history in data.cart_events
-- is folded into episodes anew: an episode may have begun long before the day, and a purchase closes
-- items of any episode before it.
--
-- A person is the session's customer, else its visitor. A purchase also closes what its visitor left
-- before they were known as a customer.

-- name: open_cart_bench
SELECT data.open_cart_bench()

-- name: note_persons
-- $1 tenant, $2 source day. Whose carts the day's rows are part of, as they stand now.
INSERT INTO pg_temp.changed_persons (is_customer, person_id)
SELECT true, k.customer_id FROM data.cart_events k
WHERE k.tenant_id = $1 AND k.source_day = $2 AND k.customer_id IS NOT NULL
UNION
SELECT false, k.user_pseudo_id FROM data.cart_events k
WHERE k.tenant_id = $1 AND k.source_day = $2 AND k.user_pseudo_id IS NOT NULL
ON CONFLICT DO NOTHING

-- name: drop_cart_events
-- $1 tenant, $2 source day.
DELETE FROM data.cart_events WHERE tenant_id = $1 AND source_day = $2

-- name: derive_cart_events
-- $1 tenant, $2 source day, $3 reporting currency. One row per item of each event; an event without
-- items is a look at the cart, whatever it says it did. An item without an id goes by its name.
INSERT INTO data.cart_events (
    tenant_id, source_day, position, event_at, action, stream_id, user_pseudo_id, ga_session_id,
    customer_id, location_id, item_id, item_name, item_category, price, quantity, currency)
SELECT $1, $2,
       row_number() OVER (
           ORDER BY e.event_at, e.bundle_sequence_id, e.batch_event_index, e.event_name, e.stream_id,
                    e.user_pseudo_id, e.ga_session_id, e.customer_id, e.location_id, e.currency,
                    e.items, i.number),
       e.event_at,
       CASE WHEN i.item_id IS NULL AND e.event_name <> 'purchase' THEN 'look'
            WHEN e.event_name = 'add_to_cart' THEN 'add'
            WHEN e.event_name = 'remove_from_cart' THEN 'remove'
            WHEN e.event_name = 'purchase' THEN 'purchase'
            ELSE 'look' END,
       s.stream_id, e.user_pseudo_id, s.ga_session_id,
       coalesce(s.customer_id, e.customer_id), coalesce(s.location_id, e.location_id, ''),
       i.item_id, i.name, i.category, i.price, coalesce(i.quantity, 0), coalesce(upper(e.currency), $3)
FROM pg_temp.day_acts e
LEFT JOIN data.sessions s
  ON s.tenant_id = $1 AND s.user_pseudo_id = e.user_pseudo_id
 AND s.ga_session_id = e.ga_session_id AND s.stream_id = coalesce(e.stream_id, '')
LEFT JOIN LATERAL (
    SELECT r.number, left(coalesce(nullif(r.item ->> 'id', ''), r.item ->> 'name'), 256) AS item_id,
           r.item ->> 'name' AS name, r.item ->> 'category' AS category,
           CASE jsonb_typeof(r.item -> 'price') WHEN 'number'
               THEN (r.item ->> 'price')::numeric END AS price,
           CASE jsonb_typeof(r.item -> 'quantity') WHEN 'number'
               THEN least(greatest((r.item ->> 'quantity')::numeric, 0), 1000000000)::bigint
               ELSE 1 END AS quantity
    FROM jsonb_array_elements(e.items) WITH ORDINALITY AS r (item, number)
    WHERE e.event_name IN ('add_to_cart', 'remove_from_cart', 'purchase')
      AND coalesce(nullif(r.item ->> 'id', ''), nullif(r.item ->> 'name', '')) IS NOT NULL
) AS i ON true
WHERE e.tenant_id = $1
  AND e.event_name IN ('add_to_cart', 'remove_from_cart', 'purchase', 'view_cart', 'begin_checkout',
                       'add_shipping_info', 'add_payment_info')
  AND (e.user_pseudo_id IS NOT NULL OR e.customer_id IS NOT NULL)

-- name: move_cart_events
-- $1 tenant, $2 source day. Rows on other source days whose session has a new branch or turns out to
-- be a customer's; with them both persons are changed.
WITH outdated AS (
    SELECT k.source_day, k.position, k.user_pseudo_id, k.customer_id AS was, s.customer_id,
           s.location_id
    FROM pg_temp.changed_sessions c
    JOIN data.sessions s
      ON s.tenant_id = $1 AND s.user_pseudo_id = c.user_pseudo_id
     AND s.ga_session_id = c.ga_session_id AND s.stream_id = c.stream_id
    JOIN data.cart_events k
      ON k.tenant_id = $1 AND k.user_pseudo_id = c.user_pseudo_id
     AND k.ga_session_id = c.ga_session_id AND k.stream_id = c.stream_id
    WHERE k.source_day <> $2
      AND (k.customer_id, k.location_id) IS DISTINCT FROM (s.customer_id, s.location_id)
), moved AS (
    UPDATE data.cart_events k
    SET customer_id = o.customer_id, location_id = o.location_id
    FROM outdated o
    WHERE k.tenant_id = $1 AND k.source_day = o.source_day AND k.position = o.position
)
INSERT INTO pg_temp.changed_persons (is_customer, person_id)
SELECT true, o.was FROM outdated o WHERE o.was IS NOT NULL
UNION
SELECT true, o.customer_id FROM outdated o WHERE o.customer_id IS NOT NULL
UNION
SELECT false, o.user_pseudo_id FROM outdated o
ON CONFLICT DO NOTHING

-- name: drop_episodes
-- $1 tenant.
WITH items AS (
    DELETE FROM data.cart_items i
    USING pg_temp.changed_persons c
    WHERE i.tenant_id = $1 AND i.is_customer = c.is_customer AND i.person_id = c.person_id
)
DELETE FROM data.cart_episodes p
USING pg_temp.changed_persons c
WHERE p.tenant_id = $1 AND p.is_customer = c.is_customer AND p.person_id = c.person_id

-- name: fold_episodes
-- $1 tenant, $2 idle seconds, $3 reporting zone. What is in the cart never falls below nothing: with
-- s the sum of what was put in and taken out so far, that is s - least(0, smallest s so far). A
-- purchase empties the cart of its items; what happened to them before does not matter any more.
--
-- Windows instead of joins: nothing is known of how many rows come out of one, and a join would be
-- planned as if it were one row. Of an item's rows in an episode the last one knows the next purchase
-- of it, which then lies behind the episode.
WITH acts AS (
    SELECT h.*, row_number() OVER person AS place,
           h.event_at - lag(h.event_at) OVER person > make_interval(secs => $2) AS rested
    FROM (
        SELECT c.is_customer, c.person_id, k.*
        FROM pg_temp.changed_persons c
        JOIN data.cart_events k ON k.tenant_id = $1 AND k.customer_id = c.person_id
        WHERE c.is_customer
        UNION ALL
        SELECT c.is_customer, c.person_id, k.*
        FROM pg_temp.changed_persons c
        JOIN data.cart_events k ON k.tenant_id = $1 AND k.user_pseudo_id = c.person_id
        WHERE NOT c.is_customer AND (k.customer_id IS NULL OR k.action = 'purchase')
    ) AS h
    WINDOW person AS (
        PARTITION BY h.is_customer, h.person_id ORDER BY h.event_at, h.source_day, h.position)
), spells AS (
    SELECT a.*,
           count(*) FILTER (WHERE a.rested) OVER (
               PARTITION BY a.is_customer, a.person_id ORDER BY a.place) AS spell,
           min(a.event_at) FILTER (WHERE a.action = 'purchase') OVER (
               PARTITION BY a.is_customer, a.person_id, a.item_id ORDER BY a.place DESC
               ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bought_next
    FROM acts a
), opened AS (
    SELECT s.*,
           min(s.place) FILTER (WHERE s.action = 'add') OVER spell AS opened_place,
           min(s.event_at) FILTER (WHERE s.action = 'add') OVER spell AS opened_at,
           last_value(s.event_at) OVER whole AS last_at,
           last_value(s.location_id) OVER whole AS last_location,
           last_value(s.user_pseudo_id) OVER whole AS last_visitor,
           last_value(s.stream_id) OVER whole AS last_stream,
           last_value(s.ga_session_id) OVER whole AS last_session
    FROM spells s
    WINDOW spell AS (PARTITION BY s.is_customer, s.person_id, s.spell),
           whole AS (PARTITION BY s.is_customer, s.person_id, s.spell ORDER BY s.place
                     ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
), moves AS (
    SELECT o.*, coalesce(max(o.place) FILTER (WHERE o.action = 'purchase') OVER (
               PARTITION BY o.is_customer, o.person_id, o.opened_at, o.item_id), 0) AS emptied
    FROM opened o
    WHERE o.place >= o.opened_place AND o.item_id IS NOT NULL
), carried AS (
    SELECT m.*, sum(CASE WHEN m.place <= m.emptied THEN 0
                         WHEN m.action = 'add' THEN m.quantity ELSE -m.quantity END) OVER (
               PARTITION BY m.is_customer, m.person_id, m.opened_at, m.item_id ORDER BY m.place) AS s
    FROM moves m
), items AS MATERIALIZED (
    SELECT c.is_customer, c.person_id, c.opened_at, c.item_id,
           sum(c.quantity) FILTER (WHERE c.action = 'add') AS added,
           (array_agg(c.s ORDER BY c.place DESC))[1] - least(min(c.s), 0) AS left_over,
           (array_agg(c.bought_next ORDER BY c.place DESC))[1] AS bought_at,
           (array_agg(c.item_name ORDER BY c.place DESC)
               FILTER (WHERE c.action <> 'purchase' AND c.item_name IS NOT NULL))[1] AS item_name,
           (array_agg(c.item_category ORDER BY c.place DESC)
               FILTER (WHERE c.action <> 'purchase' AND c.item_category IS NOT NULL))[1]
               AS item_category,
           (array_agg(c.price ORDER BY c.place DESC)
               FILTER (WHERE c.action = 'add' AND c.price IS NOT NULL))[1] AS price,
           (array_agg(c.currency ORDER BY c.place DESC)
               FILTER (WHERE c.action = 'add' AND c.price IS NOT NULL))[1] AS price_currency,
           (array_agg(c.currency ORDER BY c.place DESC)
               FILTER (WHERE c.action <> 'purchase'))[1] AS currency,
           max(c.last_at) AS last_at, max(c.last_location) AS last_location,
           max(c.last_visitor) AS last_visitor, max(c.last_stream) AS last_stream,
           max(c.last_session) AS last_session
    FROM carried c
    GROUP BY c.is_customer, c.person_id, c.opened_at, c.item_id
    HAVING bool_or(c.action = 'add')
), episodes AS (
    INSERT INTO data.cart_episodes (
        tenant_id, is_customer, person_id, opened_at, day, last_activity_at, idle_at, location_id,
        user_pseudo_id, stream_id, ga_session_id, items, items_left, items_open)
    SELECT $1, i.is_customer, i.person_id, i.opened_at, (i.opened_at AT TIME ZONE $3)::date,
           max(i.last_at), max(i.last_at) + make_interval(secs => $2), max(i.last_location),
           max(i.last_visitor), max(i.last_stream), max(i.last_session), count(*),
           count(*) FILTER (WHERE i.left_over > 0),
           count(*) FILTER (WHERE i.left_over > 0 AND i.bought_at IS NULL)
    FROM items i
    GROUP BY i.is_customer, i.person_id, i.opened_at
)
INSERT INTO data.cart_items (
    tenant_id, is_customer, person_id, opened_at, item_id, item_name, item_category, added_quantity,
    left_quantity, open_quantity, price, currency, bought_at)
SELECT $1, i.is_customer, i.person_id, i.opened_at, i.item_id, i.item_name, i.item_category, i.added,
       i.left_over, CASE WHEN i.bought_at IS NULL THEN i.left_over ELSE 0 END, coalesce(i.price, 0),
       coalesce(i.price_currency, i.currency), i.bought_at
FROM items i
