-- Alerts and what they have told; run by alerts.py and alarms.py.

-- name: list_alerts
-- $1 tenant, $2 name and $3 id of the last one seen or NULL, $4 how many.
SELECT a.*, count(*) OVER () AS remaining FROM analytics.alerts a
WHERE a.tenant_id = $1 AND ($3::uuid IS NULL OR (a.name, a.alert_id) > ($2::text, $3))
ORDER BY a.name, a.alert_id
LIMIT $4

-- name: count_alerts
-- $1 tenant.
SELECT count(*) FROM analytics.alerts WHERE tenant_id = $1

-- name: one_alert
-- $1 tenant, $2 alert.
SELECT a.* FROM analytics.alerts a WHERE a.tenant_id = $1 AND a.alert_id = $2

-- name: lock_tenant
-- $1 tenant. Who adds alerts does so one after the other: how many there are is a matter of counting.
SELECT pg_advisory_xact_lock(hashtextextended('alerts ' || $1::uuid::text, 0))

-- name: add_alert
-- $1 tenant, $2 alert, then as it shall be.
INSERT INTO analytics.alerts (
    tenant_id, alert_id, name, kind, metric, location_id, threshold, least, emails, webhook_url,
    webhook_secret, enabled)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)

-- name: change_alert
-- $1 tenant, $2 alert, $3 the version that was read, then as it shall be; $11 says whether the secret
-- is another one. No row: another version.
UPDATE analytics.alerts
SET name = $4, metric = $5, location_id = $6, threshold = $7, least = $8, emails = $9,
    webhook_url = $10, webhook_secret = CASE WHEN $11 THEN $12 ELSE webhook_secret END,
    enabled = $13, version = version + 1, changed_at = now()
WHERE tenant_id = $1 AND alert_id = $2 AND version = $3
RETURNING version

-- name: delete_alert
-- $1 tenant, $2 alert.
DELETE FROM analytics.alerts WHERE tenant_id = $1 AND alert_id = $2 RETURNING kind

-- name: enabled_alerts
-- $1 tenant. Locked, so that of several instances one looks at each; the others skip it.
SELECT a.* FROM analytics.alerts a
WHERE a.tenant_id = $1 AND a.enabled
ORDER BY a.alert_id
FOR UPDATE SKIP LOCKED

-- name: troubled_days
-- $1 tenant, $2 from this source day on. Days whose rows could not be loaded.
SELECT d.source_day, d.state, d.problem FROM data.source_days d
WHERE d.tenant_id = $1 AND d.source_day >= $2 AND d.state IN ('failed', 'stale')
ORDER BY d.source_day

-- name: resolve
-- $1 tenant, $2 alert, $3 subjects that still hold.
UPDATE analytics.alarms SET resolved_at = now()
WHERE tenant_id = $1 AND alert_id = $2 AND resolved_at IS NULL AND subject <> ALL ($3::text[])

-- name: raise
-- $1 tenant, $2 alert, $3 subject, $4 facts. No row: it has been told already.
INSERT INTO analytics.alarms (tenant_id, alert_id, subject, facts)
VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant_id, alert_id, subject) WHERE resolved_at IS NULL DO NOTHING
RETURNING alarm_id

-- name: add_messages
-- $1 tenant, $2 alarm, $3 channels, $4 recipients.
INSERT INTO analytics.alarm_messages (tenant_id, alarm_id, channel, recipient)
SELECT $1, $2, m.channel, m.recipient FROM unnest($3::text[], $4::text[]) AS m (channel, recipient)

-- name: take_message
-- $1 tenant, $2 seconds until it may be tried again. One message that is due; it counts as an attempt
-- from now on, so that one whose sender dies is tried again later and not at once for ever.
-- Materialized: inside a join the choice would be made anew for each row, and take several.
WITH due AS MATERIALIZED (
    SELECT w.message_id FROM analytics.alarm_messages w
    WHERE w.tenant_id = $1 AND w.state = 'waiting' AND w.next_at <= now()
    ORDER BY w.next_at
    LIMIT 1
    FOR UPDATE SKIP LOCKED
)
UPDATE analytics.alarm_messages m
SET attempts = m.attempts + 1, next_at = now() + make_interval(secs => $2)
FROM due, analytics.alarms a, analytics.alerts r, platform.tenants t
WHERE m.tenant_id = $1 AND m.message_id = due.message_id
  AND a.tenant_id = $1 AND a.alarm_id = m.alarm_id
  AND r.tenant_id = $1 AND r.alert_id = a.alert_id AND t.tenant_id = $1
RETURNING m.message_id, m.channel, m.recipient, m.attempts, a.alarm_id, a.subject, a.facts, a.raised_at,
          r.alert_id, r.name, r.kind, r.webhook_secret, r.webhook_url, t.name AS tenant_name

-- name: note_sent
-- $1 tenant, $2 message.
UPDATE analytics.alarm_messages SET state = 'sent', sent_at = now(), problem = NULL
WHERE tenant_id = $1 AND message_id = $2

-- name: note_failed
-- $1 tenant, $2 message, $3 why, $4 seconds until the next attempt, or NULL: it is given up.
UPDATE analytics.alarm_messages
SET problem = $3, state = CASE WHEN $4::float8 IS NULL THEN 'failed' ELSE 'waiting' END,
    next_at = now() + make_interval(secs => coalesce($4, 0))
WHERE tenant_id = $1 AND message_id = $2

-- name: list_alarms
-- $1 tenant, $2 alert, $3 instant and $4 id of the last one seen or NULL, $5 how many. Latest first,
-- each with its messages.
SELECT a.alarm_id, a.subject, a.raised_at, a.resolved_at, a.facts, m.messages
FROM analytics.alarms a
CROSS JOIN LATERAL (
    SELECT coalesce(jsonb_agg(jsonb_build_object(
               'channel', w.channel, 'recipient', w.recipient, 'state', w.state, 'attempts',
               w.attempts, 'problem', w.problem) ORDER BY w.channel, w.recipient), '[]') AS messages
    FROM analytics.alarm_messages w
    WHERE w.tenant_id = $1 AND w.alarm_id = a.alarm_id
) AS m
WHERE a.tenant_id = $1 AND a.alert_id = $2
  AND ($4::uuid IS NULL OR (a.raised_at, a.alarm_id) < ($3::timestamptz, $4))
ORDER BY a.raised_at DESC, a.alarm_id DESC
LIMIT $5

-- name: count_trials
-- $1 tenant. Tests of the last hour, and the seconds until the oldest of them is an hour old.
SELECT count(*) AS trials,
       coalesce(extract(epoch FROM min(raised_at) + interval '1 hour' - now()), 0)::float8 AS wait
FROM analytics.alarms
WHERE tenant_id = $1 AND raised_at > now() - interval '1 hour' AND facts ? 'trial'

-- name: add_trial
-- $1 tenant, $2 alert. An alarm about nothing: resolved at once, so that it stands in no real one's way.
INSERT INTO analytics.alarms (tenant_id, alert_id, subject, facts, resolved_at)
VALUES ($1, $2, 'trial ' || gen_random_uuid(), '{"trial": true}', now())
RETURNING alarm_id

-- name: add_taken_messages
-- $1 tenant, $2 alarm, $3 channels, $4 recipients, $5 seconds for which they are nobody else's: whoever
-- writes them sends them.
INSERT INTO analytics.alarm_messages (tenant_id, alarm_id, channel, recipient, attempts, next_at)
SELECT $1, $2, m.channel, m.recipient, 1, now() + make_interval(secs => $5)
FROM unnest($3::text[], $4::text[]) AS m (channel, recipient)

-- name: messages_of
-- $1 tenant, $2 alarm. As `take_message` gives them.
SELECT m.message_id, m.channel, m.recipient, m.attempts, a.alarm_id, a.subject, a.facts, a.raised_at,
       r.alert_id, r.name, r.kind, r.webhook_secret, r.webhook_url, t.name AS tenant_name
FROM analytics.alarm_messages m
JOIN analytics.alarms a ON a.tenant_id = $1 AND a.alarm_id = m.alarm_id
JOIN analytics.alerts r ON r.tenant_id = $1 AND r.alert_id = a.alert_id
JOIN platform.tenants t ON t.tenant_id = $1
WHERE m.tenant_id = $1 AND m.alarm_id = $2

-- name: one_alarm
-- $1 tenant, $2 alarm. As `list_alarms` gives them.
SELECT a.alarm_id, a.subject, a.raised_at, a.resolved_at, a.facts, m.messages
FROM analytics.alarms a
CROSS JOIN LATERAL (
    SELECT coalesce(jsonb_agg(jsonb_build_object(
               'channel', w.channel, 'recipient', w.recipient, 'state', w.state, 'attempts',
               w.attempts, 'problem', w.problem) ORDER BY w.channel, w.recipient), '[]') AS messages
    FROM analytics.alarm_messages w
    WHERE w.tenant_id = $1 AND w.alarm_id = a.alarm_id
) AS m
WHERE a.tenant_id = $1 AND a.alarm_id = $2
