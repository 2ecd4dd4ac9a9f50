-- Sessions follow the master data: whose branch is the customer's moves along with the customer.

-- name: open_session_bench
SELECT data.open_session_bench()

-- name: note_moved_sessions
-- $1 tenant. Sessions in which no event names a branch, and whose customer belongs to another one by
-- now.
INSERT INTO pg_temp.changed_sessions (stream_id, user_pseudo_id, ga_session_id)
SELECT s.stream_id, s.user_pseudo_id, s.ga_session_id
FROM data.sessions s
LEFT JOIN data.customers by_erp
  ON by_erp.tenant_id = $1 AND by_erp.customer_id = s.erp_customer_id
LEFT JOIN data.customers by_login
  ON by_login.tenant_id = $1 AND by_login.customer_id = s.customer_id
WHERE s.tenant_id = $1 AND s.own_location_id = ''
  AND (s.erp_customer_id IS NOT NULL OR s.customer_id IS NOT NULL)
  AND s.location_id <> coalesce(by_erp.location_id, by_login.location_id, '')

-- name: move_sessions
-- $1 tenant. How many sessions have moved.
WITH moved AS (
    UPDATE data.sessions s
    SET location_id = coalesce(
        (SELECT c.location_id FROM data.customers c
         WHERE c.tenant_id = $1 AND c.customer_id = s.erp_customer_id),
        (SELECT c.location_id FROM data.customers c
         WHERE c.tenant_id = $1 AND c.customer_id = s.customer_id),
        '')
    FROM pg_temp.changed_sessions m
    WHERE s.tenant_id = $1 AND s.user_pseudo_id = m.user_pseudo_id
      AND s.ga_session_id = m.ga_session_id AND s.stream_id = m.stream_id
    RETURNING s.day, s.last_day
), days AS (
    INSERT INTO pg_temp.changed_days (day)
    SELECT DISTINCT generate_series(m.day, m.last_day, interval '1 day')::date FROM moved m
)
SELECT count(*) FROM moved
