-- Schedules and their slots, as one tenant sees and changes them. What crosses tenants is a function
-- of the migration 0007_schedules.sql, called by the statements at the end.
--
-- A statement that makes a line count from now on settles everything before (settled_until) and has
-- the scheduler look at it at once (due_at); a trigger notifies it.

-- name: now
-- The database's clock, the same for the whole transaction.
SELECT now()

-- name: create
-- $1 identifier, $2 to $13 the columns below.
INSERT INTO platform.schedules
    (tenant_id, schedule_id, name, group_name, kind, arguments, policy, grace_seconds,
     catch_up_limit, priority, max_attempts, cron, zone, enabled)
VALUES (platform.current_tenant(), $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
RETURNING *

-- name: get
-- $1 tenant, $2 schedule.
SELECT * FROM platform.schedules WHERE tenant_id = $1 AND schedule_id = $2

-- name: get_for_change
-- The same, kept from others until the transaction ends.
SELECT * FROM platform.schedules WHERE tenant_id = $1 AND schedule_id = $2 FOR NO KEY UPDATE

-- name: rewrite
-- $1 tenant, $2 schedule, $3 to $11 as in `create`. What decides about its times stays.
UPDATE platform.schedules
SET name = $3, group_name = $4, kind = $5, arguments = $6, policy = $7, grace_seconds = $8,
    catch_up_limit = $9, priority = $10, max_attempts = $11,
    version = version + 1, changed_at = now()
WHERE tenant_id = $1 AND schedule_id = $2
RETURNING *

-- name: retime
-- $1 tenant, $2 schedule, $3 line, $4 zone, $5 enabled. From now on these count.
UPDATE platform.schedules
SET cron = $3, zone = $4, enabled = $5, settled_until = greatest(settled_until, now()),
    due_at = now(), caught_up = 0, problem = NULL
WHERE tenant_id = $1 AND schedule_id = $2
RETURNING *

-- name: delete
-- $1 tenant, $2 schedule; its slots go along, its jobs stay.
DELETE FROM platform.schedules WHERE tenant_id = $1 AND schedule_id = $2 RETURNING schedule_id

-- name: list
-- By name. $1 tenant, $2 the last name of the page before, $3 how many.
SELECT * FROM platform.schedules
WHERE tenant_id = $1 AND ($2::text IS NULL OR name > $2)
ORDER BY name LIMIT $3

-- name: count
-- How many the list has in all. $1 tenant.
SELECT count(*) FROM platform.schedules WHERE tenant_id = $1

-- name: serialise
-- $1 tenant. Who counts its schedules to add one is alone in doing so until the transaction ends.
SELECT FROM platform.tenants WHERE tenant_id = $1 FOR NO KEY UPDATE

-- name: slots
-- Latest first. $1 tenant, $2 schedule, $3 the last slot of the page before, $4 how many.
SELECT s.slot, s.outcome, s.job_id, s.term, s.written_at, j.state AS job_state
FROM platform.schedule_slots s
LEFT JOIN platform.all_jobs j ON j.tenant_id = s.tenant_id AND j.job_id = s.job_id
WHERE s.tenant_id = $1 AND s.schedule_id = $2 AND ($3::timestamptz IS NULL OR s.slot < $3)
ORDER BY s.slot DESC LIMIT $4

-- name: count_slots
-- How many of them there are. $1 tenant, $2 schedule.
SELECT count(*) FROM platform.schedule_slots WHERE tenant_id = $1 AND schedule_id = $2

-- name: lock_due
-- Those of the schedules $2 of tenant $1 that are still due, with the present time. What somebody
-- is changing at this moment is left for the next look.
SELECT *, now() AS present_time FROM platform.schedules
WHERE tenant_id = $1 AND schedule_id = ANY ($2::uuid[]) AND enabled AND due_at <= now()
ORDER BY schedule_id
FOR NO KEY UPDATE SKIP LOCKED

-- name: present_slots
-- Which of these slots have happened already. $1 tenant, $2 schedules and $3 slots, side by side.
SELECT s.schedule_id, s.slot
FROM unnest($2::uuid[], $3::timestamptz[]) AS asked (schedule_id, slot)
JOIN platform.schedule_slots s
    ON s.tenant_id = $1 AND s.schedule_id = asked.schedule_id AND s.slot = asked.slot

-- name: write_slots
-- $1 tenant, $2 term, $3 schedules, $4 slots, $5 outcomes, $6 jobs, side by side. A slot that exists
-- makes the statement fail, and with it the transaction and the jobs that it enqueued.
INSERT INTO platform.schedule_slots (tenant_id, schedule_id, slot, outcome, job_id, term)
SELECT $1, n.schedule_id, n.slot, n.outcome, n.job_id, $2
FROM unnest($3::uuid[], $4::timestamptz[], $5::text[], $6::uuid[])
    AS n (schedule_id, slot, outcome, job_id)

-- name: settle
-- What is known after a look. $1 tenant; side by side: $2 schedules, $3 until when they are settled,
-- $4 when to look again (a day from now at the latest), $5 jobs made for missed slots, $6 problems.
UPDATE platform.schedules s
SET settled_until = n.settled_until, due_at = least(n.due_at, now() + interval '1 day'),
    caught_up = n.caught_up, problem = n.problem
FROM unnest($2::uuid[], $3::timestamptz[], $4::timestamptz[], $5::integer[], $6::text[])
    AS n (schedule_id, settled_until, due_at, caught_up, problem)
WHERE s.tenant_id = $1 AND s.schedule_id = n.schedule_id

-- name: postpone
-- Look at a schedule again in $3 seconds; $4 says why not now. $1 tenant, $2 schedule.
UPDATE platform.schedules
SET due_at = now() + make_interval(secs => $3), problem = $4
WHERE tenant_id = $1 AND schedule_id = $2

-- name: due
-- Of all tenants, at most $1.
SELECT tenant_id, schedule_id FROM platform.due_schedules($1)

-- name: next
-- When there is something to look at, and in how many seconds.
SELECT due_at, seconds FROM platform.next_schedule()

-- name: forget
-- Slots that were written more than $1 seconds ago, at most $2 of them.
SELECT platform.forget_slots($1, $2)
