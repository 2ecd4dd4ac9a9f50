-- What a purchase sold, read once when it is written, and not out of its items by every answer.

CREATE TYPE data.sold_item AS (
    product   text,                             -- item id, its first 1,024 characters
    label     text,                             -- name; of several the last in order
    quantity  numeric,
    revenue   numeric                           -- in the purchase's currency
);

-- One for each product, in order; NULL: none that has an id. An item that names no quantity is one, and
-- one without a revenue is worth its price (METRICS "Money").
CREATE FUNCTION data.sold_items(p_items jsonb) RETURNS data.sold_item[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (
        SELECT array_agg(ROW(s.product, s.label, s.quantity, s.revenue)::data.sold_item ORDER BY s.product)
        FROM (
            SELECT left(element ->> 'id', 1024) AS product, max(element ->> 'name') AS label,
                   sum(coalesce(given.quantity, 1)) AS quantity,
                   sum(coalesce(given.revenue, given.price * coalesce(given.quantity, 1), 0)) AS revenue
            FROM jsonb_array_elements(
                CASE WHEN jsonb_typeof(p_items) = 'array' THEN p_items ELSE '[]' END) AS element
            CROSS JOIN LATERAL (
                SELECT CASE WHEN jsonb_typeof(element -> 'quantity') = 'number'
                            THEN (element ->> 'quantity')::numeric END AS quantity,
                       CASE WHEN jsonb_typeof(element -> 'revenue') = 'number'
                            THEN (element ->> 'revenue')::numeric END AS revenue,
                       CASE WHEN jsonb_typeof(element -> 'price') = 'number'
                            THEN (element ->> 'price')::numeric END AS price
            ) AS given
            WHERE left(element ->> 'id', 1024) NOT IN ('', '(not set)')
            GROUP BY 1
        ) AS s);

ALTER TABLE data.purchases
    ADD COLUMN sold data.sold_item[] GENERATED ALWAYS AS (data.sold_items(items)) STORED;
