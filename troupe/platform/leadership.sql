-- Terms of leadership. What is behind these functions stands in migration 0007_schedules.sql; all
-- times are the database's.

-- name: take
-- $1 name, $2 holder, $3 seconds, $4 host, $5 process (both only shown to people). The new term, or
-- NULL and the seconds that the present one still lasts (NULL: somebody is just taking it).
SELECT term, seconds_left FROM platform.take_term($1, $2, $3, $4, $5)

-- name: extend
-- $1 name, $2 term, $3 holder, $4 seconds. Whether the term was still in force.
SELECT platform.extend_term($1, $2, $3, $4)

-- name: release
-- $1 name, $2 term, $3 holder.
SELECT platform.release_term($1, $2, $3)

-- name: hold
-- $1 name, $2 term, $3 holder. Whether the term is in force; if so, it is until the transaction ends.
SELECT platform.hold_term($1, $2, $3)
