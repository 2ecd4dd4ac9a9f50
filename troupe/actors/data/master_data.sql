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

-- name: forget_files
-- $1 tenant. Files that nobody has looked at for more than a year: patterns find new ones each day.
DELETE FROM data.master_files WHERE tenant_id = $1 AND checked_at < now() - interval '400 days'

-- name: report_rows
-- $1 tenant, $2 job, $3 content, $4 path, $5 taken, $6 bad rows, $7 errors in all, $8 the errors.
INSERT INTO data.row_reports (
    tenant_id, job_id, content, path, taken, bad_rows, errors_total, errors)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (tenant_id, job_id, content, path) DO UPDATE SET
    taken = excluded.taken, bad_rows = excluded.bad_rows, errors_total = excluded.errors_total,
    errors = excluded.errors, reported_at = now()

-- name: forget_reports
-- $1 tenant, $2 how many to keep, $3 age in seconds.
DELETE FROM data.row_reports r
USING (
    SELECT job_id, content, path, reported_at,
           row_number() OVER (ORDER BY reported_at DESC) AS place
    FROM data.row_reports WHERE tenant_id = $1
) AS old
WHERE r.tenant_id = $1
  AND (r.job_id, r.content, r.path) = (old.job_id, old.content, old.path)
  AND (old.place > $2 OR old.reported_at < now() - make_interval(secs => $3::float8))

-- name: reports
-- $1 tenant, $2 job. Locations first, as they are imported.
SELECT content, path, taken, bad_rows, errors_total, errors
FROM data.row_reports WHERE tenant_id = $1 AND job_id = $2
ORDER BY content DESC, path

-- name: files
-- $1 tenant, $2 how many. What is known of the tenant's files, the last one looked at first.
SELECT content, path, size, modified_at, loaded_rows, bad_rows, imported_at, checked_at, problem
FROM data.master_files WHERE tenant_id = $1
ORDER BY checked_at DESC, content, path
LIMIT $2

-- name: lock_uploads
-- $1 tenant. Nobody else counts them until the end of the transaction.
SELECT pg_advisory_xact_lock(hashtextextended('held uploads ' || $1::uuid::text, 0))

-- name: held_uploads
-- $1 tenant. How many wait.
SELECT count(*) FROM data.held_files WHERE tenant_id = $1 AND purpose = 'upload'

-- name: hold
-- $1 tenant, $2 file, $3 purpose, $4 content, $5 name, $6 size, $7 sha256, $8 found.
INSERT INTO data.held_files (tenant_id, file_id, purpose, content, name, size, sha256, found)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)

-- name: hold_piece
-- $1 tenant, $2 file, $3 number, $4 bytes.
INSERT INTO data.held_pieces (tenant_id, file_id, number, bytes) VALUES ($1, $2, $3, $4)

-- name: held_upload
-- $1 tenant, $2 file.
SELECT file_id, content, name, size, sha256
FROM data.held_files WHERE tenant_id = $1 AND file_id = $2 AND purpose = 'upload'

-- name: held_transfer
-- $1 tenant, $2 path on the server, $3 what the server says of the file.
SELECT file_id, size FROM data.held_files
WHERE tenant_id = $1 AND purpose = 'transfer' AND name = $2 AND found = $3

-- name: held_piece
-- $1 tenant, $2 file, $3 number.
SELECT bytes FROM data.held_pieces WHERE tenant_id = $1 AND file_id = $2 AND number = $3

-- name: release
-- $1 tenant, $2 file.
DELETE FROM data.held_files WHERE tenant_id = $1 AND file_id = $2

-- name: release_transfer
-- $1 tenant, $2 path on the server.
DELETE FROM data.held_files WHERE tenant_id = $1 AND purpose = 'transfer' AND name = $2

-- name: release_old
-- $1 tenant, $2 age in seconds.
DELETE FROM data.held_files
WHERE tenant_id = $1 AND held_at < now() - make_interval(secs => $2::float8)
