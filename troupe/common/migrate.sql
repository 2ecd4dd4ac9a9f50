-- The ledger of applied migrations, and what surrounds one of them.

-- name: become_owner
-- The role of database.url on a server of the operator's own may be another than the owner.
SET LOCAL ROLE troupe_owner

-- name: has_ledger
-- Whether the ledger exists.
SELECT to_regclass('platform.migrations') IS NOT NULL

-- name: make_ledger
-- One row per applied file. Only the runner writes it; nobody else may read it.
CREATE SCHEMA IF NOT EXISTS platform;
CREATE TABLE IF NOT EXISTS platform.migrations (
    number      integer NOT NULL CHECK (number BETWEEN 1 AND 9999),
    phase       text NOT NULL CHECK (phase IN ('before', 'after')),
    name        text NOT NULL,
    sha256      text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    applied_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (number, phase)
)

-- name: set_timeouts
-- For the rest of the transaction; $1 lock timeout, $2 statement timeout, in milliseconds.
SELECT set_config('lock_timeout', $1::text, true), set_config('statement_timeout', $2::text, true)

-- name: take_turn
-- One runner at a time, across supervisors. Released with the transaction, so it also works through
-- a transaction pooler.
SELECT pg_advisory_xact_lock(hashtextextended('troupe.migrations', 0))

-- name: ledger
-- What has been applied, in order.
SELECT number, phase, name, sha256 FROM platform.migrations ORDER BY number, phase DESC

-- name: record
-- Written in the transaction of the migration itself.
INSERT INTO platform.migrations (number, phase, name, sha256) VALUES ($1, $2, $3, $4)

-- name: transaction
-- To notice a file that ends the transaction it runs in.
SELECT pg_current_xact_id()::text
