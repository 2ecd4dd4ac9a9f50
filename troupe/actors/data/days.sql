-- Source days: what is known of each, and the doors through which one is replaced.

-- name: planner_settings
-- For this transaction: a plan made for these very values leaves the other tenants' and the other
-- days' partitions out before it opens them; and the events of a day are sorted in memory (some
-- 300 bytes each), not in files.
SELECT set_config('plan_cache_mode', 'force_custom_plan', true), set_config('work_mem', '64MB', true)

-- name: stage_day
-- $1 tenant, $2 source day, $3 job. The name of an empty staged table.
SELECT data.stage_day($1, $2, $3)

-- name: apply_erasures
-- $1 tenant, $2 table. Persons who were erased are erased in these rows too.
SELECT data.apply_erasures($1, $2)

-- name: seal_day
-- $1 tenant, $2 table.
SELECT data.seal_day($1, $2)

-- name: publish_day
-- $1 tenant, $2 table.
SELECT data.publish_day($1, $2)

-- name: discard_staged
-- $1 tenant, $2 job, $3 table, or NULL for all that the job's earlier attempts left.
SELECT data.discard_staged($1, $2, $3)

-- name: known_days
-- $1 tenant, $2 first day, $3 last day. What the last look at each day found.
SELECT source_day, state, family, source_modified, source_rows, extraction
FROM data.source_days
WHERE tenant_id = $1 AND source_day BETWEEN $2 AND $3

-- name: note_checked
-- $1 tenant, $2 source day. The source has nothing new.
UPDATE data.source_days SET state = 'loaded', checked_at = now(), problem = NULL
WHERE tenant_id = $1 AND source_day = $2

-- name: note_missing
-- $1 tenant, $2 source days. The source has no table for them. What was loaded before stays: a
-- property without billing loses tables after 60 days, which does not unmake what happened.
INSERT INTO data.source_days AS d (tenant_id, source_day, state, checked_at)
SELECT $1, missing.day, 'missing', now() FROM unnest($2::date[]) AS missing (day)
ON CONFLICT (tenant_id, source_day) DO UPDATE SET
    state = CASE WHEN d.loaded_at IS NULL THEN 'missing' ELSE 'loaded' END,
    checked_at = now(),
    problem = CASE WHEN d.loaded_at IS NULL THEN NULL
                   ELSE 'The source no longer has a table for this day.' END

-- name: note_failed
-- $1 tenant, $2 source day, $3 problem. What was loaded before stays, and is stale.
INSERT INTO data.source_days AS d (tenant_id, source_day, state, checked_at, problem)
VALUES ($1, $2, 'failed', now(), $3)
ON CONFLICT (tenant_id, source_day) DO UPDATE SET
    state = CASE WHEN d.loaded_at IS NULL THEN 'failed' ELSE 'stale' END,
    checked_at = now(), problem = excluded.problem
