-- name: settings
-- $1 tenant. How its reports look, and the version of that.
SELECT settings::text AS settings, version FROM analytics.report_settings WHERE tenant_id = $1;

-- name: put_settings
-- $1 tenant, $2 settings, $3 the version that is replaced (0: none). The new version; no row when
-- another one is there.
INSERT INTO analytics.report_settings AS s (tenant_id, settings)
SELECT $1, $2 WHERE $3::bigint = 0 OR EXISTS (
    SELECT FROM analytics.report_settings p WHERE p.tenant_id = $1)
ON CONFLICT (tenant_id) DO UPDATE
SET settings = excluded.settings, version = s.version + 1, changed_at = now()
WHERE s.version = $3
RETURNING version;

-- name: tenant
-- $1 tenant. What a report needs to know of it.
SELECT t.name, t.reporting_time_zone, t.week_start, t.state = 'active' AS active
FROM platform.tenants t WHERE t.tenant_id = $1;

-- name: recipients
-- $1 tenant, $2 and $3 sort key of the row before or NULL, $4 how many, $5 only this branch or NULL.
SELECT r.*, coalesce(r.location_id, '') AS sort_location, lower(r.address) AS sort_address,
       a.suppressed_at, a.reason, coalesce(a.hard_bounces, 0) AS hard_bounces
FROM analytics.report_recipients r
LEFT JOIN analytics.report_addresses a
    ON (a.tenant_id, a.address) = (r.tenant_id, lower(r.address))
WHERE r.tenant_id = $1 AND ($5::text IS NULL OR r.location_id = $5)
    AND ($2::text IS NULL OR (coalesce(r.location_id, ''), lower(r.address)) > ($2, $3))
ORDER BY coalesce(r.location_id, ''), lower(r.address)
LIMIT $4;

-- name: count_recipients
-- $1 tenant, $2 only this branch or NULL.
SELECT count(*) FROM analytics.report_recipients
WHERE tenant_id = $1 AND ($2::text IS NULL OR location_id = $2);

-- name: recipient
-- $1 tenant, $2 recipient.
SELECT r.*, a.suppressed_at, a.reason, coalesce(a.hard_bounces, 0) AS hard_bounces
FROM analytics.report_recipients r
LEFT JOIN analytics.report_addresses a
    ON (a.tenant_id, a.address) = (r.tenant_id, lower(r.address))
WHERE r.tenant_id = $1 AND r.recipient_id = $2;

-- name: create_recipient
INSERT INTO analytics.report_recipients
    (tenant_id, recipient_id, location_id, address, name, language, time_zone, format, workbook,
     enabled, secret)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11);

-- name: change_recipient
-- $1 tenant, $2 recipient, $3 the version that is replaced, then all fields. No row: another version.
UPDATE analytics.report_recipients
SET location_id = $4, address = $5, name = $6, language = $7, time_zone = $8, format = $9,
    workbook = $10, enabled = $11, version = version + 1, changed_at = now()
WHERE tenant_id = $1 AND recipient_id = $2 AND version = $3
RETURNING version;

-- name: delete_recipient
DELETE FROM analytics.report_recipients WHERE tenant_id = $1 AND recipient_id = $2
RETURNING recipient_id;

-- name: known_location
SELECT EXISTS (SELECT FROM data.locations WHERE tenant_id = $1 AND location_id = $2);

-- name: suppressions
-- $1 tenant, $2 address of the row before or NULL, $3 how many.
SELECT address, hard_bounces, last_bounce, suppressed_at, reason
FROM analytics.report_addresses
WHERE tenant_id = $1 AND suppressed_at IS NOT NULL AND ($2::text IS NULL OR address > $2)
ORDER BY address LIMIT $3;

-- name: suppress
-- $1 tenant, $2 address in small letters, $3 reason. The first reason stays.
INSERT INTO analytics.report_addresses AS a (tenant_id, address, suppressed_at, reason)
VALUES ($1, $2, now(), $3)
ON CONFLICT (tenant_id, address) DO UPDATE
SET suppressed_at = coalesce(a.suppressed_at, now()), reason = coalesce(a.reason, excluded.reason)
RETURNING suppressed_at;

-- name: lift
-- A person lets an address have mail again; its bounces are forgotten.
UPDATE analytics.report_addresses
SET suppressed_at = NULL, reason = NULL, hard_bounces = 0
WHERE tenant_id = $1 AND address = $2 AND suppressed_at IS NOT NULL RETURNING address;

-- name: note_bounce
-- $1 tenant, $2 address in small letters, $3 what the server said, $4 bounces until it is suppressed.
INSERT INTO analytics.report_addresses AS a
    (tenant_id, address, hard_bounces, last_bounce, suppressed_at, reason)
VALUES ($1, $2, 1, $3, CASE WHEN $4::integer <= 1 THEN now() END,
        CASE WHEN $4::integer <= 1 THEN 'bounced' END)
ON CONFLICT (tenant_id, address) DO UPDATE
SET hard_bounces = a.hard_bounces + 1, last_bounce = excluded.last_bounce,
    suppressed_at = CASE WHEN a.hard_bounces + 1 >= $4 THEN coalesce(a.suppressed_at, now())
                         ELSE a.suppressed_at END,
    reason = CASE WHEN a.hard_bounces + 1 >= $4 THEN coalesce(a.reason, 'bounced')
                  ELSE a.reason END
RETURNING suppressed_at IS NOT NULL;

-- name: schedules
-- $1 tenant, $2 name of the row before or NULL, $3 how many.
SELECT s.*, (SELECT coalesce(array_agg(z.zone ORDER BY z.zone), '{}')
             FROM analytics.report_zones z
             WHERE (z.tenant_id, z.report_id) = (s.tenant_id, s.report_id)) AS zones
FROM analytics.report_schedules s
WHERE s.tenant_id = $1 AND ($2::text IS NULL OR s.name > $2)
ORDER BY s.name LIMIT $3;

-- name: schedule
SELECT s.*, (SELECT coalesce(array_agg(z.zone ORDER BY z.zone), '{}')
             FROM analytics.report_zones z
             WHERE (z.tenant_id, z.report_id) = (s.tenant_id, s.report_id)) AS zones
FROM analytics.report_schedules s WHERE s.tenant_id = $1 AND s.report_id = $2;

-- name: count_schedules
SELECT count(*) FROM analytics.report_schedules WHERE tenant_id = $1;

-- name: create_schedule
INSERT INTO analytics.report_schedules
    (tenant_id, report_id, name, period, cron, locations, policy, grace_seconds, patience_seconds,
     enabled)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10);

-- name: change_schedule
-- $1 tenant, $2 report, $3 the version that is replaced, then all fields. No row: another version.
UPDATE analytics.report_schedules
SET name = $4, period = $5, cron = $6, locations = $7, policy = $8, grace_seconds = $9,
    patience_seconds = $10, enabled = $11, version = version + 1, changed_at = now()
WHERE tenant_id = $1 AND report_id = $2 AND version = $3
RETURNING version;

-- name: delete_schedule
DELETE FROM analytics.report_schedules WHERE tenant_id = $1 AND report_id = $2 RETURNING report_id;

-- name: lock_reports
-- One at a time for each tenant: who changes recipients or schedules also settles the zones.
SELECT pg_advisory_xact_lock(hashtextextended('reports ' || $1::uuid::text, 0));

-- name: wanted_zones
-- $1 tenant. For each report the zones that its recipients live in, and those that have a schedule.
SELECT s.report_id, s.name, s.cron, s.policy, s.grace_seconds, s.enabled,
       coalesce(array_agg(DISTINCT r.time_zone) FILTER (WHERE r.time_zone IS NOT NULL), '{}') AS wanted
FROM analytics.report_schedules s
LEFT JOIN analytics.report_recipients r
    ON r.tenant_id = s.tenant_id AND r.enabled
    AND (s.locations IS NULL OR r.location_id = ANY (s.locations))
WHERE s.tenant_id = $1
GROUP BY s.report_id, s.name, s.cron, s.policy, s.grace_seconds, s.enabled;

-- name: present_zones
-- $1 tenant. The schedules of the platform that stand for reports, with what they say.
SELECT z.report_id, z.zone, z.schedule_id, p.cron, p.policy, p.grace_seconds, p.enabled
FROM analytics.report_zones z
JOIN platform.schedules p ON (p.tenant_id, p.schedule_id) = (z.tenant_id, z.schedule_id)
WHERE z.tenant_id = $1;

-- name: zone_ids
-- $1 tenant, $2 report. Schedules of the platform that go with it.
SELECT schedule_id FROM analytics.report_zones WHERE tenant_id = $1 AND report_id = $2;

-- name: add_zone
INSERT INTO analytics.report_zones (tenant_id, report_id, zone, schedule_id)
VALUES ($1, $2, $3, $4);

-- name: add_platform_schedule
INSERT INTO platform.schedules
    (tenant_id, schedule_id, name, group_name, kind, arguments, cron, zone, policy, grace_seconds,
     catch_up_limit, priority, max_attempts, enabled)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 31, 0, 10, $11);

-- name: retime_platform_schedule
-- Another line, or switching it on, counts from this moment.
UPDATE platform.schedules
SET cron = $3, policy = $4, grace_seconds = $5, enabled = $6, version = version + 1,
    changed_at = clock_timestamp(), settled_until = clock_timestamp(),
    due_at = clock_timestamp(), caught_up = 0, problem = NULL
WHERE tenant_id = $1 AND schedule_id = $2;

-- name: drop_platform_schedule
DELETE FROM platform.schedules WHERE tenant_id = $1 AND schedule_id = $2;

-- name: run_of_slot
SELECT run_id FROM analytics.report_runs
WHERE tenant_id = $1 AND report_id = $2 AND zone = $3 AND slot = $4;

-- name: create_run
INSERT INTO analytics.report_runs
    (tenant_id, run_id, report_id, name, zone, slot, period, first_day, last_day, state, wait_until,
     requested_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'waiting',
        now() + make_interval(secs => $10::integer), $11);

-- name: set_job
UPDATE analytics.report_runs SET job_id = $3 WHERE tenant_id = $1 AND run_id = $2;

-- name: run
SELECT * FROM analytics.report_runs WHERE tenant_id = $1 AND run_id = $2;

-- name: lock_run
SELECT * FROM analytics.report_runs WHERE tenant_id = $1 AND run_id = $2 FOR NO KEY UPDATE;

-- name: runs
-- $1 tenant, $2 run of the row before or NULL, $3 how many. Newest first: ids are ordered by time.
SELECT * FROM analytics.report_runs
WHERE tenant_id = $1 AND ($2::uuid IS NULL OR run_id < $2)
ORDER BY run_id DESC LIMIT $3;

-- name: run_counts
-- $1 tenant, $2 runs. Deliveries by state.
SELECT run_id, state, count(*) AS count FROM analytics.report_deliveries
WHERE tenant_id = $1 AND run_id = ANY ($2) GROUP BY run_id, state;

-- name: planned_recipients
-- $1 tenant, $2 branches or NULL, $3 zone or NULL. Who gets a report now.
SELECT recipient_id, location_id, address, name, language, time_zone, format, workbook, secret
FROM analytics.report_recipients
WHERE tenant_id = $1 AND enabled AND ($2::text[] IS NULL OR location_id = ANY ($2))
    AND ($3::text IS NULL OR time_zone = $3)
ORDER BY coalesce(location_id, ''), language, lower(address);

-- name: plan
-- One delivery for each recipient, unless its key is there: what was planned once is not again.
INSERT INTO analytics.report_deliveries
    (tenant_id, delivery_id, run_id, series, location_id, period, first_day, last_day, recipient,
     address, name, language, time_zone, format, workbook, message_id, dated, state)
SELECT $1, d.delivery_id, $2, $3, d.location_id, $4, $5, $6, d.recipient, d.address, d.name,
       d.language, d.time_zone, d.format, d.workbook, d.message_id, $7, 'queued'
FROM unnest($8::uuid[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[],
            $14::text[], $15::text[], $16::boolean[], $17::text[])
    AS d (delivery_id, location_id, recipient, address, name, language, time_zone, format,
          workbook, message_id)
ON CONFLICT DO NOTHING;

-- name: begin_sending
-- $1 tenant, $2 run, $3 whether it is a notice.
UPDATE analytics.report_runs SET state = 'sending', notice = $3, problem = NULL
WHERE tenant_id = $1 AND run_id = $2 AND state = 'waiting';

-- name: note_problem
UPDATE analytics.report_runs SET problem = $3 WHERE tenant_id = $1 AND run_id = $2;

-- name: open_runs
-- Runs that have not ended; each must have a job.
SELECT run_id FROM analytics.report_runs
WHERE tenant_id = $1 AND state IN ('waiting', 'sending');

-- name: forget_runs
-- $1 tenant, $2 days. Runs that ended longer ago go, with their mails' history; some at a time.
DELETE FROM analytics.report_runs r USING (
    SELECT o.run_id FROM analytics.report_runs o
    WHERE o.tenant_id = $1 AND o.created_at < now() - make_interval(days => $2)
        AND o.state IN ('done', 'cancelled')
    ORDER BY o.created_at LIMIT 100) old
WHERE r.tenant_id = $1 AND r.run_id = old.run_id;

-- name: set_problem
-- $1 tenant, $2 run, $3 problem. Whether owners are to be told: once in six hours.
UPDATE analytics.report_runs
SET problem = $3,
    alerted_at = CASE WHEN alerted_at IS NULL OR alerted_at < now() - interval '6 hours'
                      THEN now() ELSE alerted_at END
WHERE tenant_id = $1 AND run_id = $2
RETURNING alerted_at = now();

-- name: finish_run
UPDATE analytics.report_runs SET state = 'done', finished_at = now(), problem = NULL
WHERE tenant_id = $1 AND run_id = $2 AND state IN ('waiting', 'sending');

-- name: cancel_run
UPDATE analytics.report_runs SET state = 'cancelled', finished_at = now()
WHERE tenant_id = $1 AND run_id = $2 AND state IN ('waiting', 'sending') RETURNING run_id;

-- name: cancel_deliveries
UPDATE analytics.report_deliveries SET state = 'cancelled', settled_at = now()
WHERE tenant_id = $1 AND run_id = $2 AND state IN ('queued', 'deferred');

-- name: interrupted
-- What an attempt that is no more was handing over: nobody knows whether it arrived.
UPDATE analytics.report_deliveries
SET state = 'ambiguous', settled_at = now(),
    server_answer = 'The sender ended while the mail was being handed over.'
WHERE tenant_id = $1 AND run_id = $2 AND state = 'sending' RETURNING delivery_id;

-- name: suppressed
-- Addresses that get no mail any more; a test that somebody sends to themselves does.
UPDATE analytics.report_deliveries d
SET state = 'suppressed', settled_at = now(), server_answer = a.reason
FROM analytics.report_addresses a
WHERE d.tenant_id = $1 AND d.run_id = $2 AND d.state IN ('queued', 'deferred')
    AND d.recipient <> 'test'
    AND (a.tenant_id, a.address) = (d.tenant_id, lower(d.address)) AND a.suppressed_at IS NOT NULL;

-- name: due
-- $1 tenant, $2 run, $3 how many. Those of one branch and language together: they share a picture.
SELECT * FROM analytics.report_deliveries
WHERE tenant_id = $1 AND run_id = $2 AND state IN ('queued', 'deferred') AND due_at <= now()
ORDER BY coalesce(location_id, ''), language, delivery_id LIMIT $3;

-- name: next_due
-- $1 tenant, $2 run. Seconds until the next one is due; no row: none is left.
SELECT extract(epoch FROM greatest(min(due_at) - now(), interval '0'))::double precision
FROM analytics.report_deliveries
WHERE tenant_id = $1 AND run_id = $2 AND state IN ('queued', 'deferred')
HAVING count(*) > 0;  -- greatest() of nothing and zero would be zero

-- name: hand_over
-- From here on the mail may arrive. $1 tenant, $2 delivery, $3 attempt's token, $4 notice, $5 data
-- version, $6 hash. No row: it is not to be sent any more, or its address is suppressed.
UPDATE analytics.report_deliveries d
SET state = 'sending', attempts = attempts + 1, token = $3, notice = $4, data_version = $5,
    content_hash = $6, server_answer = NULL
WHERE d.tenant_id = $1 AND d.delivery_id = $2 AND d.state IN ('queued', 'deferred')
    AND (d.recipient = 'test' OR NOT EXISTS (
        SELECT FROM analytics.report_addresses a
        WHERE (a.tenant_id, a.address) = (d.tenant_id, lower(d.address))
            AND a.suppressed_at IS NOT NULL))
RETURNING d.delivery_id;

-- name: settle
-- $1 tenant, $2 delivery, $3 attempt's token, $4 state, $5 what the server said, $6 seconds until it
-- is due again. Only the attempt that handed it over may say how that ended, also later.
UPDATE analytics.report_deliveries
SET state = $4, server_answer = $5,
    due_at = CASE WHEN $4 = 'deferred' THEN now() + make_interval(secs => $6::double precision)
                  ELSE due_at END,
    settled_at = CASE WHEN $4 = 'deferred' THEN NULL ELSE now() END
WHERE tenant_id = $1 AND delivery_id = $2 AND token = $3 AND state IN ('sending', 'ambiguous')
    AND NOT (state = 'ambiguous' AND $4 NOT IN ('sent', 'bounced'))
RETURNING lower(address) AS address;

-- name: refuse
-- Refused before it was handed over. $1 tenant, $2 delivery, $3 state, $4 what the server said, $5
-- seconds until it is due again.
UPDATE analytics.report_deliveries
SET state = $3, server_answer = $4, attempts = attempts + 1,
    due_at = CASE WHEN $3 = 'deferred' THEN now() + make_interval(secs => $5::double precision)
                  ELSE due_at END,
    settled_at = CASE WHEN $3 = 'deferred' THEN NULL ELSE now() END
WHERE tenant_id = $1 AND delivery_id = $2 AND state IN ('queued', 'deferred')
RETURNING lower(address) AS address;

-- name: delivery
SELECT * FROM analytics.report_deliveries WHERE tenant_id = $1 AND delivery_id = $2;

-- name: delivery_by_message
SELECT * FROM analytics.report_deliveries WHERE tenant_id = $1 AND message_id = $2;

-- name: bounced_later
-- A report of non-delivery came. $1 tenant, $2 message id, $3 what it said. No row: known already.
UPDATE analytics.report_deliveries
SET state = 'bounced', server_answer = $3, settled_at = now()
WHERE tenant_id = $1 AND message_id = $2 AND state IN ('sent', 'sending', 'ambiguous')
RETURNING delivery_id, lower(address) AS address;

-- name: deliveries
-- $1 tenant, $2 delivery of the row before or NULL, $3 how many, $4 only of this run or NULL, $5 only
-- in this state or NULL. Newest first.
SELECT * FROM analytics.report_deliveries
WHERE tenant_id = $1 AND ($2::uuid IS NULL OR delivery_id < $2)
    AND ($4::uuid IS NULL OR run_id = $4) AND ($5::text IS NULL OR state = $5)
ORDER BY delivery_id DESC LIMIT $3;

-- name: history
SELECT step, state, attempts, server_answer, at FROM analytics.report_history
WHERE tenant_id = $1 AND delivery_id = $2 ORDER BY step;

-- name: person_decides
-- For this transaction: somebody has looked and says what becomes of an unsettled mail.
SELECT set_config('troupe.person_decides', 'yes', true);

-- name: send_again
-- $1 tenant, $2 delivery. A person says so.
UPDATE analytics.report_deliveries
SET state = 'queued', due_at = now(), settled_at = NULL, token = NULL
WHERE tenant_id = $1 AND delivery_id = $2 AND state IN ('ambiguous', 'failed')
RETURNING run_id;

-- name: take_as_sent
UPDATE analytics.report_deliveries SET state = 'sent', settled_at = now()
WHERE tenant_id = $1 AND delivery_id = $2 AND state = 'ambiguous' RETURNING run_id;

-- name: forget_problem
-- $1 tenant, $2 run. What owners were told of is settled, once nothing of the run is left to decide.
UPDATE analytics.report_runs r SET problem = NULL
WHERE r.tenant_id = $1 AND r.run_id = $2 AND r.state = 'done' AND NOT r.notice AND NOT EXISTS (
    SELECT FROM analytics.report_deliveries d
    WHERE d.tenant_id = $1 AND d.run_id = $2 AND d.state IN ('ambiguous', 'failed'));

-- name: reopen_run
UPDATE analytics.report_runs SET state = 'sending', finished_at = NULL, problem = NULL
WHERE tenant_id = $1 AND run_id = $2;

-- name: freshness
-- $1 tenant, $2 first day, $3 last day, $4 zone that the export's days are counted in, or NULL: the
-- reporting zone. Whether every day of the export that these days touch is here as the source has it.
-- Days before the first one known are not waited for, and a day without a table had no events once
-- such a table can no longer come ($5 seconds after its end).
WITH told AS (
    SELECT t.reporting_time_zone AS zone, coalesce($4, t.reporting_time_zone) AS property,
           v.data_until,
           (SELECT min(source_day) FROM data.source_days WHERE tenant_id = $1) AS first_known
    FROM platform.tenants t LEFT JOIN data.versions v USING (tenant_id)
    WHERE t.tenant_id = $1
), touched AS (
    SELECT c.day, (c.day + 1)::timestamp AT TIME ZONE told.property AS ends_at
    FROM told, LATERAL (
        SELECT $2::date - 1 + n AS day FROM generate_series(0, $3::date - $2::date + 2) AS n
    ) AS c
    WHERE c.day >= told.first_known
        AND c.day::timestamp AT TIME ZONE told.property
            < ($3::date + 1)::timestamp AT TIME ZONE told.zone
        AND (c.day + 1)::timestamp AT TIME ZONE told.property > $2::timestamp AT TIME ZONE told.zone
)
SELECT told.data_until,
       coalesce(told.data_until >= $3, false) AND NOT EXISTS (
           SELECT FROM touched
           LEFT JOIN data.source_days d ON d.tenant_id = $1 AND d.source_day = touched.day
           WHERE CASE d.state
                 WHEN 'loaded' THEN d.family <> 'daily' AND d.source_modified < touched.ends_at
                 WHEN 'missing' THEN touched.ends_at > now() - make_interval(secs => $5)
                 ELSE true END) AS complete
FROM told;

-- name: owners
-- Owners of the transaction's tenant, with an address.
SELECT email, name FROM auth.list_members(NULL, 1000)
WHERE role = 'owner' AND email IS NOT NULL AND email <> '';

-- name: member_address
-- $1 user. The verified or unverified address of a member of the transaction's tenant.
SELECT email, name FROM auth.list_members(NULL, 1001) WHERE user_id = $1;

-- name: append_audit
-- $1 kind of actor, $2 actor, $3 action, $4 target, $5 detail; for the transaction's tenant.
SELECT auth.append_audit($1, $2, $3, $4, $5);

-- name: unsubscribe_secret
-- $1 tenant, $2 recipient.
SELECT r.secret, r.address, t.name AS tenant_name, r.language
FROM analytics.report_recipients r JOIN platform.tenants t USING (tenant_id)
WHERE r.tenant_id = $1 AND r.recipient_id = $2;

-- name: give_up
-- $1 tenant, $2 run, $3 why. What is left of a run whose mail server cannot be used for days.
UPDATE analytics.report_deliveries SET state = 'failed', settled_at = now(), server_answer = $3
WHERE tenant_id = $1 AND run_id = $2 AND state IN ('queued', 'deferred');

-- name: other_tests
-- $1 tenant, $2 requester. Runs of the last hour that somebody sent by hand.
SELECT count(*) FROM analytics.report_runs
WHERE tenant_id = $1 AND requested_by = $2 AND report_id IS NULL
    AND created_at > now() - interval '1 hour';
