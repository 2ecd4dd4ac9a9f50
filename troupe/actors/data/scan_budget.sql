-- What a tenant's queries have scanned, per day of its reporting zone.

-- name: reserve
-- $1 tenant, $2 reporting zone, $3 bytes, $4 the day's budget or NULL. Adds the bytes to today's if the
-- sum stays within the budget, and says the sum; no row if it does not.
INSERT INTO data.scans AS s (tenant_id, day, scanned_bytes, queries)
SELECT $1, (now() AT TIME ZONE $2::text)::date, $3::bigint, 1
WHERE $4::bigint IS NULL OR $3::bigint <= $4::bigint
ON CONFLICT (tenant_id, day) DO UPDATE
SET scanned_bytes = s.scanned_bytes + excluded.scanned_bytes, queries = s.queries + 1
WHERE $4::bigint IS NULL OR s.scanned_bytes + excluded.scanned_bytes <= $4::bigint
RETURNING s.day, s.scanned_bytes

-- name: spent
-- $1 tenant, $2 reporting zone. Bytes of today.
SELECT scanned_bytes FROM data.scans
WHERE tenant_id = $1 AND day = (now() AT TIME ZONE $2::text)::date

-- name: give_back
-- $1 tenant, $2 day, $3 bytes. A query that failed is not billed.
UPDATE data.scans
SET scanned_bytes = greatest(scanned_bytes - $3, 0), queries = greatest(queries - 1, 0)
WHERE tenant_id = $1 AND day = $2
