-- Lists of tasks, and what people make of one; run by tasks.py. How tasks come about: following.sql.

-- name: custom_plans
-- For the rest of a transaction that was not begun with custom plans. A plan made for any values could
-- not leave out what a value rules out: filters that are not given, the pages before a place.
SET LOCAL plan_cache_mode = force_custom_plan

-- name: wanted
-- What list_tasks looks at, counted and listed alike; its parameters.
t.tenant_id = $1 AND t.kind = $2 AND t.happened_at >= $3 AND t.happened_at < $4
  AND ($5::text[] IS NULL OR t.location_id = ANY ($5))
  AND ($6::text[] IS NULL OR t.status = ANY ($6))
  AND ($7::uuid IS NULL OR t.assignee_id = $7)
  AND (NOT $8::boolean OR t.assignee_id IS NULL)
  AND ($9::boolean IS NULL OR (t.snoozed_until > $10::timestamptz) IS TRUE = $9)
  AND ($11::boolean IS NULL OR t.is_customer = $11)
  AND ($12::numeric IS NULL OR t.value >= $12)
  AND ($13::text IS NULL
       OR t.task_id IN (SELECT analytics.search_tasks($2, $3, $4, $13, $14::text[])))

-- name: list_tasks
-- $1 tenant, $2 kind, $3 from, $4 before, $5 branches or NULL, $6 statuses or NULL, $7 assignee or NULL,
-- $8 only those of nobody, $9 snoozed or not or NULL, $10 now, $11 customers or not or NULL, $12 least
-- value or NULL, $13 pattern that says most or NULL, $14 all patterns, $15 and $16 the place behind
-- which the page begins or NULL, $17 how many. {column}, {type}, {beyond} and {direction} come from the
-- allow-list in tasks.py. The order is total: the id decides between equals. Each row has the number of
-- tasks over all pages in `total`; a page without tasks is one row with nothing but that.
SELECT every.total, page.*
FROM (
    SELECT count(*) AS total
    FROM analytics.tasks t
    WHERE {wanted}
) AS every
LEFT JOIN (
    SELECT t.task_id, t.kind, t.began_at, t.happened_at, t.raised_at, t.settled_at, t.is_customer,
           t.person_id, t.user_pseudo_id, t.stream_id, t.ga_session_id, t.location_id,
           l.name AS location_name, t.company, t.contact, t.email, t.phone, t.title, t.value, t.currency,
           t.facts, t.priority, t.reasons, t.present, t.status, t.assignee_id, t.note, t.snoozed_until,
           t.version, t.changed_at
    FROM analytics.tasks t
    LEFT JOIN data.locations l ON l.tenant_id = t.tenant_id AND l.location_id = t.location_id
    WHERE {wanted}
      AND ($16::uuid IS NULL OR (t.{column}, t.task_id) {beyond} ($15::{type}, $16))
    ORDER BY t.{column} {direction}, t.task_id {direction}
    LIMIT $17
) AS page ON true
ORDER BY page.{column} {direction}, page.task_id {direction}

-- name: one_task
-- $1 tenant, $2 task.
SELECT t.*, l.name AS location_name
FROM analytics.tasks t
LEFT JOIN data.locations l ON l.tenant_id = t.tenant_id AND l.location_id = t.location_id
WHERE t.tenant_id = $1 AND t.task_id = $2

-- name: lock_task
-- $1 tenant, $2 task.
SELECT t.version, t.status, t.assignee_id, t.note, t.snoozed_until FROM analytics.tasks t
WHERE t.tenant_id = $1 AND t.task_id = $2
FOR UPDATE

-- name: is_member
-- $1 tenant, $2 person.
SELECT EXISTS (SELECT FROM auth.members m WHERE m.tenant_id = $1 AND m.user_id = $2)

-- name: change_task
-- $1 tenant, $2 task, $3 status, $4 assignee, $5 note, $6 snoozed until.
UPDATE analytics.tasks
SET status = $3, assignee_id = $4, note = $5, snoozed_until = $6, version = version + 1,
    touched = true, changed_at = now()
WHERE tenant_id = $1 AND task_id = $2

-- name: note_change
-- $1 tenant, $2 task, $3 version, $4 kind of actor, $5 the person, $6 their name, $7 the changes.
INSERT INTO analytics.task_changes (
    tenant_id, task_id, version, actor_kind, actor_id, user_name, changes)
VALUES ($1, $2, $3, $4, $5, $6, $7)

-- name: changes
-- $1 tenant, $2 task, $3 before this version or NULL, $4 how many. Latest first.
SELECT c.version, c.changed_at, c.actor_kind, c.actor_id, c.user_name AS actor_name,
       c.changes
FROM analytics.task_changes c
WHERE c.tenant_id = $1 AND c.task_id = $2 AND ($3::bigint IS NULL OR c.version < $3)
ORDER BY c.version DESC
LIMIT $4
