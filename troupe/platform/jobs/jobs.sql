-- Durable jobs, as one tenant sees and changes them. What crosses tenants is a function of the
-- migration 0003_jobs.sql, called by the statements at the end.
--
-- A statement that ends or marks an attempt names the attempt's fencing token and changes nothing
-- when the job belongs to another attempt by now.

-- name: enqueue
-- $1: an array of objects (see _enqueue.py). Jobs whose unique or idempotency key is taken are left
-- out; the tenant is that of the transaction.
INSERT INTO platform.jobs
    (tenant_id, job_id, group_name, kind, priority, run_at, arguments, unique_key, idempotency_key,
     max_attempts)
SELECT platform.current_tenant(), n.job_id, n.group_name, n.kind, n.priority,
       coalesce(n.run_at, now() + make_interval(secs => n.delay)), n.arguments,
       n.unique_key, n.idempotency_key, n.max_attempts
FROM jsonb_to_recordset($1::jsonb) AS n (
    job_id uuid, group_name text, kind text, priority smallint, run_at timestamptz,
    delay double precision, arguments jsonb, unique_key text, idempotency_key text,
    max_attempts integer)
ON CONFLICT DO NOTHING
RETURNING *

-- name: existing
-- $1: as above. For each job the one that holds its idempotency key, or else its unique key; whether
-- it was asked for with the same arguments.
SELECT DISTINCT ON (n.job_id) n.job_id AS asked_for, found.by_idempotency_key,
       (found.job).arguments = n.arguments AS same_arguments, (found.job).*
FROM jsonb_to_recordset($1::jsonb) AS n (
    job_id uuid, kind text, arguments jsonb, unique_key text, idempotency_key text)
CROSS JOIN LATERAL (
    SELECT j AS job, true AS by_idempotency_key FROM platform.jobs j
    WHERE j.tenant_id = platform.current_tenant() AND j.kind = n.kind
      AND j.idempotency_key = n.idempotency_key
    UNION ALL
    SELECT j, false FROM platform.jobs j
    WHERE j.tenant_id = platform.current_tenant() AND j.kind = n.kind
      AND j.unique_key = n.unique_key AND j.state IN ('available', 'running')
) found
ORDER BY n.job_id, found.by_idempotency_key DESC

-- name: get
-- One job of the tenant.
SELECT * FROM platform.jobs WHERE tenant_id = $1 AND job_id = $2

-- name: list
-- Newest first (identifiers are ordered by time). $2 kind, $3 state, $4 the last job of the page
-- before, $5 how many.
SELECT * FROM platform.jobs
WHERE tenant_id = $1 AND ($2::text IS NULL OR kind = $2) AND ($3::text IS NULL OR state = $3)
  AND ($4::uuid IS NULL OR job_id < $4)
ORDER BY job_id DESC LIMIT $5

-- name: count
-- How many the list has in all.
SELECT count(*) FROM platform.jobs
WHERE tenant_id = $1 AND ($2::text IS NULL OR kind = $2) AND ($3::text IS NULL OR state = $3)

-- name: request_cancel
-- Ends a job that waits; asks the process of one that runs.
WITH asked AS (
    UPDATE platform.jobs
    SET cancel_requested_at = coalesce(cancel_requested_at, now()),
        state = CASE state WHEN 'available' THEN 'cancelled' ELSE state END,
        finished_at = CASE state WHEN 'available' THEN now() END
    WHERE tenant_id = $1 AND job_id = $2 AND state IN ('available', 'running')
    RETURNING *
)
SELECT asked.* FROM asked
CROSS JOIN LATERAL (SELECT pg_notify('troupe_jobs_' || asked.group_name, 'cancel')) AS told

-- name: retry
-- Makes a job that has ended without success available again, with all its attempts before it and
-- its checkpoint kept.
WITH revived AS (
    UPDATE platform.jobs
    SET state = 'available', attempt = 0, run_at = now(), finished_at = NULL,
        cancel_requested_at = NULL
    WHERE tenant_id = $1 AND job_id = $2 AND state IN ('failed', 'cancelled', 'dead')
    RETURNING *
)
SELECT revived.* FROM revived
CROSS JOIN LATERAL (SELECT pg_notify('troupe_jobs_' || revived.group_name, 'available')) AS told

-- name: fence
-- A row, if the attempt $3 still holds the job; it cannot be taken away before the transaction ends.
SELECT true FROM platform.jobs
WHERE tenant_id = $1 AND job_id = $2 AND state = 'running' AND fencing_token = $3
FOR KEY SHARE

-- name: progress
-- A row, if the attempt still holds the job.
UPDATE platform.jobs
SET progress_done = $4, progress_total = $5, progress_phase = $6, progress_message = $7,
    progress_detail = $8
WHERE tenant_id = $1 AND job_id = $2 AND state = 'running' AND fencing_token = $3
RETURNING true

-- name: checkpoint
-- A row, if the attempt still holds the job.
UPDATE platform.jobs SET checkpoint = $4
WHERE tenant_id = $1 AND job_id = $2 AND state = 'running' AND fencing_token = $3
RETURNING true

-- name: complete
-- A row, if the attempt held the job.
UPDATE platform.jobs
SET state = 'done', result = $4, finished_at = now(), process_id = NULL,
    error_kind = NULL, error_message = NULL
WHERE tenant_id = $1 AND job_id = $2 AND state = 'running' AND fencing_token = $3
RETURNING state

-- name: fail
-- A row, if the attempt held the job. $4 whether a retry cannot help, $5 seconds until the next
-- attempt, $6 kind and $7 message of the error.
UPDATE platform.jobs
SET state = CASE WHEN cancel_requested_at IS NOT NULL THEN 'cancelled' WHEN $4 THEN 'failed'
                 WHEN attempt >= max_attempts THEN 'dead' ELSE 'available' END,
    finished_at = CASE WHEN cancel_requested_at IS NOT NULL OR $4 OR attempt >= max_attempts
                       THEN now() END,
    run_at = now() + make_interval(secs => $5), process_id = NULL,
    error_kind = $6, error_message = $7
WHERE tenant_id = $1 AND job_id = $2 AND state = 'running' AND fencing_token = $3
RETURNING state

-- name: cancel
-- A row, if the attempt held the job.
UPDATE platform.jobs
SET state = 'cancelled', finished_at = now(), process_id = NULL
WHERE tenant_id = $1 AND job_id = $2 AND state = 'running' AND fencing_token = $3
RETURNING state

-- name: release
-- Gives back a job that was claimed without anybody noticing, as if it had not been.
UPDATE platform.jobs
SET state = 'available', process_id = NULL, attempt = attempt - 1
WHERE tenant_id = $1 AND job_id = $2 AND state = 'running' AND fencing_token = $3
RETURNING state

-- name: ended_by
-- How the attempt ended the job, if it was the last to hold it and has ended it.
SELECT state FROM platform.jobs
WHERE tenant_id = $1 AND job_id = $2 AND state <> 'running' AND fencing_token = $3

-- name: register_process
SELECT platform.register_process($1, $2, $3, $4, $5)

-- name: extend_lease
SELECT platform.extend_lease($1)

-- name: release_process
SELECT platform.release_process($1)

-- name: claim
-- $1 group, $2 process, $3 kinds, $4 how many of each, $5 how many in all, $6 the tenant served last.
SELECT * FROM platform.claim_jobs($1, $2, $3, $4, $5, $6)

-- name: jobs_of_process
SELECT tenant_id, job_id, fencing_token, cancel_requested FROM platform.jobs_of_process($1)

-- name: rescue
SELECT kind, attempt, state FROM platform.rescue_jobs($1)
