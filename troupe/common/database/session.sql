-- What is sent around every unit of work, in the simple query protocol: several statements, one
-- round trip, no parameters. {braces} are filled by _session.py with values of its own making: a
-- UUID or nothing, and whole numbers.

-- name: after_begin
-- Sent behind BEGIN. SET LOCAL costs 2 µs where SELECT set_config(…) costs 16.
-- The server's own limits are a backstop for when we are gone and cannot cancel any more.
SET LOCAL troupe.tenant_id = '{tenant}';
SET LOCAL statement_timeout = {milliseconds};
SET LOCAL idle_in_transaction_session_timeout = {milliseconds};

-- name: transaction_limit
-- Sent behind that, if the server knows it (PostgreSQL 17). Between the messages of one statement (it
-- was prepared, and its values never came, since we were cut off) a session is neither idle nor
-- running: only this ends it, and with it what others wait for. It leaves a commit its time.
SET LOCAL transaction_timeout = {milliseconds};

-- name: custom_plans
-- Sent behind that where a unit asks for it: its statements are planned for the values of each
-- execution, as no plan made for any values can leave out what a value rules out.
SET LOCAL plan_cache_mode = force_custom_plan;

-- name: before_commit
-- Sent in front of COMMIT: deferred constraints are checked while the tenant is still set, then
-- everything that would outlive the transaction is undone. If any of it fails, nothing is committed.
SET CONSTRAINTS ALL IMMEDIATE;
SELECT pg_advisory_unlock_all();
CLOSE ALL;
UNLISTEN *;
DISCARD TEMP;
DISCARD SEQUENCES;
RESET SESSION AUTHORIZATION;
RESET ALL;

-- name: not_durable
-- Sent behind that, still in front of COMMIT, which then does not wait for the disk. Said earlier it
-- would have been undone.
SET LOCAL synchronous_commit = off;

-- name: after_rollback
-- Sent behind ROLLBACK: what survives even that.
SELECT pg_advisory_unlock_all();
CLOSE ALL;
UNLISTEN *;
DISCARD TEMP;
DISCARD SEQUENCES;
RESET SESSION AUTHORIZATION;
RESET ALL;

-- name: probe
-- Whether a listening connection is alive.
SELECT 1;
