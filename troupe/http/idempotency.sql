-- name: begin
-- Claim a key for this request. $1 tenant, $2 key, $3 route, $4 sha256 of the request, $5 seconds
-- after which an answer is forgotten, $6 seconds after which a request that never ended is. A row
-- comes back only when the claim is ours.
INSERT INTO platform.idempotency_keys AS kept (tenant_id, key, route, request_sha256)
VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant_id, key, route) DO UPDATE
    SET request_sha256 = excluded.request_sha256, status = NULL, body = NULL, created_at = now()
    WHERE kept.created_at < now()
        - make_interval(secs => CASE WHEN kept.status IS NULL THEN $6::float8 ELSE $5::float8 END)
RETURNING created_at;

-- name: read
-- What is kept under a key. $1 tenant, $2 key, $3 route.
SELECT request_sha256, status, body
FROM platform.idempotency_keys
WHERE tenant_id = $1 AND key = $2 AND route = $3;

-- name: complete
-- Keep the answer. $1 tenant, $2 key, $3 route, $4 the claim's created_at, $5 status, $6 body. The
-- claim is named by its time, so that a request which outlived its claim does not overwrite the
-- answer of the one that took over.
UPDATE platform.idempotency_keys
SET status = $5, body = $6
WHERE tenant_id = $1 AND key = $2 AND route = $3 AND created_at = $4 AND status IS NULL;

-- name: abandon
-- Give a claim up, so that the client may try again. Arguments as above.
DELETE FROM platform.idempotency_keys
WHERE tenant_id = $1 AND key = $2 AND route = $3 AND created_at = $4 AND status IS NULL;

-- name: forget
-- Delete one tenant's answers that are older than $2 seconds, at most 1,000. $1 tenant.
DELETE FROM platform.idempotency_keys
WHERE (tenant_id, key, route) IN (
    SELECT tenant_id, key, route FROM platform.idempotency_keys
    WHERE tenant_id = $1 AND created_at < now() - make_interval(secs => $2::float8)
    ORDER BY created_at
    LIMIT 1000
);
