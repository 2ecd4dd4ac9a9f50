-- Master data: customers and locations, and the files that they come from.

-- name: known_files
-- $1 tenant. What the last import of each file found.
SELECT content, path, size, modified_at, sha256, reading, imported_at
FROM data.master_files
WHERE tenant_id = $1

-- name: upsert_locations
-- $1 tenant, $2 rows as a JSON array in UTF-8. How many are new and how many have changed; rows that
-- say what is known already are not written. A row version that nobody has ended yet (xmax) is one
-- that was inserted.
WITH written AS (
    INSERT INTO data.locations AS l (tenant_id, location_id, name, city, email, manager)
    SELECT $1, r.location_id, r.name, r.city, r.email, r.manager
    FROM json_to_recordset(convert_from($2::bytea, 'UTF8')::json) AS r (
        location_id text, name text, city text, email text, manager text)
    ON CONFLICT (tenant_id, location_id) DO UPDATE SET
        name = excluded.name, city = excluded.city, email = excluded.email,
        manager = excluded.manager
    WHERE (l.name, l.city, l.email, l.manager)
        IS DISTINCT FROM (excluded.name, excluded.city, excluded.email, excluded.manager)
    RETURNING l.xmax = 0 AS inserted
)
SELECT count(*) FILTER (WHERE inserted) AS inserted, count(*) FILTER (WHERE NOT inserted) AS updated
FROM written

-- name: upsert_customers
-- $1 tenant, $2 rows as a JSON array in UTF-8. As upsert_locations.
WITH written AS (
    INSERT INTO data.customers AS c (
        tenant_id, customer_id, company, contact, email, phone, location_id, city)
    SELECT $1, r.customer_id, r.company, r.contact, r.email, r.phone, r.location_id, r.city
    FROM json_to_recordset(convert_from($2::bytea, 'UTF8')::json) AS r (
        customer_id text, company text, contact text, email text, phone text, location_id text,
        city text)
    ON CONFLICT (tenant_id, customer_id) DO UPDATE SET
        company = excluded.company, contact = excluded.contact, email = excluded.email,
        phone = excluded.phone, location_id = excluded.location_id, city = excluded.city
    WHERE (c.company, c.contact, c.email, c.phone, c.location_id, c.city)
        IS DISTINCT FROM (excluded.company, excluded.contact, excluded.email, excluded.phone,
                          excluded.location_id, excluded.city)
    RETURNING c.xmax = 0 AS inserted
)
SELECT count(*) FILTER (WHERE inserted) AS inserted, count(*) FILTER (WHERE NOT inserted) AS updated
FROM written

-- name: note_imported
-- $1 tenant, $2 content, $3 path, $4 size, $5 modified, $6 sha256, $7 reading, $8 rows, $9 bad rows.
INSERT INTO data.master_files (
    tenant_id, content, path, size, modified_at, sha256, reading, loaded_rows, bad_rows,
    imported_at, checked_at, problem)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, now(), now(), NULL)
ON CONFLICT (tenant_id, content, path) DO UPDATE SET
    size = excluded.size, modified_at = excluded.modified_at, sha256 = excluded.sha256,
    reading = excluded.reading, loaded_rows = excluded.loaded_rows, bad_rows = excluded.bad_rows,
    imported_at = excluded.imported_at, checked_at = excluded.checked_at, problem = NULL

-- name: note_unchanged
-- $1 tenant, $2 content, $3 path, $4 modified: a file may be written again with the same content.
UPDATE data.master_files SET modified_at = $4, checked_at = now(), problem = NULL
WHERE tenant_id = $1 AND content = $2 AND path = $3

-- name: note_problem
-- $1 tenant, $2 content, $3 path, $4 problem. What was imported before stays.
INSERT INTO data.master_files (tenant_id, content, path, problem)
VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant_id, content, path) DO UPDATE SET
    checked_at = now(), problem = excluded.problem
