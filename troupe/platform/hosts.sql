-- The supervisors that share a database. What is behind these functions stands in migration
-- 0008_hosts.sql; all times are the database's.

-- name: register
-- $1 name, $2 holder, $3 site, $4 machine, $5 pid, $6 version, $7 lease in seconds, $8 key ids,
-- $9 groups. No row: the name is ours; else who has it.
SELECT machine, pid, heartbeat_at, seconds_left
FROM platform.register_host($1, $2, $3, $4, $5, $6, $7, $8, $9)

-- name: beat
-- $1 name, $2 holder, $3 groups. Whether the name is still ours.
SELECT platform.beat_host($1, $2, $3)

-- name: stop
-- $1 name, $2 holder.
SELECT platform.stop_host($1, $2)

-- name: forget
-- $1 seconds.
SELECT platform.forget_hosts($1)

-- name: known
SELECT host, holder, machine, pid, version, state, key_ids, groups, started_at, age
FROM platform.known_hosts()
