-- How tasks follow the data. METRICS "Cart abandonment", "Search", "Repeat visits"; run by following.py
-- inside one transaction of the tenant's.
--
-- For each kind one statement puts everything that the data shows as a task onto the bench
-- (pg_temp.found), however often it has been seen before; what follows is the same for all kinds.

-- name: standing
-- $1 tenant. What following depends on, or no row.
SELECT t.reporting_currency, t.reporting_time_zone, t.settings,
       coalesce(v.data_version, 0) AS data_version,
       coalesce(f.followed_as, '') AS followed_as,
       f.tenant_id IS NULL OR (f.next_at <= now()) IS TRUE
           OR f.followed_at <= now() - make_interval(secs => $2) AS due,
       now() AS now
FROM platform.tenants t
LEFT JOIN data.versions v ON v.tenant_id = t.tenant_id
LEFT JOIN analytics.followed f ON f.tenant_id = t.tenant_id
WHERE t.tenant_id = $1 AND t.state = 'active'

-- name: ensure_followed
-- $1 tenant. ON CONFLICT alone would wait for whoever is at it.
INSERT INTO analytics.followed (tenant_id)
SELECT $1 WHERE NOT EXISTS (SELECT FROM analytics.followed f WHERE f.tenant_id = $1)
ON CONFLICT DO NOTHING

-- name: lock_followed
-- $1 tenant. No row: another instance is at it.
SELECT tenant_id FROM analytics.followed WHERE tenant_id = $1 FOR UPDATE SKIP LOCKED

-- name: note_followed
-- $1 tenant, $2 as what, $3 the moment it was done for.
UPDATE analytics.followed
SET followed_as = $2, followed_at = $3,
    next_at = (SELECT min(e.idle_at) FROM data.cart_episodes e
               WHERE e.tenant_id = $1 AND e.items_open > 0 AND e.idle_at > $3)
WHERE tenant_id = $1

-- name: open_bench
SELECT analytics.open_bench()

-- name: measure_bench
SELECT analytics.measure_bench()

-- name: clear_bench
SELECT analytics.clear_bench()

-- name: find_purchases
-- $1 tenant. Every purchase that counts. One that no id tells apart goes by visitor, instant and, of
-- several at the same instant, its place among them.
INSERT INTO pg_temp.found (
    subject, began_at, happened_at, raised_at, settled_at, is_customer, person_id, user_pseudo_id,
    stream_id, ga_session_id, location_id, company, contact, email, phone, title, value, currency,
    facts, reasons)
SELECT b.subject, b.purchased_at, b.purchased_at, b.purchased_at, NULL, b.customer_id IS NOT NULL,
       b.person_id, b.user_pseudo_id, b.stream_id, b.ga_session_id, b.location_id,
       coalesce(m.company, ''), coalesce(m.contact, ''), coalesce(m.email, ''),
       coalesce(m.phone, ''), concat_ws(': ', b.transaction_id, nullif(i.names, '')), b.revenue,
       b.currency,
       jsonb_build_object('transaction_id', b.transaction_id, 'items', coalesce(b.items, '[]'),
                          'first_purchase', b.is_first, 'value_mismatch', b.value_mismatch),
       analytics.reasons(
           b.revenue, b.customer_id IS NOT NULL, coalesce(m.phone, m.email, '') <> '',
           CASE WHEN b.is_first
               THEN jsonb_build_array(jsonb_build_object('reason', 'first_purchase', 'points', 15))
               ELSE '[]' END)
FROM (
    SELECT p.*, s.erp_customer_id, coalesce(p.customer_id, p.user_pseudo_id) AS person_id,
           coalesce(p.customer_id, p.user_pseudo_id) IS NOT NULL AND row_number() OVER (
               PARTITION BY p.customer_id IS NOT NULL, coalesce(p.customer_id, p.user_pseudo_id)
               ORDER BY p.purchased_at, p.purchase_id) = 1 AS is_first,
           CASE WHEN p.transaction_id IS NOT NULL AND p.user_pseudo_id IS NOT NULL
               THEN analytics.subject('transaction', p.user_pseudo_id, p.transaction_id)
               ELSE analytics.subject(
                   'purchase', p.stream_id, p.user_pseudo_id, p.ga_session_id::text,
                   (extract(epoch FROM p.purchased_at) * 1000000)::bigint::text,
                   row_number() OVER (
                       PARTITION BY p.transaction_id IS NOT NULL AND p.user_pseudo_id IS NOT NULL,
                                    p.stream_id, p.user_pseudo_id, p.ga_session_id, p.purchased_at
                       ORDER BY p.purchase_id)::text)
               END AS subject
    FROM data.purchases p
    LEFT JOIN data.sessions s
      ON s.tenant_id = $1 AND s.user_pseudo_id = p.user_pseudo_id
     AND s.ga_session_id = p.ga_session_id AND s.stream_id = coalesce(p.stream_id, '')
    WHERE p.tenant_id = $1 AND p.counted
) AS b
LEFT JOIN LATERAL (
    SELECT c.* FROM data.customers c
    WHERE c.tenant_id = $1 AND c.customer_id IN (b.erp_customer_id, b.customer_id)
    ORDER BY c.customer_id IS NOT DISTINCT FROM b.erp_customer_id DESC
    LIMIT 1
) AS m ON true
LEFT JOIN LATERAL (
    SELECT string_agg(coalesce(nullif(n.item ->> 'name', ''), n.item ->> 'id'), ', '
                      ORDER BY n.number) AS names
    FROM jsonb_array_elements(b.items) WITH ORDINALITY AS n (item, number)
    WHERE n.number <= 3
) AS i ON true

-- name: find_carts
-- $1 tenant, $2 now, $3 reporting currency. Episodes that ended with something in the cart, also those
-- whose items were bought since. What is at stake is told in the reporting currency if anything in
-- the cart has a price in it, else in the first of the others; all of them are among the facts.
INSERT INTO pg_temp.found (
    subject, began_at, happened_at, raised_at, settled_at, is_customer, person_id, user_pseudo_id,
    stream_id, ga_session_id, location_id, company, contact, email, phone, title, value, currency,
    facts, reasons)
SELECT analytics.subject('cart', e.is_customer::text, e.person_id,
                         (extract(epoch FROM e.opened_at) * 1000000)::bigint::text),
       e.opened_at, e.last_activity_at, e.idle_at,
       CASE WHEN e.items_open = 0 THEN i.bought_at END,
       e.is_customer, e.person_id, e.user_pseudo_id, e.stream_id, e.ga_session_id, e.location_id,
       coalesce(m.company, ''), coalesce(m.contact, ''), coalesce(m.email, ''),
       coalesce(m.phone, ''), coalesce(i.names, ''), coalesce(v.open_value, 0),
       coalesce(v.currency, $3),
       jsonb_build_object('items', i.items, 'items_left', e.items_left, 'items_open', e.items_open,
                          'values', v.by_currency),
       analytics.reasons(
           coalesce(v.open_value, 0), e.is_customer, coalesce(m.phone, m.email, '') <> '',
           CASE WHEN e.items_open >= 3
               THEN jsonb_build_array(jsonb_build_object('reason', 'many_items', 'points', 5))
               ELSE '[]' END)
FROM data.cart_episodes e
CROSS JOIN LATERAL (
    SELECT string_agg(coalesce(nullif(k.item_name, ''), k.item_id), ', ' ORDER BY k.place)
               FILTER (WHERE k.place <= 3) AS names,
           max(k.bought_at) AS bought_at,
           jsonb_agg(jsonb_build_object(
               'id', k.item_id, 'name', k.item_name, 'category', k.item_category, 'price', k.price,
               'currency', k.currency, 'left_quantity', k.left_quantity,
               'open_quantity', k.open_quantity) ORDER BY k.place) AS items
    FROM (
        SELECT c.*, row_number() OVER (
                   ORDER BY c.open_quantity = 0, c.price * c.left_quantity DESC, c.item_id) AS place
        FROM data.cart_items c
        WHERE c.tenant_id = $1 AND c.is_customer = e.is_customer AND c.person_id = e.person_id
          AND c.opened_at = e.opened_at AND c.left_quantity > 0
    ) AS k
) AS i
CROSS JOIN LATERAL (
    SELECT (array_agg(g.open_value ORDER BY g.currency <> $3, g.currency))[1] AS open_value,
           (array_agg(g.currency ORDER BY g.currency <> $3, g.currency))[1] AS currency,
           jsonb_agg(jsonb_build_object('currency', g.currency, 'left', g.left_value,
                                        'open', g.open_value) ORDER BY g.currency) AS by_currency
    FROM (
        SELECT c.currency, sum(c.price * c.open_quantity) AS open_value,
               sum(c.price * c.left_quantity) AS left_value
        FROM data.cart_items c
        WHERE c.tenant_id = $1 AND c.is_customer = e.is_customer AND c.person_id = e.person_id
          AND c.opened_at = e.opened_at AND c.left_quantity > 0
        GROUP BY c.currency
    ) AS g
) AS v
LEFT JOIN data.sessions s
  ON s.tenant_id = $1 AND s.user_pseudo_id = e.user_pseudo_id AND s.ga_session_id = e.ga_session_id
 AND s.stream_id = e.stream_id
LEFT JOIN LATERAL (
    SELECT c.* FROM data.customers c
    WHERE c.tenant_id = $1 AND e.is_customer
      AND c.customer_id IN (s.erp_customer_id, e.person_id)
    ORDER BY c.customer_id IS NOT DISTINCT FROM s.erp_customer_id DESC
    LIMIT 1
) AS m ON true
WHERE e.tenant_id = $1 AND e.items_left > 0 AND e.idle_at <= $2

-- name: find_searches
-- $1 tenant, $2 reporting currency. Unique searches, (session, term), that failed at least once. One
-- settles itself when a purchase that counts follows in the session.
INSERT INTO pg_temp.found (
    subject, began_at, happened_at, raised_at, settled_at, is_customer, person_id, user_pseudo_id,
    stream_id, ga_session_id, location_id, company, contact, email, phone, title, value, currency,
    facts, reasons)
WITH searched AS (
    SELECT h.user_pseudo_id, h.ga_session_id, h.stream_id, h.term, min(h.first_at) AS first_at,
           max(h.last_at) AS last_at, sum(h.searches) AS searches,
           sum(h.failed_searches) AS failed_searches, max(h.location_id) AS location_id,
           array_agg(h.term) OVER (
               PARTITION BY h.user_pseudo_id, h.ga_session_id, h.stream_id) AS terms
    FROM data.searches h
    WHERE h.tenant_id = $1 AND h.ga_session_id IS NOT NULL AND h.term <> ''
    GROUP BY h.user_pseudo_id, h.ga_session_id, h.stream_id, h.term
)
SELECT analytics.subject('search', h.stream_id, h.user_pseudo_id, h.ga_session_id::text, h.term),
       h.first_at, h.last_at, h.last_at, b.bought_at, s.customer_id IS NOT NULL,
       coalesce(s.customer_id, h.user_pseudo_id), h.user_pseudo_id, h.stream_id, h.ga_session_id,
       h.location_id, coalesce(m.company, ''), coalesce(m.contact, ''), coalesce(m.email, ''),
       coalesce(m.phone, ''), h.term, 0, $2,
       jsonb_build_object(
           'term', h.term, 'searches', h.searches, 'failed_searches', h.failed_searches,
           'related_terms', (
               SELECT coalesce(jsonb_agg(r.term ORDER BY r.term), '[]')
               FROM (SELECT u.term FROM unnest(h.terms) AS u (term) WHERE u.term <> h.term
                     ORDER BY u.term LIMIT 10) AS r)),
       analytics.reasons(
           0, s.customer_id IS NOT NULL, coalesce(m.phone, m.email, '') <> '',
           jsonb_build_array(jsonb_build_object(
               'reason', 'failed_searches', 'points', least(h.failed_searches * 10, 30))))
FROM searched h
LEFT JOIN data.sessions s
  ON s.tenant_id = $1 AND s.user_pseudo_id = h.user_pseudo_id AND s.ga_session_id = h.ga_session_id
 AND s.stream_id = h.stream_id
LEFT JOIN LATERAL (
    SELECT min(p.purchased_at) AS bought_at FROM data.purchases p
    WHERE p.tenant_id = $1 AND p.user_pseudo_id = h.user_pseudo_id
      AND p.ga_session_id = h.ga_session_id AND coalesce(p.stream_id, '') = h.stream_id
      AND p.counted AND p.purchased_at > h.first_at
) AS b ON true
LEFT JOIN LATERAL (
    SELECT c.* FROM data.customers c
    WHERE c.tenant_id = $1 AND c.customer_id IN (s.erp_customer_id, s.customer_id)
    ORDER BY c.customer_id IS NOT DISTINCT FROM s.erp_customer_id DESC
    LIMIT 1
) AS m ON true
WHERE h.failed_searches > 0

-- name: find_visits
-- $1 tenant, $2 visits, $3 days, $4 reporting currency. Engaged sessions with which a person has come
-- so often within so many days, without a purchase from the first of these visits to the end of the
-- last. One settles itself with the person's next purchase. A purchase of a visitor counts for the
-- customer that the session knows.
INSERT INTO pg_temp.found (
    subject, began_at, happened_at, raised_at, settled_at, is_customer, person_id, user_pseudo_id,
    stream_id, ga_session_id, location_id, company, contact, email, phone, title, value, currency,
    facts, reasons)
WITH visits AS (
    SELECT s.customer_id IS NOT NULL AS is_customer,
           coalesce(s.customer_id, s.user_pseudo_id) AS person_id, s.user_pseudo_id, s.stream_id,
           s.ga_session_id, s.started_at, s.ended_at, s.location_id, s.erp_customer_id,
           lag(s.started_at, $2 - 1) OVER (
               PARTITION BY s.customer_id IS NOT NULL, coalesce(s.customer_id, s.user_pseudo_id)
               ORDER BY s.started_at, s.user_pseudo_id, s.stream_id, s.ga_session_id) AS first_at
    FROM data.sessions s
    WHERE s.tenant_id = $1 AND s.engaged
), stream AS (
    -- One order of visits (by their end) and purchases, so that each visit knows the purchases around it
    -- without being joined with all of them. A purchase at the very end is part of the visit.
    SELECT v.is_customer, v.person_id, v.ended_at AS moment, true AS is_visit,
           NULL::timestamptz AS purchased_at, v.user_pseudo_id, v.stream_id, v.ga_session_id,
           v.started_at, v.location_id, v.erp_customer_id, v.first_at
    FROM visits v
    UNION ALL
    SELECT p.customer_id IS NOT NULL, coalesce(p.customer_id, p.user_pseudo_id), p.purchased_at,
           false, p.purchased_at, NULL, NULL, NULL, NULL, NULL, NULL, NULL
    FROM data.purchases p
    WHERE p.tenant_id = $1 AND p.counted
), around AS (
    SELECT s.*, max(s.purchased_at) OVER (
               PARTITION BY s.is_customer, s.person_id ORDER BY s.moment, s.is_visit
               ROWS UNBOUNDED PRECEDING) AS bought_last,
           min(s.purchased_at) OVER (
               PARTITION BY s.is_customer, s.person_id ORDER BY s.moment DESC, s.is_visit DESC
               ROWS UNBOUNDED PRECEDING) AS bought_at
    FROM stream s
), often AS (
    SELECT a.* FROM around a
    WHERE a.is_visit AND a.first_at >= a.started_at - make_interval(secs => $3 * 86400)
      AND (a.bought_last IS NULL OR a.bought_last < a.first_at)
)
SELECT analytics.subject('visit', o.stream_id, o.user_pseudo_id, o.ga_session_id::text),
       o.first_at, o.started_at, o.started_at, o.bought_at, o.is_customer, o.person_id,
       o.user_pseudo_id, o.stream_id, o.ga_session_id, o.location_id,
       coalesce(m.company, ''), coalesce(m.contact, ''), coalesce(m.email, ''),
       coalesce(m.phone, ''), '', 0, $4,
       jsonb_build_object('visits', $2::integer),
       analytics.reasons(0, o.is_customer, coalesce(m.phone, m.email, '') <> '', '[]')
FROM often o
LEFT JOIN LATERAL (
    SELECT c.* FROM data.customers c
    WHERE c.tenant_id = $1 AND o.is_customer
      AND c.customer_id IN (o.erp_customer_id, o.person_id)
    ORDER BY c.customer_id IS NOT DISTINCT FROM o.erp_customer_id DESC
    LIMIT 1
) AS m ON true

-- name: rekey_carts
-- $1 tenant. A cart whose beginning has moved (an earlier event came late) or whose visitor has become
-- a customer is still the same cart: a task that lost its subject takes over that of an episode at
-- the same time, of the same person or visitor.
WITH lost AS (
    SELECT t.task_id, t.is_customer, t.person_id, t.user_pseudo_id, t.began_at, t.happened_at
    FROM analytics.tasks t
    WHERE t.tenant_id = $1 AND t.kind = 'cart-abandonment'
      AND NOT EXISTS (SELECT FROM pg_temp.found f WHERE f.subject = t.subject)
), free AS (
    SELECT f.* FROM pg_temp.found f
    WHERE NOT EXISTS (SELECT FROM analytics.tasks t
                      WHERE t.tenant_id = $1 AND t.kind = 'cart-abandonment'
                        AND t.subject = f.subject)
), pairs AS (
    SELECT l.task_id, f.subject, f.began_at
    FROM lost l JOIN free f ON f.is_customer = l.is_customer AND f.person_id = l.person_id
    WHERE f.began_at <= l.happened_at AND f.happened_at >= l.began_at
    UNION
    SELECT l.task_id, f.subject, f.began_at
    FROM lost l JOIN free f ON f.user_pseudo_id = l.user_pseudo_id
    WHERE f.began_at <= l.happened_at AND f.happened_at >= l.began_at
), of_task AS (
    SELECT DISTINCT ON (p.task_id) p.task_id, p.subject FROM pairs p
    ORDER BY p.task_id, p.began_at, p.subject
), of_subject AS (
    SELECT DISTINCT ON (o.subject) o.task_id, o.subject FROM of_task o
    ORDER BY o.subject, o.task_id
)
UPDATE analytics.tasks t SET subject = o.subject
FROM of_subject o
WHERE t.tenant_id = $1 AND t.task_id = o.task_id

-- name: settle
-- $1 tenant, $2 kind. Tasks that have settled themselves since they were last followed are closed,
-- unless somebody has closed them before; those that turn out not to have are open again.
WITH turned AS (
    UPDATE analytics.tasks t
    SET status = CASE WHEN f.settled_at IS NULL THEN 'open' ELSE 'settled' END,
        version = t.version + 1, changed_at = now()
    FROM (SELECT k.task_id, k.status FROM analytics.tasks k
          WHERE k.tenant_id = $1 AND k.kind = $2) AS was,
         pg_temp.found f
    WHERE t.tenant_id = $1 AND t.kind = $2 AND t.subject = f.subject AND was.task_id = t.task_id
      AND CASE WHEN f.settled_at IS NULL
               THEN t.settled_at IS NOT NULL AND t.status = 'settled'
               ELSE t.settled_at IS NULL AND t.status IN ('open', 'in_progress') END
    RETURNING t.task_id, t.version, was.status AS was, t.status
)
INSERT INTO analytics.task_changes (tenant_id, task_id, version, actor_kind, user_name, changes)
SELECT $1, t.task_id, t.version, 'system', '',
       jsonb_build_object('status', jsonb_build_object('from', t.was, 'to', t.status))
FROM turned t

-- name: renew
-- $1 tenant, $2 kind. What the data says now, of the tasks that are there.
UPDATE analytics.tasks t
SET began_at = f.began_at, happened_at = f.happened_at, raised_at = f.raised_at,
    settled_at = f.settled_at, is_customer = f.is_customer, person_id = f.person_id,
    user_pseudo_id = f.user_pseudo_id, stream_id = f.stream_id, ga_session_id = f.ga_session_id,
    location_id = f.location_id, company = f.company, contact = f.contact, email = f.email,
    phone = f.phone, title = f.title, value = f.value, currency = f.currency, facts = f.facts,
    reasons = f.reasons, priority = analytics.priority(f.reasons), present = true
FROM pg_temp.found f
WHERE t.tenant_id = $1 AND t.kind = $2 AND t.subject = f.subject
  AND (t.began_at, t.happened_at, t.raised_at, t.settled_at, t.is_customer, t.person_id,
       t.user_pseudo_id, t.stream_id, t.ga_session_id, t.location_id, t.company, t.contact, t.email,
       t.phone, t.title, t.value, t.currency, t.facts, t.reasons, t.present)
      IS DISTINCT FROM
      (f.began_at, f.happened_at, f.raised_at, f.settled_at, f.is_customer, f.person_id,
       f.user_pseudo_id, f.stream_id, f.ga_session_id, f.location_id, f.company, f.contact, f.email,
       f.phone, f.title, f.value, f.currency, f.facts, f.reasons, true)

-- name: forget
-- $1 tenant, $2 kind, $3 first instant that is kept. Tasks that the data does not show any more: gone,
-- but where somebody has worked on one it stays for as long as data is kept.
WITH lost AS (
    SELECT t.task_id, t.touched, t.happened_at FROM analytics.tasks t
    WHERE t.tenant_id = $1 AND t.kind = $2
      AND NOT EXISTS (SELECT FROM pg_temp.found f WHERE f.subject = t.subject)
), kept AS (
    UPDATE analytics.tasks t SET present = false
    FROM lost l
    WHERE t.tenant_id = $1 AND t.task_id = l.task_id AND t.present
      AND l.touched AND l.happened_at >= $3
)
DELETE FROM analytics.tasks t
USING lost l
WHERE t.tenant_id = $1 AND t.task_id = l.task_id AND NOT (l.touched AND l.happened_at >= $3)

-- name: candidates
-- $1 tenant, $2 kind. What is not a task yet, in the order in which it may become one.
SELECT f.subject, f.is_customer, f.person_id, f.raised_at FROM pg_temp.found f
WHERE f.person_id IS NOT NULL
  AND NOT EXISTS (SELECT FROM analytics.tasks t
                  WHERE t.tenant_id = $1 AND t.kind = $2 AND t.subject = f.subject)
ORDER BY f.is_customer, f.person_id, f.raised_at, f.began_at, f.subject

-- name: raised
-- $1 tenant, $2 kind, $3 persons. When tasks of theirs were raised, as the data says it now: a visitor
-- may have become a customer.
SELECT r.is_customer, r.person_id, r.raised_at
FROM (
    SELECT coalesce(f.is_customer, t.is_customer) AS is_customer,
           coalesce(f.person_id, t.person_id) AS person_id,
           coalesce(f.raised_at, t.raised_at) AS raised_at
    FROM analytics.tasks t
    LEFT JOIN pg_temp.found f ON f.subject = t.subject
    WHERE t.tenant_id = $1 AND t.kind = $2
) AS r
WHERE r.person_id = ANY ($3::text[])

-- name: drop_candidates
-- $1 subjects.
DELETE FROM pg_temp.found WHERE subject = ANY ($1::bytea[])

-- name: raise
-- $1 tenant, $2 kind. What is new becomes tasks; what has settled itself meanwhile is closed at once.
INSERT INTO analytics.tasks (
    tenant_id, kind, subject, began_at, happened_at, raised_at, settled_at, is_customer, person_id,
    user_pseudo_id, stream_id, ga_session_id, location_id, company, contact, email, phone, title,
    value, currency, facts, reasons, priority, status)
SELECT $1, $2, f.subject, f.began_at, f.happened_at, f.raised_at, f.settled_at, f.is_customer,
       f.person_id, f.user_pseudo_id, f.stream_id, f.ga_session_id, f.location_id, f.company,
       f.contact, f.email, f.phone, f.title, f.value, f.currency, f.facts, f.reasons,
       analytics.priority(f.reasons), CASE WHEN f.settled_at IS NULL THEN 'open' ELSE 'settled' END
FROM pg_temp.found f
WHERE NOT EXISTS (SELECT FROM analytics.tasks t
                  WHERE t.tenant_id = $1 AND t.kind = $2 AND t.subject = f.subject)

-- name: read_once
-- Right after a load the estimates are those of the data before it: joins that look a few rows up again
-- and again turn out to do so for all. What reads each table once takes as long as the tables are.
SET LOCAL enable_nestloop = off

-- name: read_as_estimated
SET LOCAL enable_nestloop TO DEFAULT

-- name: add_products
-- $1 tenant. The products that each repeat visitor looked at most, from the first of the visits to the
-- last. For what is or becomes a task only: most of what was found does not.
UPDATE pg_temp.found t
SET facts = t.facts || jsonb_build_object('products', p.products), title = p.names
FROM (
    SELECT r.subject,
           jsonb_agg(jsonb_build_object('id', r.product, 'name', r.label, 'views', r.views)
                     ORDER BY r.place) AS products,
           string_agg(coalesce(nullif(r.label, ''), r.product), ', ' ORDER BY r.place)
               FILTER (WHERE r.place <= 3) AS names
    FROM (
        SELECT v.subject, i.subject AS product, max(i.label) AS label, sum(i.views) AS views,
               row_number() OVER (PARTITION BY v.subject
                                  ORDER BY sum(i.views) DESC, i.subject) AS place
        FROM (
            SELECT f.subject, s.user_pseudo_id, s.ga_session_id, s.stream_id
            FROM pg_temp.found f
            JOIN data.sessions s ON s.tenant_id = $1 AND s.customer_id = f.person_id
            WHERE f.is_customer AND s.started_at BETWEEN f.began_at AND f.happened_at
            UNION ALL
            SELECT f.subject, s.user_pseudo_id, s.ga_session_id, s.stream_id
            FROM pg_temp.found f
            JOIN data.sessions s
              ON s.tenant_id = $1 AND s.user_pseudo_id = f.person_id AND s.customer_id IS NULL
            WHERE NOT f.is_customer AND s.started_at BETWEEN f.began_at AND f.happened_at
        ) AS v
        JOIN data.interests i
          ON i.tenant_id = $1 AND i.kind = 'product' AND i.user_pseudo_id = v.user_pseudo_id
         AND i.ga_session_id = v.ga_session_id AND i.stream_id = v.stream_id
        WHERE i.views > 0
        GROUP BY v.subject, i.subject
    ) AS r
    WHERE r.place <= 5
    GROUP BY r.subject
) AS p
WHERE t.subject = p.subject
