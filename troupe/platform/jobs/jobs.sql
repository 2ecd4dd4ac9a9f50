-- Durable jobs, as one tenant sees and changes them. What crosses tenants, and what moves a job into
-- or out of its history, is a function of the migration 0006_live_jobs.sql, called by the statements
-- at the end.
--
-- A statement that ends or marks an attempt names the attempt's fencing token and changes nothing
-- when the job belongs to another attempt by now.

-- name: enqueue
-- One array for each column. Jobs whose unique key is taken are left out; the tenant is that of the
-- transaction.
INSERT INTO platform.jobs
    (tenant_id, job_id, group_name, kind, priority, run_at, arguments, unique_key, max_attempts)
SELECT platform.current_tenant(), n.job_id, n.group_name, n.kind, n.priority,
       coalesce(n.run_at, now() + make_interval(secs => n.delay)), n.arguments::jsonb, n.unique_key,
       n.max_attempts
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::smallint[], $5::timestamptz[],
            $6::double precision[], $7::text[], $8::text[], $9::integer[])
    AS n (job_id, group_name, kind, priority, run_at, delay, arguments, unique_key, max_attempts)
ON CONFLICT DO NOTHING
RETURNING tenant_id, job_id, run_at, created_at

-- name: enqueue_without_keys
-- As above, for jobs none of which has a key: none can be left out.
INSERT INTO platform.jobs
    (tenant_id, job_id, group_name, kind, priority, run_at, arguments, unique_key, max_attempts)
SELECT platform.current_tenant(), n.job_id, n.group_name, n.kind, n.priority,
       coalesce(n.run_at, now() + make_interval(secs => n.delay)), n.arguments::jsonb, n.unique_key,
       n.max_attempts
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::smallint[], $5::timestamptz[],
            $6::double precision[], $7::text[], $8::text[], $9::integer[])
    AS n (job_id, group_name, kind, priority, run_at, delay, arguments, unique_key, max_attempts)

-- name: enqueue_with_idempotency_keys
-- As above, with the idempotency keys ($10); jobs whose key is taken are left out, too.
WITH asked AS MATERIALIZED (
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::smallint[], $5::timestamptz[],
                         $6::double precision[], $7::text[], $8::text[], $9::integer[], $10::text[])
        AS n (job_id, group_name, kind, priority, run_at, delay, arguments, unique_key, max_attempts,
              idempotency_key)
), first_use AS (
    INSERT INTO platform.job_keys (tenant_id, kind, idempotency_key, job_id)
    SELECT platform.current_tenant(), a.kind, a.idempotency_key, a.job_id
    FROM asked a WHERE a.idempotency_key IS NOT NULL
    ON CONFLICT DO NOTHING
    RETURNING job_id
)
INSERT INTO platform.jobs
    (tenant_id, job_id, group_name, kind, priority, run_at, arguments, unique_key, max_attempts,
     idempotency_key)
SELECT platform.current_tenant(), a.job_id, a.group_name, a.kind, a.priority,
       coalesce(a.run_at, now() + make_interval(secs => a.delay)), a.arguments::jsonb, a.unique_key,
       a.max_attempts, a.idempotency_key
FROM asked a
WHERE a.idempotency_key IS NULL OR a.job_id IN (SELECT f.job_id FROM first_use f)
ON CONFLICT DO NOTHING
RETURNING tenant_id, job_id, run_at, created_at

-- name: drop_unused_keys
-- Idempotency keys of jobs ($1) that were not made after all, because their unique key was taken.
DELETE FROM platform.job_keys WHERE tenant_id = platform.current_tenant() AND job_id = ANY ($1::uuid[])

-- name: existing
-- Arrays: job, kind, arguments, unique key, idempotency key. For each job the one that holds its
-- idempotency key, or else its unique key; whether it was asked for with the same arguments.
SELECT DISTINCT ON (n.job_id) n.job_id AS asked_for, found.arguments = n.arguments::jsonb AS same_arguments,
       found.*
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[])
    AS n (job_id, kind, arguments, unique_key, idempotency_key)
CROSS JOIN LATERAL (
    SELECT true AS by_idempotency_key, j.* FROM platform.job_keys k
    JOIN platform.all_jobs j ON j.tenant_id = k.tenant_id AND j.job_id = k.job_id
    WHERE k.tenant_id = platform.current_tenant() AND k.kind = n.kind
      AND k.idempotency_key = n.idempotency_key
    UNION ALL
    SELECT false, j.* FROM platform.jobs j
    WHERE j.tenant_id = platform.current_tenant() AND j.kind = n.kind AND j.unique_key = n.unique_key
) found
ORDER BY n.job_id, found.by_idempotency_key DESC

-- name: get
-- One job of the tenant.
SELECT * FROM platform.all_jobs WHERE tenant_id = $1 AND job_id = $2

-- name: list
-- Newest first (identifiers are ordered by time). $2 kind, $3 state, $4 and $5 made from and before,
-- $6 the last job of the page before, $7 how many.
SELECT * FROM platform.all_jobs
WHERE tenant_id = $1 AND ($2::text IS NULL OR kind = $2) AND ($3::text IS NULL OR state = $3)
  AND ($4::timestamptz IS NULL OR created_at >= $4)
  AND ($5::timestamptz IS NULL OR created_at < $5)
  AND ($6::uuid IS NULL OR job_id < $6)
ORDER BY job_id DESC LIMIT $7

-- name: count
-- How many the list has in all.
SELECT count(*) FROM platform.all_jobs
WHERE tenant_id = $1 AND ($2::text IS NULL OR kind = $2) AND ($3::text IS NULL OR state = $3)
  AND ($4::timestamptz IS NULL OR created_at >= $4)
  AND ($5::timestamptz IS NULL OR created_at < $5)

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
-- A row, if the attempt held the job. $4: the result.
SELECT true FROM platform.finish_jobs(
    ARRAY[$1::uuid], ARRAY[$2::uuid], ARRAY[$3::bigint],
    jsonb_build_object($3::bigint, jsonb_build_object('ending', 'done', 'result', $4::jsonb)))

-- name: request_cancel
SELECT * FROM platform.request_cancel($1)

-- name: retry
SELECT * FROM platform.revive_jobs(ARRAY[$1::uuid], NULL, 1)

-- name: redrive
-- $1 kind (NULL: any), $2 how many at most.
SELECT * FROM platform.revive_jobs(NULL, $1, $2)

-- name: register_process
SELECT platform.register_process($1, $2, $3, $4, $5)

-- name: register_kinds
SELECT platform.register_kinds($1, $2)

-- name: extend_lease
SELECT platform.extend_lease($1)

-- name: release_process
SELECT platform.release_process($1)

-- name: claim
-- $1 group, $2 process, $3 kinds, beside each: $4 room for it here, $5 limit everywhere, $6 limit of a
-- tenant; $7 how many in all, $8 the tenant served last, $9 whether to be notified if there is nothing.
-- The first three columns are the attempt's key. Empty arguments arrive as NULL: they need not be read.
SELECT * FROM platform.claim_jobs($1, $2, $3, $4, $5, $6, $7, $8, $9)

-- name: next_delayed
SELECT platform.next_delayed_job($1)

-- name: finish
-- Arrays: tenants, jobs, fencing tokens; then an object of outcomes by token.
SELECT fencing_token, state FROM platform.finish_jobs($1, $2, $3, $4)

-- name: finish_done
-- Arrays: tenants, jobs, fencing tokens. How many attempts still held their jobs, which are done now.
SELECT count(*) FROM platform.finish_jobs($1, $2, $3, NULL)

-- name: endings
-- Arrays: tenants, jobs, fencing tokens. How those attempts ended that have ended their jobs.
SELECT fencing_token, state FROM platform.endings_of($1, $2, $3)

-- name: jobs_of_process
SELECT tenant_id, job_id, fencing_token FROM platform.jobs_of_process($1)

-- name: jobs_to_cancel
SELECT platform.jobs_to_cancel($1) AS fencing_token

-- name: rescue
SELECT job_id, state FROM platform.rescue_jobs($1)

-- name: pause_kind
SELECT platform.pause_kind($1, $2)

-- name: kinds_at_work
SELECT * FROM platform.kinds_at_work()

-- name: turn_ring
SELECT platform.turn_job_ring($1)

-- name: forget_old_jobs
SELECT platform.forget_old_jobs($1, $2)

-- name: tend_history
SELECT made, dropped FROM platform.tend_job_history($1, $2)
